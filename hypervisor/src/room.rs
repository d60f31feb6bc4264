//! Room in the hypervisor's heap, which does not grow.
//!
//! What domains make the hypervisor allocate is refused while enough is left for all that cannot be
//! refused: a hypervisor without memory could only stop.

use crate::state::Hypervisor;
use hv_core::frames::FramesError;
use hypercall_abi::errno::Errno;

/// Bytes that no domain's wishes may use.
const RESERVE: usize = 1 << 20;

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
    /// Says whether `bytes` can be allocated for a domain, in pieces.
    pub fn has_room(&self, bytes: usize) -> Result<(), NoRoom> {
        let enough = self.machine.heap_free() >= bytes.saturating_add(RESERVE);
        if enough { Ok(()) } else { Err(NoRoom) }
    }
}
