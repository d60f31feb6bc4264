//! The two-level ABI: a selector per vCPU, a bit per port.

use crate::shared_info::{mask_word, pending_selector, pending_word};
use core::sync::atomic::Ordering;

fn place(port: u32) -> (usize, u64) {
    (usize::try_from(port / 64).unwrap_or(usize::MAX), 1 << (port % 64))
}

/// Takes every pending, unmasked port of a processor.
pub(super) fn scan(number: usize, mut take: impl FnMut(u32)) {
    let Some(selector) = pending_selector(number) else { return };
    let mut words = selector.swap(0, Ordering::SeqCst);
    while words != 0 {
        let word = words.trailing_zeros();
        words &= words - 1;
        let index = usize::try_from(word).unwrap_or(usize::MAX);
        loop {
            let pending = pending_word(index).load(Ordering::SeqCst);
            let ready = pending & !mask_word(index).load(Ordering::SeqCst);
            if ready == 0 {
                break;
            }
            let bit = ready.trailing_zeros();
            pending_word(index).fetch_and(!(1 << bit), Ordering::SeqCst);
            take(word * 64 + bit);
        }
    }
}

pub(super) fn mask(port: u32) {
    let (word, bit) = place(port);
    mask_word(word).fetch_or(bit, Ordering::SeqCst);
}

pub(super) fn is_masked(port: u32) -> bool {
    let (word, bit) = place(port);
    mask_word(word).load(Ordering::SeqCst) & bit != 0
}

pub(super) fn is_pending(port: u32) -> bool {
    let (word, bit) = place(port);
    pending_word(word).load(Ordering::SeqCst) & bit != 0
}

pub(super) fn clear(port: u32) {
    let (word, bit) = place(port);
    pending_word(word).fetch_and(!bit, Ordering::SeqCst);
}
