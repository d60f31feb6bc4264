//! Whole pages of the guest's memory.

use crate::map;
use alloc::alloc::{Layout, alloc_zeroed};
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// Bytes of a page.
pub const SIZE: u64 = 4096;

/// A page that others may write at any time: it can be reached only by atomics.
#[derive(Clone, Copy)]
pub struct SharedPage {
    words: &'static [AtomicU64; 512],
}

impl SharedPage {
    /// Allocates a zeroed page; it is never freed, since others may keep it.
    pub fn allocate() -> Self {
        Self::allocate_many(1)
    }

    /// Allocates `count` zeroed pages in a row and returns the first.
    pub fn allocate_many(count: usize) -> Self {
        let layout = Layout::from_size_align(4096 * count, 4096).expect("a page is a valid layout");
        // SAFETY: the layout has a size.
        let memory = unsafe { alloc_zeroed(layout) };
        assert!(!memory.is_null(), "no memory for a page");
        // SAFETY: the page was just allocated, zero is a valid value, and it is never freed.
        Self { words: unsafe { &*memory.cast() } }
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
        assert!(offset.is_multiple_of(8), "{offset:#x} is not aligned");
        self.words.get(offset / 8).expect("the offset is in the page")
    }

    /// Returns the 32-bit word at a byte offset, which must be aligned.
    pub fn word32(self, offset: usize) -> &'static AtomicU32 {
        let pointer = self.part(offset, 4);
        // SAFETY: `part` checked that it is in the page and aligned, and the page stays.
        unsafe { AtomicU32::from_ptr(pointer.cast()) }
    }

    /// Returns the 16-bit word at a byte offset, which must be aligned.
    pub fn word16(self, offset: usize) -> &'static AtomicU16 {
        let pointer = self.part(offset, 2);
        // SAFETY: `part` checked that it is in the page and aligned, and the page stays.
        unsafe { AtomicU16::from_ptr(pointer.cast()) }
    }

    /// Returns the byte at an offset.
    pub fn byte(self, offset: usize) -> &'static AtomicU8 {
        let pointer = self.part(offset, 1);
        // SAFETY: `part` checked that it is in the page, and the page stays.
        unsafe { AtomicU8::from_ptr(pointer) }
    }

    fn part(self, offset: usize, size: usize) -> *mut u8 {
        assert!(offset.is_multiple_of(size) && offset < 4096, "no {size} bytes at {offset:#x}");
        self.words.as_ptr().cast::<u8>().cast_mut().wrapping_add(offset)
    }
}
