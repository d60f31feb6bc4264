//! Scheduler operations (`public/sched.h`).

use super::{HypercallError, raw, result, with};
use hypercall_abi::hypercall::SCHED_OP;
use hypercall_abi::sched as abi;

/// Lets others run.
pub fn yield_now() -> Result<(), HypercallError> {
    // SAFETY: the call touches no memory.
    result(unsafe { raw(SCHED_OP, [u64::from(abi::SCHEDOP_YIELD), 0, 0, 0, 0]) }).map(drop)
}

/// Waits for an event.
pub fn block() -> Result<(), HypercallError> {
    // SAFETY: the call touches no memory.
    result(unsafe { raw(SCHED_OP, [u64::from(abi::SCHEDOP_BLOCK), 0, 0, 0, 0]) }).map(drop)
}

/// Waits until one of `ports` is pending, or the system time is `timeout` nanoseconds (0: for ever).
pub fn poll(ports: &[u32], timeout: u64) -> Result<(), HypercallError> {
    let mut request = abi::SchedPoll {
        ports: ports.as_ptr().expose_provenance() as u64,
        nr_ports: u32::try_from(ports.len()).unwrap_or(u32::MAX),
        pad: 0,
        timeout,
    };
    with(SCHED_OP, abi::SCHEDOP_POLL, &mut request).map(drop)
}

/// Ends this domain, or says why it cannot.
pub fn shutdown(reason: u32) -> Result<(), HypercallError> {
    with(SCHED_OP, abi::SCHEDOP_SHUTDOWN, &mut abi::SchedShutdown { reason }).map(drop)
}

/// Stops this domain for `reason`; returns 0 when it is resumed elsewhere, 1 when it goes on where it was.
pub fn suspend(reason: u32) -> Result<u64, HypercallError> {
    with(SCHED_OP, abi::SCHEDOP_SHUTDOWN, &mut abi::SchedShutdown { reason })
}

/// Sets or pokes a watchdog; returns its number when it is new.
pub fn watchdog(id: u32, timeout: u32) -> Result<u64, HypercallError> {
    with(SCHED_OP, abi::SCHEDOP_WATCHDOG, &mut abi::SchedWatchdog { id, timeout })
}

/// Makes operation `operation` with a structure that names no memory.
pub fn plain<T>(operation: u32, argument: &mut T) -> Result<u64, HypercallError> {
    with(SCHED_OP, operation, argument)
}
