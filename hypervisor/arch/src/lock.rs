//! The one kind of lock: a ticket lock. Interrupts are always masked at EL2, so it saves no state.

/// A fair spin lock around a `T`.
pub type Lock<T> = spin::mutex::TicketMutex<T>;
/// What holding a [`Lock`] looks like.
pub type LockGuard<'a, T> = spin::mutex::TicketMutexGuard<'a, T>;
/// A value set once.
pub type Once<T> = spin::once::Once<T>;
