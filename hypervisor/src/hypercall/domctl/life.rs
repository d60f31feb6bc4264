//! Pausing, resuming and ending domains.

use super::Request;
use crate::domain::destroy::Progress;
use crate::hypercall::Outcome;
use hv_core::lifecycle::LifecycleError;
use hv_core::sched::Hold;
use hypercall_abi::errno::Errno;

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
    hv.wait_until_stopped(domain);
    Ok(())
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
