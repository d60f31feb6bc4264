//! The project's own hypercall, in the range that Xen leaves to architectures: what a toolstack gains by and Xen has
//! no place for. Nothing that Xen's tools or guests do needs it.
//!
//! x0 points to a version and a [`Request`], both in `postcard`'s encoding, x1 is their length; x2 is 0, and belongs to the
//! hypervisor while the call goes on. An unknown version is `EACCES`, as with Xen's own control calls.

use serde::{Deserialize, Serialize};

/// Version of the requests.
pub const VERSION: u16 = 1;
/// Longest encoded request.
pub const LONGEST: usize = 64;

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Fill a guest's memory.
    Load(Load),
}

/// Copies bytes of the caller's memory to a guest's, and writes them back to memory, so that a guest whose caches
/// are off sees them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The guest.
    pub domain: u16,
    /// Where to, a guest physical address.
    pub to: u64,
    /// Where from, an address as the caller's processor translates it.
    pub from: u64,
    /// How many bytes.
    pub length: u64,
}
