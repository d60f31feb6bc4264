//! Whole pages of the guest's memory.
//!
//! What another domain may write at any time is never reached as a reference: [`SharedPage`] is one such page, [`SharedPages`] a row of them,
//! and both are reached by atomics and by copies alone.

use crate::lock::Lock;
use crate::{copy, map};
use alloc::alloc::{Layout, alloc_zeroed};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Bytes of a page.
pub const SIZE: u64 = 4096;
/// The same, as an index.
pub const PAGE_SIZE: usize = 4096;
const WORDS: usize = PAGE_SIZE / 8;

/// Rows that were given back, by their length in pages. They are never used as anything but shared pages again.
static FREE: Lock<BTreeMap<usize, Vec<SharedPages>>> = Lock::new(BTreeMap::new());

/// A page that others may write at any time: it can be reached only by atomics.
#[derive(Clone, Copy)]
pub struct SharedPage {
    first: NonNull<AtomicU64>,
}

// SAFETY: it is a place that stays; whatever is there is reached by atomics and by copies that may race.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Allocates a zeroed page; it is never given back to the heap, since others may keep it.
    pub fn allocate() -> Self {
        Self::allocate_many(1)
    }

    /// Allocates `count` zeroed pages in a row and returns the first.
    pub fn allocate_many(count: usize) -> Self {
        SharedPages::allocate(count).page(0)
    }

    /// Names the page of memory at an address, which is not null.
    ///
    /// # Safety
    ///
    /// There must be a page of memory, mapped for good, that is reached only as a `SharedPage`.
    pub unsafe fn at(address: u64) -> Self {
        Self { first: place(address) }
    }

    /// Returns it as a row of one.
    #[inline(always)]
    pub fn pages(self) -> SharedPages {
        SharedPages { first: self.first, count: 1 }
    }

    /// Returns its frame number.
    pub fn frame(self) -> u64 {
        map::frame_at(self.address())
    }

    /// Returns its virtual address.
    pub fn address(self) -> u64 {
        self.pages().address()
    }

    /// Returns the word at a byte offset, which must be aligned.
    #[inline(always)]
    pub fn word64(self, offset: usize) -> &'static AtomicU64 {
        self.pages().word64(offset)
    }

    /// Returns the 32-bit word at a byte offset, which must be aligned.
    #[inline(always)]
    pub fn word32(self, offset: usize) -> &'static AtomicU32 {
        self.pages().word32(offset)
    }

    /// Returns the 16-bit word at a byte offset, which must be aligned.
    #[inline(always)]
    pub fn word16(self, offset: usize) -> &'static AtomicU16 {
        self.pages().word16(offset)
    }

    /// Returns the byte at an offset.
    #[inline(always)]
    pub fn byte(self, offset: usize) -> &'static AtomicU8 {
        self.pages().byte(offset)
    }
}

/// Returns where an address leads that is not null.
fn place<T>(address: u64) -> NonNull<T> {
    NonNull::new(map::pointer::<T>(address).cast_mut()).expect("nothing is shared at address 0")
}

#[cold]
#[inline(never)]
fn no_such_bytes(size: usize, offset: usize) -> ! {
    panic!("no {size} bytes at {offset:#x}");
}

/// Pages in a row, which others may write at any time.
#[derive(Clone, Copy)]
pub struct SharedPages {
    first: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: they are places that stay; whatever is there is reached by atomics and by copies that may race.
unsafe impl Send for SharedPages {}
// SAFETY: as above.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Allocates `count` zeroed pages, of which there must be one at least; panics when the heap has no room.
    pub fn allocate(count: usize) -> Self {
        Self::try_allocate(count).expect("there is memory for pages")
    }

    /// Allocates `count` zeroed pages, unless the heap has no room or `count` is 0.
    pub fn try_allocate(count: usize) -> Option<Self> {
        let reused = FREE.with(|free| free.get_mut(&count).and_then(Vec::pop));
        if let Some(pages) = reused {
            (0..pages.len()).step_by(8).for_each(|at| pages.word64(at).store(0, Ordering::Relaxed));
            return Some(pages);
        }
        let bytes = PAGE_SIZE.checked_mul(count).filter(|bytes| *bytes != 0)?;
        let layout = Layout::from_size_align(bytes, PAGE_SIZE).ok()?;
        // SAFETY: the layout has a size.
        let memory = unsafe { alloc_zeroed(layout) };
        // The pages are never freed.
        Some(Self { first: NonNull::new(memory.cast())?, count })
    }

    /// Names the pages of memory at an address, which is not null.
    ///
    /// # Safety
    ///
    /// There must be so many pages of memory, that are reached only as `SharedPages` for as long as this or a copy of it is used.
    pub unsafe fn at(address: u64, count: usize) -> Self {
        Self { first: place(address), count }
    }

    /// Keeps the pages for the next who allocates as many; nobody else may still have them.
    ///
    /// They stay shared pages for ever, so a mistake here mixes up data but breaks none of Rust's rules.
    pub fn recycle(self) {
        FREE.with(|free| free.entry(self.count).or_default().push(self));
    }

    /// Returns how many pages there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// Returns how many bytes there are.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.count * PAGE_SIZE
    }

    /// Returns whether there are none, which cannot be.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Returns page `number` of them.
    pub fn page(self, number: usize) -> SharedPage {
        SharedPage { first: self.part::<[AtomicU64; WORDS]>(number * PAGE_SIZE).cast() }
    }

    /// Returns each page.
    pub fn iter(self) -> impl ExactSizeIterator<Item = SharedPage> {
        (0..self.count).map(move |number| self.page(number))
    }

    /// Returns the virtual address of the first.
    pub fn address(self) -> u64 {
        self.first.expose_provenance().get() as u64
    }

    /// Returns the word at a byte offset, which must be aligned.
    #[inline(always)]
    pub fn word64(self, offset: usize) -> &'static AtomicU64 {
        // SAFETY: `part` checked that it is in the pages and aligned, and the pages stay.
        unsafe { AtomicU64::from_ptr(self.part(offset).as_ptr()) }
    }

    /// Returns the 32-bit word at a byte offset, which must be aligned.
    #[inline(always)]
    pub fn word32(self, offset: usize) -> &'static AtomicU32 {
        // SAFETY: `part` checked that it is in the pages and aligned, and the pages stay.
        unsafe { AtomicU32::from_ptr(self.part(offset).as_ptr()) }
    }

    /// Returns the 16-bit word at a byte offset, which must be aligned.
    #[inline(always)]
    pub fn word16(self, offset: usize) -> &'static AtomicU16 {
        // SAFETY: `part` checked that it is in the pages and aligned, and the pages stay.
        unsafe { AtomicU16::from_ptr(self.part(offset).as_ptr()) }
    }

    /// Returns the byte at an offset.
    #[inline(always)]
    pub fn byte(self, offset: usize) -> &'static AtomicU8 {
        // SAFETY: `part` checked that it is in the pages, and the pages stay.
        unsafe { AtomicU8::from_ptr(self.part(offset).as_ptr()) }
    }

    /// Returns where the `T` at a byte offset is.
    #[inline(always)]
    fn part<T>(self, offset: usize) -> NonNull<T> {
        let size = size_of::<T>();
        if !offset.is_multiple_of(size) || offset >= self.len() {
            no_such_bytes(size, offset);
        }
        // SAFETY: the offset is in the pages, which are one piece of memory.
        unsafe { self.first.byte_add(offset) }.cast()
    }

    /// Copies bytes out, each of them read once; they must be inside.
    pub fn read(self, offset: usize, to: &mut [u8]) {
        let from = self.run(offset, to.len());
        // SAFETY: `run` checked that the bytes are in the pages, which stay and are shared.
        unsafe { copy::out(from, to) };
    }

    /// Copies bytes in; they must fit inside.
    pub fn write(self, offset: usize, from: &[u8]) {
        let to = self.run(offset, from.len());
        // SAFETY: `run` checked that the bytes are in the pages, which stay and are shared.
        unsafe { copy::into(from, to) };
    }

    fn run(self, offset: usize, len: usize) -> *mut u8 {
        assert!(len <= self.len().saturating_sub(offset), "no such bytes at {offset:#x}");
        self.first.as_ptr().cast::<u8>().wrapping_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// Bytes of which a part is copied; miri takes its time for each.
    const ROOM: usize = if cfg!(miri) { 64 } else { 256 };

    /// A byte that is unlike its neighbours, and unlike that of another seed.
    fn pattern(seed: usize, index: usize) -> u8 {
        u8::try_from((index * 7 + seed * 101) % 251).unwrap()
    }

    fn fill(bytes: &mut [u8], seed: usize) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = pattern(seed, index);
        }
    }

    /// Both sides' distances from a multiple of 16, and lengths.
    fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
        let (step, longest) = if cfg!(miri) { (5, 27) } else { (1, 90) };
        (0..16).step_by(step).flat_map(move |shared| {
            (0..16).step_by(step).flat_map(move |own| {
                let lengths = (0..=longest).step_by(if cfg!(miri) { 3 } else { 1 });
                lengths.map(move |len| (shared, own, len))
            })
        })
    }

    fn each(pages: SharedPages) -> Vec<u8> {
        (0..ROOM).map(|offset| pages.byte(offset).load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn reading_is_copying_byte_by_byte_whatever_the_alignments_and_the_length() {
        let pages = SharedPages::allocate(1);
        for offset in 0..ROOM {
            pages.byte(offset).store(pattern(1, offset), Ordering::Relaxed);
        }
        for (shared, own, len) in shapes() {
            let mut place = vec![0; ROOM];
            fill(&mut place, 2);
            let own = own + place.as_ptr().addr().wrapping_neg() % 16;
            let mut expected = place.clone();
            for index in 0..len {
                expected[own + index] = pattern(1, shared + index);
            }
            pages.read(shared, &mut place[own..own + len]);
            assert_eq!(place, expected, "{len} from {shared} to {own}");
        }
    }

    #[test]
    fn writing_is_copying_byte_by_byte_whatever_the_alignments_and_the_length() {
        let pages = SharedPages::allocate(1);
        for (shared, own, len) in shapes() {
            let mut place = vec![0; ROOM];
            fill(&mut place, 1);
            let own = own + place.as_ptr().addr().wrapping_neg() % 16;
            let mut expected = each(pages);
            for index in 0..len {
                expected[shared + index] = pattern(1, own + index);
            }
            pages.write(shared, &place[own..own + len]);
            assert_eq!(each(pages), expected, "{len} from {own} to {shared}");
        }
    }

    #[test]
    fn copies_reach_from_the_first_byte_of_a_row_to_its_last() {
        let pages = SharedPages::allocate(2);
        let mut bytes = vec![0; 2 * PAGE_SIZE];
        fill(&mut bytes, 3);
        pages.write(0, &bytes);
        let mut back = vec![0; 2 * PAGE_SIZE];
        pages.read(0, &mut back);
        assert_eq!(back, bytes);
        pages.read(8191, &mut back[..1]);
        assert_eq!(back[0], pattern(3, 8191));
        pages.read(8192, &mut []);
    }

    #[test]
    #[should_panic(expected = "no such bytes")]
    fn reading_past_the_end_is_refused() {
        SharedPages::allocate(1).read(4090, &mut [0; 7]);
    }

    #[test]
    #[should_panic(expected = "no such bytes")]
    fn writing_past_the_end_is_refused() {
        SharedPages::allocate(1).write(4097, &[0]);
    }

    #[test]
    fn recycled_pages_are_zero_again() {
        let pages = SharedPages::allocate(3);
        pages.write(5000, b"secret");
        pages.recycle();
        let again = SharedPages::allocate(3);
        let mut bytes = [1; 6];
        again.read(5000, &mut bytes);
        assert_eq!(bytes, [0; 6]);
    }
}
