//! Copies between the guest's own memory and pages that others may write meanwhile, by `copy.S`, which also has what the compiler calls to copy,
//! fill and compare memory.

use core::arch::global_asm;

global_asm!(include_str!("copy.S"));

unsafe extern "C" {
    /// Copies bytes, each read once and written once; in `copy.S`. To the compiler it is a function that it knows nothing of, unlike `memcpy`,
    /// and what others write meanwhile changes nothing but the bytes that are copied.
    fn guest_copy(to: *mut u8, from: *const u8, length: usize);
}

/// Copies shared bytes out, each of them read once.
///
/// # Safety
///
/// There must be as many bytes from `shared` on, in memory that is reached only by atomics and by these copies.
pub(crate) unsafe fn out(shared: *const u8, to: &mut [u8]) {
    // SAFETY: the caller vouches for what is read; what is written is borrowed for it.
    unsafe { guest_copy(to.as_mut_ptr(), shared, to.len()) };
}

/// Copies bytes to where they are shared, each of them written once.
///
/// # Safety
///
/// There must be as many bytes from `shared` on, in memory that is reached only by atomics and by these copies.
pub(crate) unsafe fn into(from: &[u8], shared: *mut u8) {
    // SAFETY: the caller vouches for what is written; what is read is borrowed for it.
    unsafe { guest_copy(shared, from.as_ptr(), from.len()) };
}
