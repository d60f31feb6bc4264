//! Room in the hypervisor's heap, which does not grow.
//!
//! What a guest can make the hypervisor keep is allocated together with its domain, or comes from
//! frames that were set aside for it: no action of a guest allocates. Control operations of Dom0 do,
//! one at a time, after [`Hypervisor::with_room`] has seen that all of it can be had. So an allocation
//! fails with `ENOMEM` where it can be refused, and nowhere else.

use crate::domain::Domain;
use crate::state::Hypervisor;
use alloc::vec::Vec;
use hv_core::evtchn::EvtchnError;
use hv_core::frames::FramesError;
use hypercall_abi::errno::Errno;

/// Bytes that stay free: what the allocator itself needs, and what is made of pieces in between.
pub(crate) const RESERVE: usize = 256 << 10;
/// Bytes that the allocator takes for itself with each allocation, at most.
pub const OVERHEAD: usize = 32;

/// There is no room for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom;

impl From<NoRoom> for Errno {
    fn from(NoRoom: NoRoom) -> Self {
        Self::ENOMEM
    }
}

impl From<NoRoom> for FramesError {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoMemory
    }
}

impl Hypervisor {
    /// Has `make` allocate up to `bytes`, overheads included, or says that there is no room for them.
    ///
    /// Nobody else allocates meanwhile, and the bytes are there in one piece: `make` cannot fail.
    pub fn with_room<T>(&self, bytes: usize, make: impl FnOnce() -> T) -> Result<T, NoRoom> {
        let _alone = self.heap.lock();
        if self.machine.heap_free() < bytes.saturating_add(RESERVE) {
            return Err(NoRoom);
        }
        let mut piece = Vec::<u8>::new();
        piece.try_reserve_exact(bytes).map_err(|_| NoRoom)?;
        drop(piece);
        Ok(make())
    }

    /// Makes room for more ports of a domain whose limit is higher than what was set aside for it.
    pub fn widen_ports(&self, domain: &Domain) -> Result<(), EvtchnError> {
        if !domain.ports.lock().is_tight() {
            return Ok(());
        }
        let _alone = self.heap.lock();
        domain.ports.lock().widen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Testbed;
    use core::sync::atomic::Ordering;

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let bed = Testbed::new();
        let all = bed.hv.machine.heap_free();
        assert_eq!(bed.hv.with_room(100, || 7), Ok(7));
        bed.hv.machine.heap_taken.store(all - RESERVE - 99, Ordering::Relaxed);
        let nothing = bed.hv.with_room(100, || unreachable!("there is no room"));
        assert_eq!(nothing, Err::<(), _>(NoRoom));
        assert_eq!(bed.hv.with_room(99, || 7), Ok(7));
    }
}
