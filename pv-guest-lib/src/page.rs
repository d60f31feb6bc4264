//! Whole pages of the guest's memory.
//!
//! What another domain may write at any time is never reached as a reference: [`SharedPage`] is one such page, [`SharedPages`] a row of them,
//! and both are reached by atomics and by copies alone.

use crate::lock::Lock;
use crate::map;
use alloc::alloc::{Layout, alloc_zeroed};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
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
    words: &'static [AtomicU64; WORDS],
}

impl SharedPage {
    /// Allocates a zeroed page; it is never given back to the heap, since others may keep it.
    pub fn allocate() -> Self {
        Self::allocate_many(1)
    }

    /// Allocates `count` zeroed pages in a row and returns the first.
    pub fn allocate_many(count: usize) -> Self {
        SharedPages::allocate(count).page(0)
    }

    /// Names the page of memory at an address.
    ///
    /// # Safety
    ///
    /// There must be a page of memory, mapped for good, that is reached only as a `SharedPage`.
    pub unsafe fn at(address: u64) -> Self {
        let pointer = map::pointer(address);
        // SAFETY: the caller vouches for the page.
        Self { words: unsafe { &*pointer } }
    }

    /// Returns it as a row of one.
    pub fn pages(self) -> SharedPages {
        SharedPages { words: self.words }
    }

    /// Returns its frame number.
    pub fn frame(self) -> u64 {
        map::frame_of(self.words)
    }

    /// Returns its virtual address.
    pub fn address(self) -> u64 {
        self.words.as_ptr().expose_provenance() as u64
    }

    /// Returns the word at a byte offset, which must be aligned.
    pub fn word64(self, offset: usize) -> &'static AtomicU64 {
        self.pages().word64(offset)
    }

    /// Returns the 32-bit word at a byte offset, which must be aligned.
    pub fn word32(self, offset: usize) -> &'static AtomicU32 {
        self.pages().word32(offset)
    }

    /// Returns the 16-bit word at a byte offset, which must be aligned.
    pub fn word16(self, offset: usize) -> &'static AtomicU16 {
        self.pages().word16(offset)
    }

    /// Returns the byte at an offset.
    pub fn byte(self, offset: usize) -> &'static AtomicU8 {
        self.pages().byte(offset)
    }
}

/// Pages in a row, which others may write at any time.
#[derive(Clone, Copy)]
pub struct SharedPages {
    words: &'static [AtomicU64],
}

impl SharedPages {
    /// Allocates `count` zeroed pages, of which there must be one at least; panics when the heap has no room.
    pub fn allocate(count: usize) -> Self {
        Self::try_allocate(count).expect("there is memory for pages")
    }

    /// Allocates `count` zeroed pages, unless the heap has no room or `count` is 0.
    pub fn try_allocate(count: usize) -> Option<Self> {
        let reused = FREE.with(|free| free.get_mut(&count).and_then(Vec::pop));
        if let Some(pages) = reused {
            pages.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            return Some(pages);
        }
        let bytes = PAGE_SIZE.checked_mul(count).filter(|bytes| *bytes != 0)?;
        let layout = Layout::from_size_align(bytes, PAGE_SIZE).ok()?;
        // SAFETY: the layout has a size.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            return None;
        }
        let first = memory.cast::<AtomicU64>();
        // SAFETY: the pages were just allocated, zero is a valid value, and they are never freed.
        Some(Self { words: unsafe { core::slice::from_raw_parts(first, count * WORDS) } })
    }

    /// Names the pages of memory at an address.
    ///
    /// # Safety
    ///
    /// There must be so many pages of memory, that are reached only as `SharedPages` for as long as this or a copy of it is used.
    pub unsafe fn at(address: u64, count: usize) -> Self {
        let pointer = map::pointer(address);
        // SAFETY: the caller vouches for the pages.
        Self { words: unsafe { core::slice::from_raw_parts(pointer, count * WORDS) } }
    }

    /// Keeps the pages for the next who allocates as many; nobody else may still have them.
    ///
    /// They stay shared pages for ever, so a mistake here mixes up data but breaks none of Rust's rules.
    pub fn recycle(self) {
        FREE.with(|free| free.entry(self.count()).or_default().push(self));
    }

    /// Returns how many pages there are.
    pub fn count(self) -> usize {
        self.words.len() / WORDS
    }

    /// Returns how many bytes there are.
    pub fn len(self) -> usize {
        self.words.len() * 8
    }

    /// Returns whether there are none, which cannot be.
    pub fn is_empty(self) -> bool {
        self.words.is_empty()
    }

    /// Returns page `number` of them.
    pub fn page(self, number: usize) -> SharedPage {
        let words = self.words.as_chunks().0.get(number).expect("the page is one of them");
        SharedPage { words }
    }

    /// Returns each page.
    pub fn iter(self) -> impl ExactSizeIterator<Item = SharedPage> {
        self.words.as_chunks().0.iter().map(|words| SharedPage { words })
    }

    /// Returns the virtual address of the first.
    pub fn address(self) -> u64 {
        self.words.as_ptr().expose_provenance() as u64
    }

    /// Returns the word at a byte offset, which must be aligned.
    pub fn word64(self, offset: usize) -> &'static AtomicU64 {
        assert!(offset.is_multiple_of(8), "{offset:#x} is not aligned");
        self.words.get(offset / 8).expect("the offset is in the pages")
    }

    /// Returns the 32-bit word at a byte offset, which must be aligned.
    pub fn word32(self, offset: usize) -> &'static AtomicU32 {
        let pointer = self.part(offset, 4);
        // SAFETY: `part` checked that it is in the pages and aligned, and the pages stay.
        unsafe { AtomicU32::from_ptr(pointer.cast()) }
    }

    /// Returns the 16-bit word at a byte offset, which must be aligned.
    pub fn word16(self, offset: usize) -> &'static AtomicU16 {
        let pointer = self.part(offset, 2);
        // SAFETY: `part` checked that it is in the pages and aligned, and the pages stay.
        unsafe { AtomicU16::from_ptr(pointer.cast()) }
    }

    /// Returns the byte at an offset.
    pub fn byte(self, offset: usize) -> &'static AtomicU8 {
        let pointer = self.part(offset, 1);
        // SAFETY: `part` checked that it is in the pages, and the pages stay.
        unsafe { AtomicU8::from_ptr(pointer) }
    }

    fn part(self, offset: usize, size: usize) -> *mut u8 {
        assert!(
            offset.is_multiple_of(size) && offset < self.len(),
            "no {size} bytes at {offset:#x}"
        );
        self.words.as_ptr().cast::<u8>().cast_mut().wrapping_add(offset)
    }

    /// Copies bytes out, each of them read once; they must be inside.
    pub fn read(self, offset: usize, to: &mut [u8]) {
        assert!(to.len() <= self.len().saturating_sub(offset), "no such bytes at {offset:#x}");
        let head = offset.next_multiple_of(8).wrapping_sub(offset).min(to.len());
        let (first, rest) = to.split_at_mut(head);
        self.read_bytes(offset, first);
        let (words, last) = rest.as_chunks_mut::<8>();
        let begin = (offset + head) / 8;
        let shared = self.words.get(begin..).unwrap_or_default();
        for (word, shared) in words.iter_mut().zip(shared) {
            *word = shared.load(Ordering::Relaxed).to_ne_bytes();
        }
        self.read_bytes(offset + head + words.len() * 8, last);
    }

    /// Copies bytes in; they must fit inside.
    pub fn write(self, offset: usize, from: &[u8]) {
        assert!(from.len() <= self.len().saturating_sub(offset), "no such bytes at {offset:#x}");
        let head = offset.next_multiple_of(8).wrapping_sub(offset).min(from.len());
        let (first, rest) = from.split_at(head);
        self.write_bytes(offset, first);
        let (words, last) = rest.as_chunks::<8>();
        let begin = (offset + head) / 8;
        let shared = self.words.get(begin..).unwrap_or_default();
        for (word, shared) in words.iter().zip(shared) {
            shared.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        self.write_bytes(offset + head + words.len() * 8, last);
    }

    fn read_bytes(self, offset: usize, to: &mut [u8]) {
        for (index, byte) in to.iter_mut().enumerate() {
            *byte = self.byte(offset + index).load(Ordering::Relaxed);
        }
    }

    fn write_bytes(self, offset: usize, from: &[u8]) {
        for (index, byte) in from.iter().enumerate() {
            self.byte(offset + index).store(*byte, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn bytes_come_back_from_every_alignment() {
        let pages = SharedPages::allocate(2);
        for start in [0, 1, 7, 8, 9, 4090, 8192 - 40] {
            for len in [0, 1, 7, 8, 9, 15, 16, 17, 40] {
                let bytes: Vec<u8> = (1u8..).take(len).collect();
                pages.write(start, &bytes);
                let mut back = vec![0; len];
                pages.read(start, &mut back);
                assert_eq!(back, bytes, "{len} at {start}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "no such bytes")]
    fn reading_past_the_end_is_refused() {
        SharedPages::allocate(1).read(4090, &mut [0; 7]);
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
