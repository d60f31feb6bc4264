//! The one kind of lock: it spins. Interrupts are always masked at EL2, so it saves no state.
//!
//! It is not fair. A fair lock passes to the processor that has waited longest, and where processors are
//! threads of a busy emulator that one is often not running: each handover then costs a time slice of
//! the host (measured: 30 ms with 8 processors on 2 busy ones, against microseconds).

use core::arch::asm;

/// Waits for a lock: tells the processor, and an emulator, that somebody else has to get on first.
///
/// An emulator that runs all processors in turn on one thread (QEMU with `-icount`) goes on to the next
/// at a `yield`; without one the waiting processor has its whole turn, seconds of virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Relax;

impl spin::RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        // SAFETY: a hint changes nothing.
        unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
        core::hint::spin_loop();
    }
}

/// A spin lock around a `T`.
pub type Lock<T> = spin::mutex::SpinMutex<T, Relax>;
/// What holding a [`Lock`] looks like.
pub type LockGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T, Relax>;
/// A value set once.
pub type Once<T> = spin::once::Once<T>;
