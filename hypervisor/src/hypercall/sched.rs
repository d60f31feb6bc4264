//! `HYPERVISOR_sched_op` (`public/sched.h`).

use super::{Arguments, Caller, Outcome, word};
use crate::domain::WATCHDOGS;
use hv_core::evtchn::Poll;
use hv_core::guest::{GuestMemory, Handle};
use hv_core::lifecycle::ShutdownReason;
use hv_core::privilege;
use hv_core::time::Nanos;
use hv_core::timer_queue::{Timer, TimerKind};
use hypercall_abi::errno::Errno;
use hypercall_abi::sched::{
    self as abi, SchedPinOverride, SchedPoll, SchedRemoteShutdown, SchedShutdown, SchedWatchdog,
};

/// How many ports may be polled for at once; Xen has the same limit.
const MAX_POLLED: usize = 128;
const PORT_SIZE: usize = size_of::<u32>();
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Carries out the sub-operation in x0 with the structure x1 points to.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, argument, ..] = *arguments;
    match word(command) {
        abi::SCHEDOP_YIELD => {
            caller.hv.yield_now(caller.vcpu);
            Outcome::Done(Ok(0))
        }
        abi::SCHEDOP_BLOCK => {
            caller.hv.wait_for_interrupt(caller.domain, caller.vcpu);
            Outcome::Done(Ok(0))
        }
        abi::SCHEDOP_SHUTDOWN => shutdown(caller, argument).into(),
        abi::SCHEDOP_SHUTDOWN_CODE => shutdown_code(caller, argument).into(),
        abi::SCHEDOP_POLL => poll(caller, argument).into(),
        abi::SCHEDOP_REMOTE_SHUTDOWN => remote_shutdown(caller, argument).into(),
        abi::SCHEDOP_WATCHDOG => watchdog(caller, argument).into(),
        abi::SCHEDOP_PIN_OVERRIDE => pin_override(caller, argument).into(),
        _ => Errno::ENOSYS.into(),
    }
}

fn shutdown(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<SchedShutdown>::from_register(argument).load(caller.guest)?;
    caller.hv.shut_down(caller.domain, reason(request.reason));
    Ok(())
}

fn shutdown_code(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<SchedShutdown>::from_register(argument).load(caller.guest)?;
    caller.domain.life.lock().set_code(reason(request.reason));
    Ok(())
}

fn remote_shutdown(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<SchedRemoteShutdown>::from_register(argument).load(caller.guest)?;
    let target = caller.other(request.domain_id)?;
    privilege::control(caller.subject())?;
    caller.hv.shut_down(&target, reason(request.reason));
    Ok(())
}

/// A reason is a byte: the tools see no more of it.
const fn reason(number: u32) -> ShutdownReason {
    let [low, ..] = number.to_le_bytes();
    ShutdownReason(low)
}

fn poll(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<SchedPoll>::from_register(argument).load(caller.guest)?;
    let mut ports = [0; MAX_POLLED];
    let ports = ports.get_mut(..request.nr_ports as usize).ok_or(Errno::EINVAL)?;
    load_ports(caller, request.ports, ports)?;
    let (domain, vcpu) = (caller.domain, caller.vcpu.who.vcpu);
    let found = domain.ports.lock().poll(caller.memory(), vcpu, ports)?;
    match found {
        Poll::Ready => {}
        Poll::Wait => {
            if request.timeout != 0 {
                caller.hv.set_timer(caller.vcpu, TimerKind::Poll, Nanos(request.timeout));
            }
            // An event that came since then has ended the polling, and nobody will call again.
            caller.hv.block(caller.vcpu, || {
                !domain.ports.lock().is_polling(vcpu)
                    || caller.hv.has_interrupt(domain, caller.vcpu)
            });
        }
    }
    Ok(())
}

fn load_ports(caller: &Caller<'_>, address: u64, ports: &mut [u32]) -> Result<(), Errno> {
    if ports.is_empty() {
        // Then there need be no array either.
        return Ok(());
    }
    let mut bytes = [0; MAX_POLLED * PORT_SIZE];
    let bytes = bytes.get_mut(..ports.len() * PORT_SIZE).ok_or(Errno::EINVAL)?;
    caller.guest.read(address, bytes)?;
    let (words, _) = bytes.as_chunks::<PORT_SIZE>();
    for (port, word) in ports.iter_mut().zip(words) {
        *port = u32::from_le_bytes(*word);
    }
    Ok(())
}

/// Starts, feeds or stops a watchdog; a new one's number is the result.
fn watchdog(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    let request = Handle::<SchedWatchdog>::from_register(argument).load(caller.guest)?;
    let span = Nanos(u64::from(request.timeout).saturating_mul(NANOS_PER_SECOND));
    let mut in_use = caller.domain.watchdogs.lock();
    if request.id == 0 {
        let free = in_use.iter().position(|used| !used).ok_or(Errno::ENOSPC)?;
        if let Some(slot) = in_use.get_mut(free) {
            *slot = true;
        }
        set_watchdog(caller, free, Some(span));
        return Ok(free as u64 + 1);
    }
    let index = request.id as usize - 1;
    // One past the last is not caught by its range in Xen either, but by not being in use.
    if index > WATCHDOGS || !in_use.get(index).copied().unwrap_or(false) {
        return Err(Errno::EINVAL);
    }
    if request.timeout == 0 {
        if let Some(slot) = in_use.get_mut(index) {
            *slot = false;
        }
        set_watchdog(caller, index, None);
    } else {
        set_watchdog(caller, index, Some(span));
    }
    Ok(0)
}

/// Moves the deadline of a watchdog, which any processor may be watching so far.
fn set_watchdog(caller: &Caller<'_>, index: usize, span: Option<Nanos>) {
    let Ok(number) = u8::try_from(index) else { return };
    let Some(owner) = caller.domain.vcpu(crate::timer::WATCHDOG_OWNER) else { return };
    let kind = TimerKind::Watchdog(number);
    for processor in &caller.hv.processors {
        processor.timers.lock().cancel(Timer { who: owner.who, kind });
    }
    if let Some(span) = span {
        caller.hv.set_timer(owner, kind, caller.hv.machine.now() + span);
    }
}

/// Pinning a virtual processor for the length of a firmware call: nothing on Arm needs it.
fn pin_override(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    privilege::control(caller.subject())?;
    let request = Handle::<SchedPinOverride>::from_register(argument).load(caller.guest)?;
    let known = usize::try_from(request.pcpu).is_ok_and(|cpu| cpu < caller.hv.processors.len());
    if request.pcpu < 0 {
        Ok(())
    } else if known {
        Err(Errno::ENOSYS)
    } else {
        Err(Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{REQUEST, Testbed};
    use core::sync::atomic::Ordering;
    use hv_core::ids::VcpuId;
    use hv_core::sched::Hold;
    use hypercall_abi::event_channel::{EVTCHNOP_ALLOC_UNBOUND, EvtchnAllocUnbound};
    use hypercall_abi::hypercall::{EVENT_CHANNEL_OP, SCHED_OP};

    const SELF: u16 = 0x7ff0;
    const PORTS: u64 = REQUEST + 0x200;

    fn poll(bed: &Testbed, nr_ports: u32, timeout: u64) -> Result<u64, Errno> {
        let request = SchedPoll { ports: PORTS, nr_ports, timeout, pad: 0 };
        bed.op(1, SCHED_OP, abi::SCHEDOP_POLL, &request)
    }

    #[test]
    fn polling_no_ports_needs_no_array() {
        let bed = Testbed::new();
        let request = SchedPoll { ports: u64::MAX, nr_ports: 0, timeout: 5_000, pad: 0 };
        assert_eq!(bed.op(1, SCHED_OP, abi::SCHEDOP_POLL, &request), Ok(0));
        assert!(is_blocked(&bed));
    }

    fn open(bed: &Testbed) -> u32 {
        let request = EvtchnAllocUnbound { dom: SELF, remote_dom: 0, port: 0 };
        bed.op(1, EVENT_CHANNEL_OP, EVTCHNOP_ALLOC_UNBOUND, &request).unwrap();
        bed.reply::<EvtchnAllocUnbound>().port
    }

    fn is_blocked(bed: &Testbed) -> bool {
        let domain = bed.domain(1);
        let vcpu = domain.vcpu(VcpuId(0)).unwrap();
        bed.hv.scheduler.lock().holds(vcpu.sched).contains(Hold::BLOCKED)
    }

    #[test]
    fn a_shutdown_stops_the_domain_and_keeps_its_reason() {
        let bed = Testbed::new();
        let request = SchedShutdown { reason: 0x1_01 };
        assert_eq!(bed.op(1, SCHED_OP, abi::SCHEDOP_SHUTDOWN, &request), Ok(0));
        let reason = bed.domain(1).life.lock().shutdown();
        assert_eq!(reason, Some(ShutdownReason::REBOOT), "a reason is a byte");
        assert_eq!(bed.domain(2).life.lock().shutdown(), None);
    }

    #[test]
    fn only_dom0_shuts_others_down() {
        let bed = Testbed::new();
        let request = SchedRemoteShutdown { domain_id: 2, reason: 3, pad: 0 };
        let shut = |caller| bed.op(caller, SCHED_OP, abi::SCHEDOP_REMOTE_SHUTDOWN, &request);
        assert_eq!(shut(1), Err(Errno::EPERM));
        assert_eq!(shut(0), Ok(0));
        assert_eq!(bed.domain(2).life.lock().shutdown(), Some(ShutdownReason::CRASH));
        let nobody = SchedRemoteShutdown { domain_id: 50, reason: 3, pad: 0 };
        let outcome = bed.op(0, SCHED_OP, abi::SCHEDOP_REMOTE_SHUTDOWN, &nobody);
        assert_eq!(outcome, Err(Errno::ESRCH));
    }

    #[test]
    fn a_poll_waits_until_its_port_is_pending() {
        let bed = Testbed::new();
        let port = open(&bed);
        bed.guest.write(PORTS, &port.to_le_bytes()).unwrap();
        assert_eq!(poll(&bed, 1, 0), Ok(0));
        assert!(is_blocked(&bed));
        let domain = bed.domain(1);
        assert!(domain.ports.lock().is_polling(VcpuId(0)));
        let back = {
            let dom0 = bed.domain(0);
            let mut dom0 = dom0.ports.lock();
            let mut guest = domain.ports.lock();
            let peer = hv_core::evtchn::Peer::Other(&mut guest);
            let (back, _) = dom0.bind_interdomain(bed.memory(), peer, port).unwrap();
            back
        };
        let delivery = bed.domain(0).ports.lock().send(bed.memory(), back.number()).unwrap();
        bed.hv.deliver(&bed.domain(0), delivery);
        assert!(!is_blocked(&bed), "the event woke it");
        assert_eq!(poll(&bed, 1, 0), Ok(0));
        assert!(!is_blocked(&bed), "it is pending still");
    }

    #[test]
    fn a_poll_ends_when_its_time_is_up() {
        let bed = Testbed::new();
        bed.guest.write(PORTS, &open(&bed).to_le_bytes()).unwrap();
        assert_eq!(poll(&bed, 1, 5_000), Ok(0));
        assert!(is_blocked(&bed));
        let timer = bed.hv.processors[0].timers.lock().expired(Nanos(5_000)).unwrap();
        bed.hv.timer_expired(timer, Nanos(5_000));
        assert!(!is_blocked(&bed));
        assert!(!bed.domain(1).ports.lock().is_polling(VcpuId(0)));
    }

    #[test]
    fn polls_for_what_is_not_there_are_refused() {
        let bed = Testbed::new();
        assert_eq!(poll(&bed, 129, 0), Err(Errno::EINVAL));
        assert_eq!(poll(&bed, u32::MAX, 0), Err(Errno::EINVAL));
        bed.guest.write(PORTS, &77_u32.to_le_bytes()).unwrap();
        assert_eq!(poll(&bed, 1, 0), Err(Errno::EINVAL));
        let request = SchedPoll { ports: 8, nr_ports: 1, timeout: 0, pad: 0 };
        assert_eq!(bed.op(1, SCHED_OP, abi::SCHEDOP_POLL, &request), Err(Errno::EFAULT));
        assert!(!is_blocked(&bed));
    }

    #[test]
    fn a_watchdog_that_is_not_fed_shuts_the_domain_down() {
        let bed = Testbed::new();
        let set = |id, timeout| {
            bed.op(1, SCHED_OP, abi::SCHEDOP_WATCHDOG, &SchedWatchdog { id, timeout })
        };
        assert_eq!(set(1, 10), Err(Errno::EINVAL), "it is not in use");
        assert_eq!(set(0, 10), Ok(1));
        assert_eq!(set(0, 20), Ok(2));
        assert_eq!(set(0, 20), Err(Errno::ENOSPC));
        assert_eq!(set(3, 1), Err(Errno::EINVAL));
        assert_eq!(set(u32::MAX, 1), Err(Errno::EINVAL));
        assert_eq!(set(2, 0), Ok(0));
        bed.hv.machine.clock.store(9 * NANOS_PER_SECOND, Ordering::Relaxed);
        bed.hv.machine.cpu.store(1, Ordering::Relaxed);
        assert_eq!(set(1, 10), Ok(0), "it is fed on another processor");
        let late = Nanos(18 * NANOS_PER_SECOND);
        assert_eq!(bed.hv.processors[0].timers.lock().expired(late), None);
        let timer = bed.hv.processors[1].timers.lock().expired(late + Nanos(NANOS_PER_SECOND));
        bed.hv.timer_expired(timer.unwrap(), late);
        assert_eq!(bed.domain(1).life.lock().shutdown(), Some(ShutdownReason::WATCHDOG));
    }

    #[test]
    fn unknown_commands_and_bad_pointers_are_refused() {
        let bed = Testbed::new();
        for command in [2, 3, 4, 5, 6] {
            let outcome = bed.call(1, SCHED_OP, [command, 0, 0, 0, 0]);
            assert_eq!(outcome, Outcome::Done(Err(Errno::EFAULT)), "command {command}");
        }
        assert_eq!(bed.call(1, SCHED_OP, [8, REQUEST, 0, 0, 0]), Errno::ENOSYS.into());
        assert_eq!(bed.call(1, SCHED_OP, [7, REQUEST, 0, 0, 0]), Errno::EPERM.into());
    }
}
