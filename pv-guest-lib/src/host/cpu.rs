//! Stands in for the processor where the library's logic is tested.

/// Runs `work`: there are no interrupts to keep out.
pub(crate) fn without_interrupts<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Gives way for a moment.
pub(crate) fn relax() {
    core::hint::spin_loop();
}
