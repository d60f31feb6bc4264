//! Pausing, resuming and ending domains.

use super::Request;
use crate::domain::Domain;
use crate::domain::destroy::Progress;
use crate::hypercall::Outcome;
use crate::machine::Relax;
use hv_core::lifecycle::LifecycleError;
use hv_core::sched::Hold;
use hypercall_abi::errno::Errno;
use spin::RelaxStrategy;

fn errno(error: LifecycleError) -> Errno {
    match error {
        LifecycleError::NotPaused => Errno::EINVAL,
        LifecycleError::TooManyPauses => Errno::EUSERS,
    }
}

pub(super) fn pause(request: &Request<'_>) -> Result<(), Errno> {
    let (hv, domain) = (request.caller.hv, request.domain);
    if domain.id == request.caller.domain.id {
        return Err(Errno::EINVAL);
    }
    let change = domain.life.lock().pause().map_err(errno)?;
    hv.apply(domain, change, Hold::PAUSED);
    wait_until_stopped(domain);
    Ok(())
}

/// Waits for the other processors to leave `domain`, since its memory may be looked at next.
///
/// They were told, hold nothing that this one waits for, and leave at once; should one not, the caller
/// goes on after some ten milliseconds.
fn wait_until_stopped(domain: &Domain) {
    const TRIES: u32 = 1 << 20;
    let stopped = || domain.vcpus().iter().all(|vcpu| vcpu.running_on().is_none());
    for _ in 0..TRIES {
        if stopped() {
            return;
        }
        Relax::relax();
    }
}

pub(super) fn unpause(request: &Request<'_>) -> Result<(), Errno> {
    let change = request.domain.life.lock().unpause().map_err(errno)?;
    request.caller.hv.apply(request.domain, change, Hold::PAUSED);
    Ok(())
}

pub(super) fn resume(request: &Request<'_>) -> Result<(), Errno> {
    if request.domain.id == request.caller.domain.id {
        return Err(Errno::EINVAL);
    }
    let change = request.domain.life.lock().resume();
    request.caller.hv.apply(request.domain, change, Hold::SHUTDOWN);
    Ok(())
}

pub(super) fn destroy(request: &Request<'_>) -> Outcome {
    if request.domain.id == request.caller.domain.id || request.domain.is_privileged() {
        return Errno::EINVAL.into();
    }
    match request.caller.hv.destroy(request.domain) {
        Progress::Done => Outcome::Done(Ok(0)),
        Progress::More => request.again(),
    }
}
