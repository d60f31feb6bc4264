//! Being suspended: the domain stops, may be saved and started elsewhere, and goes on.
//!
//! Drivers name hooks; before the stop they let go of what does not survive (rings, grants, channels), after it they make it anew.

use crate::hypercall::{HypercallError, sched};
use crate::lock::Lock;
use crate::xenstore::{self, StoreError};
use crate::{console, cpu, event, grant, shared_info};
use alloc::sync::Arc;
use alloc::vec::Vec;
use hypercall_abi::sched::SHUTDOWN_SUSPEND;

/// What a driver does around a suspend.
pub trait Hook: Send + Sync {
    /// Lets go of what does not survive. Called in the reverse order of [`register`].
    fn before(&self);
    /// Makes it anew. `cancelled` says that the domain goes on where it was, and nothing was lost.
    fn after(&self, cancelled: bool);
}

static HOOKS: Lock<Vec<Arc<dyn Hook>>> = Lock::new(Vec::new());

/// Why the domain was not suspended, or could not go on fully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuspendError {
    /// Another processor is on; only the last one can suspend the domain.
    OthersRun,
    /// The hypervisor refused.
    Hypercall(HypercallError),
    /// The store could not be reached again.
    Store(StoreError),
}

/// Names a hook.
pub fn register(hook: Arc<dyn Hook>) {
    HOOKS.with(|hooks| hooks.push(hook));
}

/// Stops the domain until it is resumed; other processors must be off.
pub fn suspend() -> Result<(), SuspendError> {
    for number in (0..cpu::MAX_CPUS).filter(|number| *number != cpu::number()) {
        if crate::smp::is_started(number) {
            return Err(SuspendError::OthersRun);
        }
    }
    let hooks = HOOKS.with(|hooks| hooks.clone());
    hooks.iter().rev().for_each(|hook| hook.before());
    let answer = cpu::without_interrupts(|| {
        let answer = sched::suspend(SHUTDOWN_SUSPEND).map_err(SuspendError::Hypercall)?;
        // 1: cancelled, the domain is where it was.
        if answer == 0 {
            shared_info::resume().map_err(SuspendError::Hypercall)?;
            event::resume().map_err(SuspendError::Hypercall)?;
            console::find_ring();
        }
        Ok(answer)
    })?;
    let cancelled = answer != 0;
    if !cancelled {
        if let Err(error) = grant::resume() {
            log::warn!("the grant table is not back: {error:?}");
        }
        xenstore::reconnect().map_err(SuspendError::Store)?;
    }
    hooks.iter().for_each(|hook| hook.after(cancelled));
    Ok(())
}
