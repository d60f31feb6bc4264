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
