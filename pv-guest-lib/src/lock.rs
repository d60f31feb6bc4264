//! A lock that also keeps interrupts out, so that handlers may take it.

use crate::cpu;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that one processor at a time can reach, with its interrupts kept out.
///
/// It is held for the time of a closure. Taking it again inside that closure would wait for ever.
pub struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by whoever holds the lock, one at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// Makes a lock around a value.
    pub const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `work` on the value.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        cpu::without_interrupts(|| {
            while self.taken.swap(true, Ordering::Acquire) {
                cpu::relax();
            }
            // SAFETY: the flag was false and is ours now, until it is put back below.
            let result = work(unsafe { &mut *self.value.get() });
            self.taken.store(false, Ordering::Release);
            result
        })
    }

    /// Runs `work` on the value, unless somebody has it.
    pub fn try_with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        cpu::without_interrupts(|| {
            if self.taken.swap(true, Ordering::Acquire) {
                return None;
            }
            // SAFETY: the flag was false and is ours now, until it is put back below.
            let result = work(unsafe { &mut *self.value.get() });
            self.taken.store(false, Ordering::Release);
            Some(result)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns() {
        static COUNT: Lock<u32> = Lock::new(0);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..100 {
                        COUNT.with(|count| *count += 1);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(COUNT.with(|count| *count), 400);
    }
}
