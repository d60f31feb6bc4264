//! The one kind of lock: it spins. Interrupts are always masked at EL2, so it saves no state.
//!
//! It is not fair. A fair lock passes to the processor that has waited longest, and where processors are
//! threads of a busy emulator that one is often not running: each handover then costs a time slice of
//! the host (measured: 30 ms with 8 processors on 2 busy ones, against microseconds).

/// A spin lock around a `T`.
pub type Lock<T> = spin::mutex::SpinMutex<T>;
/// What holding a [`Lock`] looks like.
pub type LockGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
/// A value set once.
pub type Once<T> = spin::once::Once<T>;
