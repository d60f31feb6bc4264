//! All memory at one offset, and who may touch which part of it.
//!
//! A range of memory is in one of four hands: the *image*, which Rust uses as usual; a [`BootRegion`],
//! plain bytes that the loader left (device tree, kernel); the heap; or the frame allocator
//! ([`manage`]). [`DirectMap`] reaches the last only, by machine address and with accesses that allow
//! for a guest changing the memory at the same time: no Rust object ever lies there.

mod claims;

pub(crate) use claims::touches_ram;
pub use claims::{BootRegion, ClaimError, device_tree, manage, map_ram};

use crate::cache;
use crate::mmu::{self, DIRECT_BASE, MapError};
use crate::percpu;
use crate::regs::DczidEl0;
use core::arch::global_asm;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use hv_core::addr::{MachineAddr, Mfn, PAGE_SIZE, to_index};
use hv_core::memory::{FrameMemory, OwnFrame, Words};

/// The frames that the allocator manages.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectMap;

/// A managed range of whole pages. Ranges are added and grow; what is managed stays so.
struct Managed {
    start: AtomicU64,
    len: AtomicU64,
}

const MAX_MANAGED: usize = 16;
static MANAGED: [Managed; MAX_MANAGED] =
    [const { Managed { start: AtomicU64::new(0), len: AtomicU64::new(0) } }; MAX_MANAGED];

impl DirectMap {
    /// Copies bytes from `at` on into `bytes`, if all of them are managed; says whether they are.
    #[inline(always)]
    pub(crate) fn try_read(&self, at: MachineAddr, bytes: &mut [u8]) -> bool {
        let covered = self.covers(at, bytes.len());
        if covered {
            let from = direct(at);
            // SAFETY: `from` is managed memory of that length, `bytes` is ours; the two never overlap.
            unsafe { direct_copy(bytes.as_mut_ptr(), from, bytes.len()) };
        }
        covered
    }

    /// Copies `bytes` to `at` on, if all of that is managed; says whether it is.
    #[inline(always)]
    pub(crate) fn try_write(&self, at: MachineAddr, bytes: &[u8]) -> bool {
        let covered = self.covers(at, bytes.len());
        if covered {
            let to = direct(at);
            // SAFETY: `to` is managed memory of that length, and no Rust object lies there.
            unsafe { direct_copy(to, bytes.as_ptr(), bytes.len()) };
        }
        covered
    }

    /// Says whether all of the `len` bytes from `at` are managed, and so may be reached.
    #[inline(always)]
    pub fn covers(&self, at: MachineAddr, len: usize) -> bool {
        // The first range holds most of the memory, and the second the single pages that are taken from what is
        // in pieces anyway: tables, and pages shared with guests.
        let [first, second, rest @ ..] = &MANAGED;
        first.covers(at, len) || second.covers(at, len) || Self::covers_further(rest, at, len)
    }

    #[cold]
    #[inline(never)]
    fn covers_further(ranges: &[Managed], at: MachineAddr, len: usize) -> bool {
        ranges.iter().any(|range| range.covers(at, len))
    }

    /// Returns where the `len` bytes from `at` are in the direct map.
    #[inline(always)]
    fn pointer(&self, at: MachineAddr, len: usize) -> *mut u8 {
        if !self.covers(at, len) {
            outside(at, len);
        }
        direct(at)
    }

    /// Returns where the word at `at` is.
    #[inline(always)]
    fn word<T>(&self, at: MachineAddr) -> *mut T {
        // Ranges are whole pages, so an aligned word that begins in one lies in it.
        if !at.raw().is_multiple_of(align_of::<T>() as u64) || !self.covers(at, 1) {
            outside(at, size_of::<T>());
        }
        direct(at).cast()
    }
}

impl Managed {
    #[inline(always)]
    fn covers(&self, at: MachineAddr, len: usize) -> bool {
        let size = self.len.load(Ordering::Relaxed);
        let offset = at.raw().wrapping_sub(self.start.load(Ordering::Relaxed));
        offset < size && len as u64 <= size - offset
    }
}

/// Tells a processor that waits for it, with its caches off, where to start.
pub(crate) fn store_release_address(at: MachineAddr, entry: MachineAddr) -> Result<(), MapError> {
    let image = crate::boot::image();
    if !at.raw().is_multiple_of(8) || image.contains(&at) {
        return Err(MapError::Overlap);
    }
    mmu::map_memory(at, 8)?;
    let place: *mut u64 = direct(at).cast();
    // SAFETY: it is mapped and aligned. The device tree says that firmware left it for this, and the page is
    // handed to nobody else (`reserved` of the hypervisor's start).
    unsafe { place.write_volatile(entry.raw()) };
    cache::clean_and_invalidate(place.addr() as u64, 8);
    Ok(())
}

/// Returns where the byte at `at` appears.
#[inline(always)]
fn direct(at: MachineAddr) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(to_index(DIRECT_BASE | at.raw()))
}

#[cold]
#[inline(never)]
fn outside(at: MachineAddr, len: usize) -> ! {
    panic!("{len} bytes at machine address {:#x} are not aligned managed memory", at.raw())
}

/// An atomic view of the word at `$at`.
macro_rules! atomic {
    ($self:ident, $at:expr, $word:ty) => {{
        let pointer = $self.word($at);
        // SAFETY: `word` found the aligned word within managed memory, which is mapped for good and which
        // only atomics and the copies of this file ever access.
        unsafe { <$word>::from_ptr(pointer) }
    }};
}

impl FrameMemory for DirectMap {
    type Own = &'static Words;

    fn own(&self, mfn: Mfn) -> OwnFrame<&'static Words> {
        let pointer = self.pointer(mfn.base(), size_of::<Words>());
        // SAFETY: the page is managed memory, which is mapped for good and which only atomics and the
        // copies of this file ever access. Pages are aligned to more than a word.
        let words = unsafe { &*pointer.cast() };
        OwnFrame { mfn, words }
    }

    #[inline]
    fn read(&self, at: MachineAddr, bytes: &mut [u8]) {
        if !self.try_read(at, bytes) {
            outside(at, bytes.len());
        }
    }

    #[inline]
    fn write(&self, at: MachineAddr, bytes: &[u8]) {
        if !self.try_write(at, bytes) {
            outside(at, bytes.len());
        }
    }

    #[inline]
    fn copy(&self, from: MachineAddr, to: MachineAddr, len: usize) {
        let from = self.pointer(from, len);
        let to = self.pointer(to, len);
        // SAFETY: both are managed memory of that length, where no Rust object lies.
        unsafe { direct_copy(to, from, len) };
    }

    #[inline]
    fn zero(&self, frame: Mfn) {
        let pointer = self.pointer(frame.base(), to_index(PAGE_SIZE));
        // SAFETY: the page is managed memory, where no Rust object lies.
        unsafe { direct_zero(pointer, DczidEl0::get()) };
    }

    fn clean_and_invalidate(&self, at: MachineAddr, len: usize) {
        let pointer = self.pointer(at, len);
        cache::clean_and_invalidate(pointer.addr() as u64, len as u64);
    }

    #[inline(always)]
    fn load_u64(&self, at: MachineAddr) -> u64 {
        atomic!(self, at, AtomicU64).load(Ordering::SeqCst)
    }

    #[inline(always)]
    fn store_u64(&self, at: MachineAddr, value: u64) {
        atomic!(self, at, AtomicU64).store(value, Ordering::SeqCst);
    }

    #[inline(always)]
    fn fetch_or_u64(&self, at: MachineAddr, bits: u64) -> u64 {
        atomic!(self, at, AtomicU64).fetch_or(bits, Ordering::SeqCst)
    }

    #[inline(always)]
    fn fetch_and_u64(&self, at: MachineAddr, bits: u64) -> u64 {
        atomic!(self, at, AtomicU64).fetch_and(bits, Ordering::SeqCst)
    }

    #[inline(always)]
    fn load_u32(&self, at: MachineAddr) -> u32 {
        atomic!(self, at, AtomicU32).load(Ordering::SeqCst)
    }

    #[inline(always)]
    fn store_u32(&self, at: MachineAddr, value: u32) {
        atomic!(self, at, AtomicU32).store(value, Ordering::SeqCst);
    }

    #[inline(always)]
    fn fetch_or_u32(&self, at: MachineAddr, bits: u32) -> u32 {
        atomic!(self, at, AtomicU32).fetch_or(bits, Ordering::SeqCst)
    }

    #[inline(always)]
    fn fetch_and_u32(&self, at: MachineAddr, bits: u32) -> u32 {
        atomic!(self, at, AtomicU32).fetch_and(bits, Ordering::SeqCst)
    }

    #[inline(always)]
    fn compare_exchange_u32(&self, at: MachineAddr, current: u32, new: u32) -> Result<u32, u32> {
        let word = atomic!(self, at, AtomicU32);
        word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    #[inline(always)]
    fn fetch_and_u16(&self, at: MachineAddr, bits: u16) -> u16 {
        atomic!(self, at, AtomicU16).fetch_and(bits, Ordering::SeqCst)
    }

    #[inline(always)]
    fn load_u8(&self, at: MachineAddr) -> u8 {
        atomic!(self, at, AtomicU8).load(Ordering::SeqCst)
    }

    #[inline(always)]
    fn swap_u8(&self, at: MachineAddr, value: u8) -> u8 {
        atomic!(self, at, AtomicU8).swap(value, Ordering::SeqCst)
    }
}

unsafe extern "C" {
    fn direct_copy(to: *mut u8, from: *const u8, len: usize);
    fn direct_zero(page: *mut u8, dczid: u64);
}

global_asm!(include_str!("direct_map.S"));

/// Reads the big-endian word at `at` of memory that is mapped but in nobody's hands yet.
fn peek_be32(at: MachineAddr) -> u32 {
    let mut bytes = [0_u8; 4];
    let from = core::ptr::with_exposed_provenance(to_index(DIRECT_BASE | at.raw()));
    // SAFETY: the caller mapped the word; nothing has it yet, so nothing changes it.
    unsafe { direct_copy(bytes.as_mut_ptr(), from, bytes.len()) };
    u32::from_be_bytes(bytes)
}

/// Makes `len` more bytes from `start` managed. The caller knows that nobody else has them.
fn add_managed(start: u64, len: u64) -> bool {
    let mut ranges = MANAGED.iter();
    let added = ranges.by_ref().find(|range| {
        let known = range.len.load(Ordering::Relaxed);
        if known == 0 {
            range.start.store(start, Ordering::Relaxed);
            range.len.store(len, Ordering::Release);
            return true;
        }
        let continues = range.start.load(Ordering::Relaxed) + known == start;
        if continues {
            range.len.store(known + len, Ordering::Release);
        }
        continues
    });
    if added.is_some() {
        join_managed();
    }
    added.is_some()
}

/// Joins ranges between which there is nothing left, into the earlier of the two, which is looked at first.
///
/// Another processor might see half of that: once there is one, ranges stay apart.
fn join_managed() {
    if !percpu::is_alone() {
        return;
    }
    for (place, range) in MANAGED.iter().enumerate() {
        for other in MANAGED.iter().skip(place + 1) {
            let [start, len] = [&range.start, &range.len].map(|word| word.load(Ordering::Relaxed));
            let [next, more] = [&other.start, &other.len].map(|word| word.load(Ordering::Relaxed));
            if more != 0 && (start + len == next || next + more == start) {
                range.start.store(start.min(next), Ordering::Relaxed);
                range.len.store(len + more, Ordering::Relaxed);
                other.len.store(0, Ordering::Relaxed);
            }
        }
    }
}
