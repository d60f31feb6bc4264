//! Who tells whom: the two sides' agreement by which neither sleeps while the other has something for it.
//!
//! A producer stores its index and then reads the consumer's wish; a consumer stores its wish and then reads the index. With a full fence
//! between the two steps on either side, at least one of them sees the other's store. `loom` tries every order.

use core::sync::atomic::{AtomicU32, Ordering, fence};

/// A word that both sides reach.
pub(super) trait Word {
    /// Loads it.
    fn load(&self, ordering: Ordering) -> u32;
    /// Stores it.
    fn store(&self, value: u32, ordering: Ordering);
    /// Orders what comes before against what comes after.
    fn fence();
}

impl Word for AtomicU32 {
    fn load(&self, ordering: Ordering) -> u32 {
        Self::load(self, ordering)
    }

    fn store(&self, value: u32, ordering: Ordering) {
        Self::store(self, value, ordering);
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// Moves a producer index from `before` to `now`; returns whether the consumer wished to be told.
pub(super) fn publish<W: Word>(index: &W, wish: &W, before: u32, now: u32) -> bool {
    index.store(now, Ordering::Release);
    W::fence();
    let wish = wish.load(Ordering::Relaxed);
    now.wrapping_sub(wish) < now.wrapping_sub(before)
}

/// Wishes to be told of anything beyond `consumed`; returns the producer's index as it is after that.
pub(super) fn rearm<W: Word>(index: &W, wish: &W, consumed: u32) -> u32 {
    wish.store(consumed.wrapping_add(1), Ordering::Relaxed);
    W::fence();
    index.load(Ordering::Acquire)
}

// Miri runs no other stacks than its own, and loom has some.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32 as Modelled;

    impl Word for Modelled {
        fn load(&self, ordering: Ordering) -> u32 {
            Self::load(self, ordering)
        }

        fn store(&self, value: u32, ordering: Ordering) {
            Self::store(self, value, ordering);
        }

        fn fence() {
            loom::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    #[test]
    fn nobody_sleeps_while_there_is_something_for_it() {
        loom::model(|| {
            let index = Arc::new(Modelled::new(0));
            let wish = Arc::new(Modelled::new(0));
            let (producers_index, producers_wish) = (Arc::clone(&index), Arc::clone(&wish));
            let producer =
                loom::thread::spawn(move || publish(&*producers_index, &*producers_wish, 0, 1));
            let seen = rearm(&*index, &*wish, 0);
            let told = producer.join().unwrap();
            assert!(seen == 1 || told, "the consumer sleeps and was not told");
        });
    }

    #[test]
    fn what_was_written_before_an_index_is_seen_with_it() {
        loom::model(|| {
            let slot = Arc::new(Modelled::new(0));
            let index = Arc::new(Modelled::new(0));
            let wish = Arc::new(Modelled::new(1));
            let (producers_slot, producers_index, producers_wish) =
                (Arc::clone(&slot), Arc::clone(&index), Arc::clone(&wish));
            let producer = loom::thread::spawn(move || {
                producers_slot.store(7, Ordering::Relaxed);
                let _ = publish(&*producers_index, &*producers_wish, 0, 1);
            });
            if index.load(Ordering::Acquire) == 1 {
                assert_eq!(slot.load(Ordering::Relaxed), 7);
            }
            producer.join().unwrap();
        });
    }

    #[test]
    fn two_requests_in_a_row_wake_a_consumer_once_at_least() {
        loom::model(|| {
            let index = Arc::new(Modelled::new(0));
            let wish = Arc::new(Modelled::new(0));
            let (producers_index, producers_wish) = (Arc::clone(&index), Arc::clone(&wish));
            let producer = loom::thread::spawn(move || {
                let first = publish(&*producers_index, &*producers_wish, 0, 1);
                let second = publish(&*producers_index, &*producers_wish, 1, 2);
                u32::from(first) + u32::from(second)
            });
            let mut consumed = 0;
            let mut seen = rearm(&*index, &*wish, consumed);
            while seen != consumed {
                consumed = seen;
                seen = rearm(&*index, &*wish, consumed);
            }
            let told = producer.join().unwrap();
            assert!(consumed == 2 || told > 0, "it sleeps after {consumed} and was not told");
        });
    }
}
