//! Cache maintenance by address, to the point of coherency.

use crate::barrier::dsb_sy;
use crate::regs::CtrEl0;
use core::arch::asm;

/// Returns the size of the smallest data cache line, in bytes.
#[inline]
pub(crate) fn line_size() -> u64 {
    4 << ((CtrEl0::get() >> 16) & 0xf)
}

/// Writes the lines that hold `len` bytes from the virtual address `start` back and forgets them.
pub(crate) fn clean_and_invalidate(start: u64, len: u64) {
    let line = line_size();
    let end = start.saturating_add(len);
    let mut at = start & !(line - 1);
    while at < end {
        // SAFETY: writing a line back and forgetting it changes no value that can be read; callers
        // pass mapped addresses.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += line;
    }
    dsb_sy();
}

/// Forgets all instructions cached by any processor of the inner-shareable domain.
pub fn invalidate_instructions() {
    // SAFETY: instructions are fetched anew from memory, which holds the same.
    unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
