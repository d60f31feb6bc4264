//! Barriers, and waiting.

use core::arch::asm;

/// Completes all memory accesses and maintenance, as the whole system sees them.
#[inline(always)]
pub fn dsb_sy() {
    // SAFETY: a barrier only orders what comes before and after it.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Completes all memory accesses and maintenance, as the inner-shareable domain sees them.
#[inline(always)]
pub fn dsb_ish() {
    // SAFETY: a barrier only orders what comes before and after it.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
}

/// Completes all stores, as the inner-shareable domain (table walks included) sees them.
#[inline(always)]
pub fn dsb_ishst() {
    // SAFETY: a barrier only orders what comes before and after it.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
}

/// Makes changes of system registers hold for what follows.
#[inline(always)]
pub fn isb() {
    // SAFETY: a barrier only orders what comes before and after it.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}
