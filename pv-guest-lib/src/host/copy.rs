//! Stands in for the guest's copies where the library's logic is tested: the same by atomics, which whoever looks for undefined behaviour understands.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Returns how many of `length` bytes come before the first whole word.
fn head(shared: *const u8, length: usize) -> usize {
    (shared.addr().wrapping_neg() % 8).min(length)
}

/// Copies shared bytes out, each of them read once.
///
/// # Safety
///
/// There must be as many bytes from `shared` on, in memory that is reached only by atomics and by these copies.
pub(crate) unsafe fn out(shared: *const u8, to: &mut [u8]) {
    let mut from = shared.cast_mut();
    let (first, rest) = to.split_at_mut(head(shared, to.len()));
    let (words, last) = rest.as_chunks_mut::<8>();
    let bytes = |to: &mut [u8], from: &mut *mut u8| {
        for byte in to {
            // SAFETY: it is one of the caller's shared bytes.
            *byte = unsafe { AtomicU8::from_ptr(*from) }.load(Ordering::Relaxed);
            *from = from.wrapping_add(1);
        }
    };
    bytes(first, &mut from);
    for word in words {
        // SAFETY: these are eight of the caller's shared bytes, and `head` bytes on they are aligned.
        let shared = unsafe { AtomicU64::from_ptr(from.cast()) };
        *word = shared.load(Ordering::Relaxed).to_ne_bytes();
        from = from.wrapping_add(8);
    }
    bytes(last, &mut from);
}

/// Copies bytes to where they are shared, each of them written once.
///
/// # Safety
///
/// There must be as many bytes from `shared` on, in memory that is reached only by atomics and by these copies.
pub(crate) unsafe fn into(from: &[u8], shared: *mut u8) {
    let mut to = shared;
    let (first, rest) = from.split_at(head(shared, from.len()));
    let (words, last) = rest.as_chunks::<8>();
    let bytes = |from: &[u8], to: &mut *mut u8| {
        for byte in from {
            // SAFETY: it is one of the caller's shared bytes.
            unsafe { AtomicU8::from_ptr(*to) }.store(*byte, Ordering::Relaxed);
            *to = to.wrapping_add(1);
        }
    };
    bytes(first, &mut to);
    for word in words {
        // SAFETY: these are eight of the caller's shared bytes, and `head` bytes on they are aligned.
        let shared = unsafe { AtomicU64::from_ptr(to.cast()) };
        shared.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        to = to.wrapping_add(8);
    }
    bytes(last, &mut to);
}
