//! Event channels as guests reach them: bad pointers, bad numbers, and what is taken back.

use super::abi;
use crate::command_line::Options;
use crate::hypercall::Outcome;
use crate::testbed::{GUEST_RAM, REQUEST, Testbed};
use hv_core::addr::MachineAddr;
use hv_core::memory::FrameMemory;
use hypercall_abi::errno::Errno;
use hypercall_abi::event_channel::{
    EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindVcpu, EvtchnBindVirq,
    EvtchnClose, EvtchnExpandArray, EvtchnInitControl, EvtchnReset, EvtchnSend, EvtchnSetPriority,
    EvtchnStatus, EvtchnUnmask,
};
use hypercall_abi::hypercall::EVENT_CHANNEL_OP;
use zerocopy::{Immutable, IntoBytes};

const SELF: u16 = 0x7ff0;

fn op<T: IntoBytes + Immutable>(
    bed: &Testbed,
    domain: u16,
    command: u32,
    request: &T,
) -> Result<u64, Errno> {
    bed.op(domain, EVENT_CHANNEL_OP, command, request)
}

fn alloc(bed: &Testbed, caller: u16, dom: u16, remote: u16) -> Result<u32, Errno> {
    let request = EvtchnAllocUnbound { dom, remote_dom: remote, port: 0 };
    op(bed, caller, abi::EVTCHNOP_ALLOC_UNBOUND, &request)?;
    Ok(bed.reply::<EvtchnAllocUnbound>().port)
}

fn bind(bed: &Testbed, caller: u16, remote: u16, port: u32) -> Result<u32, Errno> {
    let request =
        EvtchnBindInterdomain { remote_dom: remote, remote_port: port, ..Default::default() };
    op(bed, caller, abi::EVTCHNOP_BIND_INTERDOMAIN, &request)?;
    Ok(bed.reply::<EvtchnBindInterdomain>().local_port)
}

fn status(bed: &Testbed, caller: u16, dom: u16, port: u32) -> Result<EvtchnStatus, Errno> {
    op(bed, caller, abi::EVTCHNOP_STATUS, &EvtchnStatus { dom, port, ..Default::default() })?;
    Ok(bed.reply())
}

fn send(bed: &Testbed, caller: u16, port: u32) -> Result<u64, Errno> {
    op(bed, caller, abi::EVTCHNOP_SEND, &EvtchnSend { port })
}

fn close(bed: &Testbed, caller: u16, port: u32) -> Result<u64, Errno> {
    op(bed, caller, abi::EVTCHNOP_CLOSE, &EvtchnClose { port })
}

fn pending(bed: &Testbed, domain: u16, port: u32) -> bool {
    let shared = bed.domain(domain).shared_info;
    let word = MachineAddr::new(shared.raw() + 48 + u64::from(port / 64) * 8);
    bed.memory().load_u64(word) >> (port % 64) & 1 != 0
}

#[test]
fn a_channel_is_made_used_and_closed() {
    let bed = Testbed::new();
    let front = alloc(&bed, 0, 1, 0).unwrap();
    assert_eq!(front, 1);
    assert_eq!(send(&bed, 1, front), Ok(0), "a send before anybody listens is silent");
    let back = bind(&bed, 0, 1, front).unwrap();
    assert!(pending(&bed, 0, back), "what was sent before is not lost");
    assert_eq!(status(&bed, 0, 1, front).unwrap().status, abi::EVTCHNSTAT_INTERDOMAIN);
    assert_eq!(send(&bed, 0, back), Ok(0));
    assert!(pending(&bed, 1, front));
    assert_eq!(close(&bed, 0, back), Ok(0));
    let left = status(&bed, 1, SELF, front).unwrap();
    assert_eq!((left.status, left.value), (abi::EVTCHNSTAT_UNBOUND, 0));
    assert_eq!(send(&bed, 0, back), Err(Errno::EINVAL));
}

#[test]
fn a_bad_pointer_is_efault_for_every_command() {
    let bed = Testbed::new();
    for command in (0..=14).filter(|command| *command != abi::EVTCHNOP_BIND_PIRQ) {
        for address in [0, u64::MAX, 1 << 40] {
            let outcome = bed.call(1, EVENT_CHANNEL_OP, [u64::from(command), address, 0, 0, 0]);
            assert_eq!(outcome, Outcome::Done(Err(Errno::EFAULT)), "command {command}");
        }
    }
    let outcome = bed.call(1, EVENT_CHANNEL_OP, [15, REQUEST, 0, 0, 0]);
    assert_eq!(outcome, Outcome::Done(Err(Errno::ENOSYS)));
}

#[test]
fn a_reply_that_cannot_be_written_takes_no_port() {
    let bed = Testbed::new();
    let front = alloc(&bed, 1, SELF, 0).unwrap();
    let unwritable = |command: u32, request: &[u8]| {
        bed.put(request);
        bed.write_protect(true);
        let outcome = bed.call(0, EVENT_CHANNEL_OP, [u64::from(command), REQUEST, 0, 0, 0]);
        bed.write_protect(false);
        assert_eq!(outcome, Outcome::Done(Err(Errno::EFAULT)));
        assert_eq!(bed.domain(0).ports.lock().open_ports(), 0, "command {command}");
    };
    let request = EvtchnAllocUnbound { dom: SELF, remote_dom: 1, port: 0 };
    unwritable(abi::EVTCHNOP_ALLOC_UNBOUND, request.as_bytes());
    let request = EvtchnBindInterdomain { remote_dom: 1, remote_port: front, ..Default::default() };
    unwritable(abi::EVTCHNOP_BIND_INTERDOMAIN, request.as_bytes());
    assert_eq!(status(&bed, 1, SELF, front).unwrap().status, abi::EVTCHNSTAT_UNBOUND);
    unwritable(
        abi::EVTCHNOP_BIND_VIRQ,
        EvtchnBindVirq { virq: 3, ..Default::default() }.as_bytes(),
    );
    unwritable(abi::EVTCHNOP_BIND_IPI, EvtchnBindIpi::default().as_bytes());
    assert!(bind(&bed, 0, 1, front).is_ok(), "the port still waits");
}

#[test]
fn a_guest_opens_ports_of_its_own_only_and_for_dom0_only() {
    let bed = Testbed::new();
    assert_eq!(alloc(&bed, 1, 2, 0), Err(Errno::EPERM));
    assert_eq!(alloc(&bed, 1, 9, 0), Err(Errno::ESRCH));
    assert_eq!(alloc(&bed, 1, SELF, 2), Err(Errno::EPERM));
    assert_eq!(alloc(&bed, 1, SELF, 9), Err(Errno::ESRCH));
    assert_eq!(alloc(&bed, 1, SELF, SELF), Ok(1));
    assert_eq!(alloc(&bed, 0, 1, 2), Ok(2), "Dom0 may bring two together");
    assert_eq!(bind(&bed, 2, 1, 2), Err(Errno::EPERM), "they may still not see each other");
    assert_eq!(status(&bed, 1, 2, 1).unwrap_err(), Errno::EINVAL);
    assert_eq!(status(&bed, 1, 0, 1).unwrap_err(), Errno::EINVAL);
    alloc(&bed, 0, SELF, 1).unwrap();
    assert_eq!(status(&bed, 1, 0, 1).unwrap_err(), Errno::EPERM);
}

#[test]
fn two_guests_share_a_channel_if_the_command_line_lets_them() {
    let bed = Testbed::with(Options { domains_may_share: true, ..Options::default() });
    let front = alloc(&bed, 1, SELF, 2).unwrap();
    assert_eq!(bind(&bed, 2, 1, front), Ok(1));
    assert_eq!(bind(&bed, 2, 1, front), Err(Errno::EINVAL), "it is bound already");
}

#[test]
fn a_domain_binds_to_itself() {
    let bed = Testbed::new();
    let first = alloc(&bed, 1, SELF, SELF).unwrap();
    let second = bind(&bed, 1, SELF, first).unwrap();
    assert_eq!(send(&bed, 1, second), Ok(0));
    assert!(pending(&bed, 1, first));
    assert_eq!(close(&bed, 1, first), Ok(0));
    assert_eq!(status(&bed, 1, SELF, second).unwrap().status, abi::EVTCHNSTAT_UNBOUND);
}

#[test]
fn virtual_interrupts_are_bound_once_and_global_ones_on_processor_0() {
    let bed = Testbed::new();
    let bind =
        |virq, vcpu| op(&bed, 0, abi::EVTCHNOP_BIND_VIRQ, &EvtchnBindVirq { virq, vcpu, port: 0 });
    assert_eq!(bind(3, 1), Err(Errno::EINVAL));
    assert_eq!(bind(3, 0), Ok(0));
    assert_eq!(bind(3, 0), Err(Errno::EEXIST));
    assert_eq!(bind(24, 0), Err(Errno::EINVAL));
    assert_eq!(bind(u32::MAX, 0), Err(Errno::EINVAL));
    assert_eq!(bind(0, 1), Ok(0));
    assert_eq!(bind(0, 0), Ok(0), "each processor has its own timer");
    assert_eq!(bind(0, 2), Err(Errno::ENOENT));
    assert_eq!(close(&bed, 0, 1), Ok(0));
    assert_eq!(bind(3, 0), Ok(0), "closing frees it");
}

#[test]
fn ports_of_the_wrong_kind_are_refused() {
    let bed = Testbed::new();
    op(&bed, 1, abi::EVTCHNOP_BIND_IPI, &EvtchnBindIpi { vcpu: 1, port: 0 }).unwrap();
    let to = |port, vcpu| op(&bed, 1, abi::EVTCHNOP_BIND_VCPU, &EvtchnBindVcpu { port, vcpu });
    assert_eq!(to(1, 1), Err(Errno::EINVAL), "an IPI stays where it is");
    assert_eq!(to(1, 2), Err(Errno::ENOENT));
    alloc(&bed, 1, SELF, 0).unwrap();
    assert_eq!(to(2, 1), Ok(0));
    assert_eq!(to(0, 1), Err(Errno::EINVAL));
    assert_eq!(close(&bed, 1, 0), Err(Errno::EINVAL));
    assert_eq!(close(&bed, 1, 5), Err(Errno::EINVAL));
    assert_eq!(close(&bed, 1, u32::MAX), Err(Errno::EINVAL));
    let unmask = |port| op(&bed, 1, abi::EVTCHNOP_UNMASK, &EvtchnUnmask { port });
    assert_eq!(unmask(2), Ok(0));
    assert_eq!(unmask(1 << 20), Err(Errno::EINVAL));
    let priority = EvtchnSetPriority { port: 2, priority: 1 };
    let outcome = op(&bed, 1, abi::EVTCHNOP_SET_PRIORITY, &priority);
    assert_eq!(outcome, Err(Errno::ENOSYS), "the 2-level ABI has none");
}

#[test]
fn the_fifo_abi_takes_pages_and_a_reset_gives_them_back() {
    let bed = Testbed::new();
    let gfn = GUEST_RAM.number();
    let expand = EvtchnExpandArray { array_gfn: gfn + 1 };
    let init = |control_gfn, offset, vcpu| {
        let request = EvtchnInitControl { control_gfn, offset, vcpu, ..Default::default() };
        op(&bed, 1, abi::EVTCHNOP_INIT_CONTROL, &request)
    };
    assert_eq!(op(&bed, 1, abi::EVTCHNOP_EXPAND_ARRAY, &expand), Err(Errno::EOPNOTSUPP));
    assert_eq!(init(gfn, 0, 2), Err(Errno::ENOENT));
    assert_eq!(init(gfn, 4, 0), Err(Errno::EINVAL));
    assert_eq!(init(gfn, 4096 - 64, 0), Err(Errno::EINVAL));
    assert_eq!(init(5, 0, 0), Err(Errno::EINVAL), "no page is there");
    assert_eq!(init(gfn, 4096 - 72, 0), Ok(0));
    assert_eq!(bed.reply::<EvtchnInitControl>().link_bits, 17);
    assert_eq!(init(gfn, 0, 0), Err(Errno::EINVAL), "it has one");
    assert_eq!(op(&bed, 1, abi::EVTCHNOP_EXPAND_ARRAY, &expand), Ok(0));
    let hole = EvtchnExpandArray { array_gfn: 5 };
    assert_eq!(op(&bed, 1, abi::EVTCHNOP_EXPAND_ARRAY, &hole), Err(Errno::EINVAL));
    let port = alloc(&bed, 1, SELF, SELF).unwrap();
    let other = bind(&bed, 1, SELF, port).unwrap();
    send(&bed, 1, other).unwrap();
    let words = bed.page(1, 1);
    assert_eq!(bed.memory().load_u32(MachineAddr::new(words.raw() + 4)) >> 31, 1);
    assert_eq!(op(&bed, 1, abi::EVTCHNOP_RESET, &EvtchnReset { dom: SELF }), Ok(0));
    assert_eq!(bed.domain(1).ports.lock().open_ports(), 0);
    assert_eq!(op(&bed, 1, abi::EVTCHNOP_EXPAND_ARRAY, &expand), Err(Errno::EOPNOTSUPP));
}

#[test]
fn a_reset_stops_for_an_interrupt_and_goes_on() {
    let bed = Testbed::new();
    for _ in 0..100 {
        alloc(&bed, 1, SELF, 0).unwrap();
    }
    bed.put(&EvtchnReset { dom: SELF });
    let reset = u64::from(abi::EVTCHNOP_RESET);
    let resume = u64::from(abi::EVTCHNOP_RESET_CONT);
    let outcome = bed.call(1, EVENT_CHANNEL_OP, [resume, REQUEST, 0, 0, 0]);
    assert_eq!(outcome, Outcome::Done(Err(Errno::EBUSY)), "none is going on");
    bed.interrupt(true);
    let outcome = bed.call(1, EVENT_CHANNEL_OP, [reset, REQUEST, 0, 0, 0]);
    assert_eq!(outcome, Outcome::Again([resume, REQUEST, 0, 0, 0]));
    assert_eq!(bed.domain(1).ports.lock().open_ports(), 36);
    let outcome = bed.call(1, EVENT_CHANNEL_OP, [reset, REQUEST, 0, 0, 0]);
    assert_eq!(outcome, Outcome::Done(Err(Errno::EBUSY)), "one is going on");
    let outcome = bed.call(1, EVENT_CHANNEL_OP, [resume, REQUEST, 0, 0, 0]);
    assert_eq!(outcome, Outcome::Done(Ok(0)));
    assert_eq!(bed.domain(1).ports.lock().open_ports(), 0);
    let others = op(&bed, 0, abi::EVTCHNOP_RESET, &EvtchnReset { dom: 1 });
    assert_eq!(others, Err(Errno::EINVAL), "domain 1 is not paused");
    let others = op(&bed, 1, abi::EVTCHNOP_RESET, &EvtchnReset { dom: 0 });
    assert_eq!(others, Err(Errno::EPERM));
}

#[test]
fn a_full_table_is_enospc() {
    let bed = Testbed::new();
    for _ in 0..1023 {
        alloc(&bed, 1, SELF, 0).unwrap();
    }
    assert_eq!(alloc(&bed, 1, SELF, 0), Err(Errno::ENOSPC));
    assert_eq!(op(&bed, 1, abi::EVTCHNOP_BIND_IPI, &EvtchnBindIpi::default()), Err(Errno::ENOSPC));
}
