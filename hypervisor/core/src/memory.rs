//! Machine memory that guests and page tables live in, reached by address and never by reference.
//!
//! `hv-arch` implements [`FrameMemory`] over the direct map, for the frames the allocator manages and
//! no others; [`crate::fake`] over a map of pages. Page-table walks, grant entries, event words and
//! copies are written against it, so that they run on the host.

use crate::addr::{MachineAddr, Mfn};
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::AtomicU64;

/// The words of a frame.
pub type Words = [AtomicU64; 512];

/// A frame that only the hypervisor uses, with its words at hand: reaching one costs no look-up.
#[derive(Clone, Debug)]
pub struct OwnFrame<W> {
    /// The frame.
    pub mfn: Mfn,
    /// Its words.
    pub words: W,
}

/// The frames of real memory, shared by every processor and by running guests.
///
/// All of it takes `&self`: what is behind may change at any moment anyway. Word accesses are atomic
/// and need natural alignment; they order as sequentially consistent. An address outside the managed
/// frames is an error of the hypervisor's own and panics: callers check a guest's numbers first.
pub trait FrameMemory {
    /// The words of a frame that only the hypervisor uses.
    type Own: Deref<Target = Words> + fmt::Debug;

    /// Returns the words of a frame that only the hypervisor uses, until it is freed.
    fn own(&self, frame: Mfn) -> OwnFrame<Self::Own>;
    /// Copies bytes from `at` on into `bytes`; may cross frames that are adjacent.
    fn read(&self, at: MachineAddr, bytes: &mut [u8]);
    /// Copies `bytes` to `at` on; may cross frames that are adjacent.
    fn write(&self, at: MachineAddr, bytes: &[u8]);
    /// Copies `len` bytes between two places that do not overlap.
    fn copy(&self, from: MachineAddr, to: MachineAddr, len: usize);
    /// Fills a frame with zeros.
    fn zero(&self, frame: Mfn);
    /// Writes the caches of `len` bytes from `at` back to memory and forgets them (point of coherency).
    fn clean_and_invalidate(&self, at: MachineAddr, len: usize);

    /// Loads a 64-bit word.
    fn load_u64(&self, at: MachineAddr) -> u64;
    /// Stores a 64-bit word.
    fn store_u64(&self, at: MachineAddr, value: u64);
    /// Sets bits of a 64-bit word; returns what it was.
    fn fetch_or_u64(&self, at: MachineAddr, bits: u64) -> u64;
    /// Keeps only `bits` of a 64-bit word; returns what it was.
    fn fetch_and_u64(&self, at: MachineAddr, bits: u64) -> u64;
    /// Loads a 32-bit word.
    fn load_u32(&self, at: MachineAddr) -> u32;
    /// Stores a 32-bit word.
    fn store_u32(&self, at: MachineAddr, value: u32);
    /// Sets bits of a 32-bit word; returns what it was.
    fn fetch_or_u32(&self, at: MachineAddr, bits: u32) -> u32;
    /// Keeps only `bits` of a 32-bit word; returns what it was.
    fn fetch_and_u32(&self, at: MachineAddr, bits: u32) -> u32;
    /// Replaces a 32-bit word that is `current` by `new`; gives back what it was, as an error if other.
    fn compare_exchange_u32(&self, at: MachineAddr, current: u32, new: u32) -> Result<u32, u32>;
    /// Keeps only `bits` of a 16-bit word; returns what it was.
    fn fetch_and_u16(&self, at: MachineAddr, bits: u16) -> u16;
    /// Loads a byte.
    fn load_u8(&self, at: MachineAddr) -> u8;
    /// Replaces a byte; returns what it was.
    fn swap_u8(&self, at: MachineAddr, value: u8) -> u8;
}
