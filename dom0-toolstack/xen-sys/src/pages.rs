//! Pages that somebody else may change while we look: guest memory, grants, hypercall buffers.
//!
//! No reference into them is ever formed. Words are read and written as atomics, bytes are copied.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mlock, mmap, mmap_anonymous, munmap};

/// A mapping of shared pages, unmapped on drop.
///
/// Offsets and lengths out of range panic, as slices do: they are the caller's own numbers. An offset
/// that a guest chose must be bounded first.
#[derive(Debug)]
pub struct SharedPages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, and all access is by atomics and copies.
unsafe impl Send for SharedPages {}
// SAFETY: as above; concurrent access through `&self` is what the type is for.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Maps `length` bytes of `fd` from `offset`, shared, for reading and, if `writable`, writing.
    pub(crate) fn map(
        fd: impl AsFd,
        offset: u64,
        length: usize,
        writable: bool,
    ) -> Result<Self, Errno> {
        let protection =
            if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: the kernel picks a free address, so no existing memory is touched.
        let start = unsafe { mmap(null_mut(), length, protection, MapFlags::SHARED, fd, offset)? };
        Self::from_mapping(start, length)
    }

    /// Maps the first `length` bytes of a file for reading, brought in already as far as there is room.
    pub fn of_file(file: impl AsFd, length: usize) -> Result<Self, Errno> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel picks a free address, so no existing memory is touched.
        let start = unsafe { mmap(null_mut(), length, ProtFlags::READ, flags, file, 0)? };
        Self::from_mapping(start, length)
    }

    /// Allocates `length` zeroed bytes of ordinary memory that stay resident.
    pub fn anonymous(length: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel picks a free address, so no existing memory is touched.
        let start = unsafe { mmap_anonymous(null_mut(), length, protection, MapFlags::SHARED)? };
        let pages = Self::from_mapping(start, length)?;
        // SAFETY: the range is the mapping just made. Locking is a wish: a refused one leaves the memory usable.
        let _ = unsafe { mlock(pages.start.as_ptr().cast(), length) };
        pages.fill(0, 0, length); // touched, so that every page is there and writable
        Ok(pages)
    }

    fn from_mapping(start: *mut c_void, length: usize) -> Result<Self, Errno> {
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { start, length })
    }

    /// Length of the mapping in bytes.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether the mapping has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The address of the first byte, for the kernel's or the hypervisor's use.
    pub fn address(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// Copies the bytes at `offset` into `bytes`.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        let source = self.at(offset, bytes.len());
        // SAFETY: `at` bounds the source, `bytes` is exclusive, and the two cannot overlap since no Rust
        // object lives inside the mapping. Torn bytes are possible and harmless: any byte is a valid u8.
        unsafe { source.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Copies `bytes` to `offset`.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let target = self.at(offset, bytes.len());
        // SAFETY: `at` bounds the target, and no Rust object lives inside the mapping.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Sets `length` bytes at `offset` to `value`.
    pub fn fill(&self, value: u8, offset: usize, length: usize) {
        let target = self.at(offset, length);
        // SAFETY: `at` bounds the target, and no Rust object lives inside the mapping.
        unsafe { target.write_bytes(value, length) };
    }

    /// Reads up to `length` bytes of `file` from `file_offset` straight into the pages at `offset`.
    ///
    /// Returns how many bytes there were before the file's end.
    pub fn read_file(
        &self,
        offset: usize,
        length: usize,
        file: BorrowedFd<'_>,
        file_offset: u64,
    ) -> Result<usize, Errno> {
        let target = self.at(offset, length);
        let mut done = 0;
        while done < length {
            let position =
                i64::try_from(file_offset + done as u64).map_err(|_overflow| Errno::OVERFLOW)?;
            // SAFETY: `done < length` and `at` bounded `length` bytes from `target`.
            let place = unsafe { target.add(done) };
            // SAFETY: the kernel writes at most `length - done` bytes at `place`, all inside the mapping.
            let answer =
                unsafe { libc::pread(file.as_raw_fd(), place.cast(), length - done, position) };
            match usize::try_from(answer) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_negative) => {
                    let error = std::io::Error::last_os_error();
                    match Errno::from_io_error(&error) {
                        Some(Errno::INTR) => {}
                        errno => return Err(errno.unwrap_or(Errno::IO)),
                    }
                }
            }
        }
        Ok(done)
    }

    /// Loads the word at `offset`; what the other side wrote before it is visible after.
    pub fn load_u16(&self, offset: usize) -> u16 {
        self.atomic_u16(offset).load(Ordering::Acquire)
    }

    /// Stores a word at `offset`; what we wrote before it is visible to whoever sees it.
    pub fn store_u16(&self, offset: usize, value: u16) {
        self.atomic_u16(offset).store(value, Ordering::Release);
    }

    /// Loads the word at `offset`; what the other side wrote before it is visible after.
    pub fn load_u32(&self, offset: usize) -> u32 {
        self.atomic_u32(offset).load(Ordering::Acquire)
    }

    /// Stores a word at `offset`; what we wrote before it is visible to whoever sees it.
    pub fn store_u32(&self, offset: usize, value: u32) {
        self.atomic_u32(offset).store(value, Ordering::Release);
    }

    /// Loads the word at `offset`; what the other side wrote before it is visible after.
    pub fn load_u64(&self, offset: usize) -> u64 {
        self.atomic_u64(offset).load(Ordering::Acquire)
    }

    /// Stores a word at `offset`; what we wrote before it is visible to whoever sees it.
    pub fn store_u64(&self, offset: usize, value: u64) {
        self.atomic_u64(offset).store(value, Ordering::Release);
    }

    fn atomic_u16(&self, offset: usize) -> &AtomicU16 {
        let place = self.aligned(offset, size_of::<u16>()).cast();
        // SAFETY: in bounds and aligned by `aligned`, and alive as long as `self`.
        unsafe { AtomicU16::from_ptr(place) }
    }

    fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let place = self.aligned(offset, size_of::<u32>()).cast();
        // SAFETY: in bounds and aligned by `aligned`, and alive as long as `self`.
        unsafe { AtomicU32::from_ptr(place) }
    }

    fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        let place = self.aligned(offset, size_of::<u64>()).cast();
        // SAFETY: in bounds and aligned by `aligned`, and alive as long as `self`.
        unsafe { AtomicU64::from_ptr(place) }
    }

    fn aligned(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(offset.is_multiple_of(size), "offset {offset:#x} is not aligned to {size}");
        self.at(offset, size)
    }

    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.length),
            "{length} bytes at {offset:#x} do not lie in a mapping of {:#x}",
            self.length
        );
        // SAFETY: `offset` is inside the mapping, or one past its end where `length` is 0.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made on construction; nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours could not be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn words_and_bytes_are_the_same_memory() {
        let pages = SharedPages::anonymous(4096).unwrap();
        pages.store_u32(8, 0x0403_0201);
        let mut bytes = [0; 4];
        pages.read(8, &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4]);
        pages.write(4088, &[0xff; 8]);
        assert_eq!(pages.load_u64(4088), u64::MAX);
        pages.fill(0, 4090, 2);
        assert_eq!(pages.load_u16(4090), 0);
    }

    #[test]
    #[should_panic(expected = "do not lie in a mapping")]
    fn a_copy_over_the_end_is_refused() {
        SharedPages::anonymous(4096).unwrap().write(4090, &[0; 8]);
    }

    #[test]
    #[should_panic(expected = "not aligned")]
    fn a_word_must_be_aligned() {
        SharedPages::anonymous(4096).unwrap().load_u32(2);
    }

    #[test]
    fn a_file_is_read_until_it_ends() {
        let mut path = std::env::temp_dir();
        path.push(format!("xen-sys-pages-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(b"0123456789").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let pages = SharedPages::anonymous(4096).unwrap();
        assert_eq!(pages.read_file(100, 50, file.as_fd(), 4), Ok(6));
        let mut bytes = [0; 7];
        pages.read(100, &mut bytes);
        assert_eq!(&bytes, b"456789\0");
        std::fs::remove_file(path).unwrap();
    }
}
