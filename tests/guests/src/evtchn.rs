//! Event channels: binding, sending, masking, closing, and both ABIs. Needs two vCPUs.

use crate::suite::{Outcome, Suite, a_while, check, check_eq, check_errno, soon, start_vcpu};
use alloc::vec::Vec;
use hypercall_abi::event_channel::{
    EVTCHNSTAT_CLOSED, EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_IPI, EVTCHNSTAT_UNBOUND, EVTCHNSTAT_VIRQ,
};
use hypercall_abi::hypercall::EVENT_CHANNEL_OP;
use hypercall_abi::ids::{DOMID_SELF, NR_VIRQS, VIRQ_DOM_EXC, VIRQ_TIMER};
use pv_guest_lib::event::{self, fifo};
use pv_guest_lib::hypercall::{HypercallError, event_channel as ops, raw, result};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::{cpu, shared_info};

const NO_DOMAIN: u16 = 0x7000;
/// Highest port of the FIFO ABI, and beyond what Dom0 may have.
const NO_PORT: u32 = 0x1_ffff;

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("the shared page is mapped", || Ok(shared_info::map()?));
    suite.test("vcpu_info moves to its own place", vcpu_info_moves);
    event::enable_upcall();
    suite.test("a port is allocated for the own domain", allocate);
    suite.test("ports are refused for domains that are not there", no_such_domain);
    suite.test("two ports of one domain are connected", connect);
    suite.test("a send arrives by the interrupt", send_arrives);
    suite.test("a send to nobody is dropped", send_to_nobody);
    suite.test("a masked port stays quiet until unmasked", mask_and_unmask);
    suite.test("an event waits while interrupts are kept out", waits_for_interrupts);
    suite.test("closing one end leaves the other waiting", close_one_end);
    suite.test("closed and absurd ports are refused", bad_ports);
    suite.test("an IPI port notifies its own domain", ipi);
    suite.test("a virtual interrupt is bound once", virq);
    suite.test("a physical interrupt is not bound", pirq);
    suite.test("bad operations and addresses are refused", bad_calls);
    suite.test("two hundred ports work at once", many_ports);
    suite.test("the second vCPU takes events", || start_vcpu(1));
    suite.test("an IPI port reaches the other vCPU", ipi_to_the_other);
    suite.test("a port moves to another vCPU and back", bind_vcpu);
    suite.test("the FIFO ABI refuses bad control blocks", fifo_bad_control);
    switch_over(&mut suite);
    suite.test("a send arrives in the FIFO ABI", send_arrives);
    suite.test("a masked port stays quiet in the FIFO ABI", mask_and_unmask);
    suite.test("two hundred ports work in the FIFO ABI", many_ports);
    suite.test("a port moves between vCPUs in the FIFO ABI", bind_vcpu);
    suite.test("priorities order the queues", priorities);
    suite.test("bad priorities and arrays are refused", fifo_bad_calls);
    suite.finish();
}

fn vcpu_info_moves() -> Outcome {
    shared_info::register_vcpu()?;
    check_errno!(shared_info::register_vcpu(), EBUSY);
    Ok(())
}

fn allocate() -> Outcome {
    let port = ops::alloc_unbound(DOMID_SELF, DOMID_SELF)?;
    check!(port != 0);
    let status = ops::status(DOMID_SELF, port)?;
    check_eq!(status.status, EVTCHNSTAT_UNBOUND);
    check_eq!(status.value & 0xffff, 0);
    check_eq!(status.vcpu, 0);
    let next = ops::alloc_unbound(0, 0)?;
    check!(next != port);
    ops::close(port)?;
    check_eq!(ops::status(DOMID_SELF, port)?.status, EVTCHNSTAT_CLOSED);
    let again = ops::alloc_unbound(DOMID_SELF, 0)?;
    check_eq!(again, port);
    ops::close(again)?;
    ops::close(next)?;
    Ok(())
}

fn no_such_domain() -> Outcome {
    check_errno!(ops::alloc_unbound(NO_DOMAIN, 0), ESRCH);
    check_errno!(ops::bind_interdomain(NO_DOMAIN, 1), ESRCH);
    check_errno!(ops::status(NO_DOMAIN, 1), ESRCH);
    check_errno!(ops::reset(NO_DOMAIN), ESRCH);
    Ok(())
}

/// Connects two fresh ports; the first is unmasked for whoever listens.
fn pair() -> Result<(u32, u32), HypercallError> {
    let waiting = ops::alloc_unbound(DOMID_SELF, DOMID_SELF)?;
    let bound = ops::bind_interdomain(DOMID_SELF, waiting)?;
    ops::unmask(waiting)?;
    ops::unmask(bound)?;
    Ok((waiting, bound))
}

fn close_both((waiting, bound): (u32, u32)) -> Result<(), HypercallError> {
    ops::close(bound)?;
    ops::close(waiting)
}

fn connect() -> Outcome {
    let waiting = ops::alloc_unbound(DOMID_SELF, DOMID_SELF)?;
    event::disable_upcall();
    let bound = ops::bind_interdomain(0, waiting)?;
    // The new port is signalled at once, so that nothing sent earlier is lost.
    let pending = event::is_pending(bound);
    event::clear(bound);
    event::enable_upcall();
    check!(pending, "the new port is not pending");
    let status = ops::status(DOMID_SELF, bound)?;
    check_eq!(status.status, EVTCHNSTAT_INTERDOMAIN);
    check_eq!((status.value & 0xffff, status.remote_port), (0, waiting));
    let status = ops::status(0, waiting)?;
    check_eq!(status.status, EVTCHNSTAT_INTERDOMAIN);
    check_eq!((status.value & 0xffff, status.remote_port), (0, bound));
    check_errno!(ops::bind_interdomain(0, waiting), EINVAL);
    close_both((waiting, bound))?;
    Ok(())
}

fn send_arrives() -> Outcome {
    let (waiting, bound) = pair()?;
    for _ in 0..3 {
        let before = (event::taken(waiting), event::taken(bound));
        ops::send(bound)?;
        check!(soon(|| event::taken(waiting) == before.0 + 1), "no event on {waiting}");
        ops::send(waiting)?;
        check!(soon(|| event::taken(bound) == before.1 + 1), "no event on {bound}");
    }
    check_eq!(event::last_cpu(waiting), 0);
    close_both((waiting, bound))?;
    Ok(())
}

fn send_to_nobody() -> Outcome {
    let port = ops::alloc_unbound(DOMID_SELF, DOMID_SELF)?;
    ops::send(port)?;
    check!(!event::is_pending(port));
    ops::close(port)?;
    Ok(())
}

fn mask_and_unmask() -> Outcome {
    let (waiting, bound) = pair()?;
    event::mask(waiting);
    let before = event::taken(waiting);
    ops::send(bound)?;
    ops::send(bound)?;
    a_while();
    check_eq!(event::taken(waiting), before);
    check!(event::is_pending(waiting));
    ops::unmask(waiting)?;
    check!(soon(|| event::taken(waiting) == before + 1), "unmasking did not deliver");
    check!(!event::is_masked(waiting));
    ops::unmask(waiting)?;
    a_while();
    check_eq!(event::taken(waiting), before + 1);
    close_both((waiting, bound))?;
    Ok(())
}

fn waits_for_interrupts() -> Outcome {
    let (waiting, bound) = pair()?;
    let before = event::taken(waiting);
    let during = cpu::without_interrupts(|| {
        ops::send(bound)?;
        a_while();
        Ok::<_, HypercallError>((event::taken(waiting), event::is_pending(waiting)))
    })?;
    check_eq!(during, (before, true));
    check!(soon(|| event::taken(waiting) == before + 1));
    close_both((waiting, bound))?;
    Ok(())
}

fn close_one_end() -> Outcome {
    let (waiting, bound) = pair()?;
    ops::close(bound)?;
    let status = ops::status(DOMID_SELF, waiting)?;
    check_eq!(status.status, EVTCHNSTAT_UNBOUND);
    check_eq!(status.value & 0xffff, 0);
    let again = ops::bind_interdomain(DOMID_SELF, waiting)?;
    ops::close(waiting)?;
    check_eq!(ops::status(DOMID_SELF, again)?.status, EVTCHNSTAT_UNBOUND);
    ops::close(again)?;
    Ok(())
}

fn bad_ports() -> Outcome {
    let closed = ops::alloc_unbound(DOMID_SELF, DOMID_SELF)?;
    ops::close(closed)?;
    for port in [closed, 0, NO_PORT, 0x2_0000, u32::MAX] {
        check_errno!(ops::send(port), EINVAL);
        check_errno!(ops::close(port), EINVAL);
        check_errno!(ops::bind_vcpu(port, 0), EINVAL);
        check_errno!(ops::bind_interdomain(0, port), EINVAL);
    }
    for port in [NO_PORT, 0x2_0000, u32::MAX] {
        check_errno!(ops::unmask(port), EINVAL);
        check_errno!(ops::status(0, port), EINVAL);
    }
    Ok(())
}

fn ipi() -> Outcome {
    let port = ops::bind_ipi(0)?;
    ops::unmask(port)?;
    let status = ops::status(DOMID_SELF, port)?;
    check_eq!((status.status, status.vcpu), (EVTCHNSTAT_IPI, 0));
    let before = event::taken(port);
    ops::send(port)?;
    check!(soon(|| event::taken(port) == before + 1));
    check_errno!(ops::bind_vcpu(port, 0), EINVAL);
    check_errno!(ops::bind_ipi(2), ENOENT);
    check_errno!(ops::bind_ipi(u32::MAX), ENOENT);
    ops::close(port)?;
    Ok(())
}

fn virq() -> Outcome {
    let timer = ops::bind_virq(VIRQ_TIMER, 0)?;
    let status = ops::status(DOMID_SELF, timer)?;
    check_eq!((status.status, status.value), (EVTCHNSTAT_VIRQ, VIRQ_TIMER));
    check_errno!(ops::bind_virq(VIRQ_TIMER, 0), EEXIST);
    check_errno!(ops::send(timer), EINVAL);
    check_errno!(ops::bind_virq(VIRQ_TIMER, 2), ENOENT);
    check_errno!(ops::bind_virq(NR_VIRQS, 0), EINVAL);
    check_errno!(ops::bind_virq(u32::MAX, 0), EINVAL);
    check_errno!(ops::bind_virq(VIRQ_DOM_EXC, 1), EINVAL);
    check_errno!(ops::bind_vcpu(timer, 0), EINVAL);
    let global = ops::bind_virq(VIRQ_DOM_EXC, 0)?;
    check_errno!(ops::bind_virq(VIRQ_DOM_EXC, 0), EEXIST);
    ops::bind_vcpu(global, 1)?;
    check_eq!(ops::status(DOMID_SELF, global)?.vcpu, 1);
    ops::close(global)?;
    ops::close(timer)?;
    let again = ops::bind_virq(VIRQ_TIMER, 0)?;
    ops::close(again)?;
    Ok(())
}

fn pirq() -> Outcome {
    check!(ops::bind_pirq(33).is_err());
    Ok(())
}

fn bad_calls() -> Outcome {
    // SAFETY: the operation does not exist.
    check_errno!(result(unsafe { raw(EVENT_CHANNEL_OP, [99, 0, 0, 0, 0]) }), ENOSYS);
    for operation in [0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13] {
        for address in [0x3f_0000_0000, 0x8000_0000_0000_0000, u64::MAX - 1] {
            // SAFETY: there is no memory at these addresses.
            let answer = result(unsafe { raw(EVENT_CHANNEL_OP, [operation, address, 0, 0, 0]) });
            check_errno!(answer, EFAULT);
        }
    }
    Ok(())
}

fn many_ports() -> Outcome {
    let mut pairs = Vec::new();
    for _ in 0..100 {
        pairs.push(pair()?);
    }
    check!(soon(|| pairs.iter().all(|(_, bound)| !event::is_pending(*bound))));
    let before: Vec<u32> = pairs.iter().map(|(waiting, _)| event::taken(*waiting)).collect();
    cpu::without_interrupts(|| pairs.iter().try_for_each(|(_, bound)| ops::send(*bound)))?;
    let all = || {
        let mut both = pairs.iter().zip(&before);
        both.all(|((waiting, _), before)| event::taken(*waiting) == before + 1)
    };
    check!(soon(all), "some events did not arrive");
    for both in pairs {
        close_both(both)?;
    }
    Ok(())
}

fn ipi_to_the_other() -> Outcome {
    let port = ops::bind_ipi(1)?;
    ops::unmask(port)?;
    let before = event::taken(port);
    for round in 1..=20 {
        ops::send(port)?;
        check!(soon(|| event::taken(port) == before + round), "event {round} did not arrive");
        check_eq!(event::last_cpu(port), 1);
    }
    ops::close(port)?;
    Ok(())
}

fn bind_vcpu() -> Outcome {
    let (waiting, bound) = pair()?;
    for vcpu in [1, 0, 1, 0] {
        ops::bind_vcpu(waiting, vcpu)?;
        check_eq!(ops::status(DOMID_SELF, waiting)?.vcpu, vcpu);
        let before = event::taken(waiting);
        ops::send(bound)?;
        check!(soon(|| event::taken(waiting) == before + 1));
        check_eq!(event::last_cpu(waiting), vcpu);
    }
    check_errno!(ops::bind_vcpu(waiting, 2), ENOENT);
    check_errno!(ops::bind_vcpu(waiting, u32::MAX), ENOENT);
    close_both((waiting, bound))?;
    Ok(())
}

fn fifo_bad_control() -> Outcome {
    let page = SharedPage::allocate();
    check_errno!(ops::expand_array(page.frame()), EOPNOTSUPP);
    check_errno!(ops::set_priority(1, 3), ENOSYS);
    check_errno!(ops::init_control(2, page.frame(), 0), ENOENT);
    check_errno!(ops::init_control(0, page.frame(), 4096 - 64), EINVAL);
    check_errno!(ops::init_control(0, page.frame(), 4), EINVAL);
    check_errno!(ops::init_control(0, u64::MAX >> 12, 0), EINVAL);
    Ok(())
}

/// Switches to the FIFO ABI with one event pending and masked, and one port bound; both must live on.
fn switch_over(suite: &mut Suite) {
    let ports = pair().and_then(|first| Ok((first, pair()?)));
    suite.test("ports are there before the switch-over", || Ok(ports.map(drop)?));
    let Ok((first, second)) = ports else { return };
    suite.test("an event is pending before the switch-over", || {
        event::mask(first.0);
        ops::send(first.1)?;
        check!(event::is_pending(first.0));
        Ok(())
    });
    suite.test("the switch-over succeeds", || {
        fifo::init_control(0)?;
        fifo::init_control(1)?;
        fifo::expand_array()?;
        check_errno!(ops::init_control(0, SharedPage::allocate().frame(), 0), EINVAL);
        Ok(())
    });
    suite.test("what was pending before the switch-over arrives after it", || {
        // The array's words start masked here, as this side made them.
        let before = event::taken(first.0);
        for port in [first.0, first.1, second.0, second.1] {
            ops::unmask(port)?;
        }
        check!(soon(|| event::taken(first.0) == before + 1), "the event was lost");
        Ok(())
    });
    suite.test("ports bound before the switch-over work after it", || {
        let before = event::taken(second.0);
        ops::send(second.1)?;
        check!(soon(|| event::taken(second.0) == before + 1));
        close_both(first)?;
        close_both(second)?;
        Ok(())
    });
}

fn priorities() -> Outcome {
    use core::sync::atomic::Ordering;
    let low = pair()?;
    let high = pair()?;
    check!(soon(|| !event::is_pending(low.1) && !event::is_pending(high.1)));
    ops::set_priority(low.0, 12)?;
    ops::set_priority(high.0, 2)?;
    let mut ready = 0;
    let before = (event::taken(low.0), event::taken(high.0));
    cpu::without_interrupts(|| {
        ops::send(low.1)?;
        ops::send(high.1)?;
        ready = fifo::control(0).map_or(0, |word| word.load(Ordering::SeqCst));
        Ok::<_, HypercallError>(())
    })?;
    check_eq!(ready, 1 << 12 | 1 << 2);
    check!(soon(|| event::taken(low.0) == before.0 + 1 && event::taken(high.0) == before.1 + 1));
    close_both(low)?;
    close_both(high)?;
    Ok(())
}

fn fifo_bad_calls() -> Outcome {
    let (waiting, bound) = pair()?;
    check_errno!(ops::set_priority(waiting, 16), EINVAL);
    check_errno!(ops::set_priority(waiting, u32::MAX), EINVAL);
    check_errno!(ops::set_priority(NO_PORT, 3), EINVAL);
    check_errno!(ops::expand_array(u64::MAX >> 12), EINVAL);
    close_both((waiting, bound))?;
    Ok(())
}
