//! The one kind of lock: it spins, and is not fair.
//!
//! A fair lock passes to the processor that has waited longest, and where processors are threads of a
//! busy emulator that one is often not running: each handover then costs a time slice of the host
//! (measured: 30 ms with 8 processors on 2 busy ones, against microseconds).
//!
//! Nobody starves for it. A guest can have a processor take a lock again and again, but each time
//! only by another trap or call, most of which is spent without the lock; whoever spins reads the
//! word all the time and has the line as soon as the lock is free. So each handover is a chance of
//! about one in as many as wait, at most 16: to miss a thousand of them, a millisecond's worth, has
//! odds of 10^-28. What is done under a lock is bounded (`state.rs`), and a longer one looks for
//! interrupts in between.
//!
//! The hypervisor runs with interrupts masked, so a lock is never taken twice by one processor
//! unless the code does it; which may be held together, and in what order, `state.rs` says.

use crate::machine::{self, Relax};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// A value that one processor at a time may touch.
#[derive(Debug, Default)]
pub struct Lock<T>(SpinMutex<T, Relax>);

/// Access to a locked value, until dropped.
pub type Guard<'a, T> = SpinMutexGuard<'a, T, Relax>;

impl<T> Lock<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Waits for the value.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        machine::step();
        self.0.lock()
    }

    /// Takes the value if nobody has it.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        machine::step();
        self.0.try_lock()
    }
}
