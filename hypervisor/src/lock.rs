//! The one kind of lock: first come, first served.
//!
//! The hypervisor runs with interrupts masked, so a lock is never taken twice by one processor
//! unless the code does it; which may be held together, and in what order, `state.rs` says.

use spin::mutex::{TicketMutex, TicketMutexGuard};

/// A value that one processor at a time may touch.
#[derive(Debug, Default)]
pub struct Lock<T>(TicketMutex<T>);

/// Access to a locked value, until dropped.
pub type Guard<'a, T> = TicketMutexGuard<'a, T>;

impl<T> Lock<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(TicketMutex::new(value))
    }

    /// Waits for the value.
    pub fn lock(&self) -> Guard<'_, T> {
        self.0.lock()
    }

    /// Takes the value if nobody has it.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.0.try_lock()
    }
}
