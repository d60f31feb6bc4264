//! The processor that runs this: its number, its interrupts, its few instructions.

use core::arch::asm;

/// vCPUs a guest can use; `image.ld` has as many stacks.
pub const MAX_CPUS: usize = 8;

/// Reads a system register, which must exist and be readable at EL1.
#[macro_export]
macro_rules! system_register {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading a system register changes nothing that Rust knows of.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
        value
    }};
}

/// Returns this processor's number, from 0.
pub fn number() -> usize {
    usize::try_from(system_register!("tpidr_el1")).expect("a register fits usize")
}

/// Returns this processor's affinity, as PSCI and the interrupt controller name it.
pub fn affinity() -> u64 {
    system_register!("mpidr_el1") & 0xff_00ff_ffff
}

/// Lets interrupts in.
pub fn enable_interrupts() {
    // SAFETY: the vectors are set, and handlers save every register they use.
    unsafe { asm!("msr daifclr, #0b10", options(nostack)) };
}

/// Keeps interrupts out.
pub fn disable_interrupts() {
    // SAFETY: fewer interrupts change nothing that Rust knows of.
    unsafe { asm!("msr daifset, #0b10", options(nostack)) };
}

/// Runs `work` with interrupts kept out, then restores what was.
pub fn without_interrupts<R>(work: impl FnOnce() -> R) -> R {
    let before = system_register!("daif");
    disable_interrupts();
    let result = work();
    if before & 1 << 7 == 0 {
        enable_interrupts();
    }
    result
}

/// Waits for an interrupt, which need not be let in.
pub fn wait_for_interrupt() {
    // SAFETY: the instruction only waits; the barrier makes stores before it visible.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
}

/// Waits for an event of another processor, or for nothing at all.
pub fn wait_for_event() {
    // SAFETY: the instruction only waits.
    unsafe { asm!("wfe", options(nostack)) };
}

/// Gives way for a moment.
pub fn relax() {
    // SAFETY: the instruction is a hint.
    unsafe { asm!("yield", options(nostack, nomem)) };
}

/// Waits until stores and system register writes before it have taken effect.
pub fn synchronize() {
    // SAFETY: barriers change nothing that Rust knows of.
    unsafe { asm!("dsb sy", "isb", options(nostack)) };
}

/// Returns where the caller's frame record is.
pub(crate) fn frame_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: copying a register changes nothing.
    unsafe { asm!("mov {}, x29", out(reg) pointer, options(nostack, nomem)) };
    pointer
}
