//! How a page stays its owner's while a processor copies from or to it by a translation it looked
//! up.
//!
//! The translation may be taken away at any moment, and the page given to somebody else. So a
//! processor marks that it reaches into memory before it looks translations up, and whoever takes
//! one away waits for the marks: at least one of the two sees what the other stored. `hv-arch`
//! brings the barriers; `loom` tries every order, and every value that a weakly ordered load may
//! return.

use core::sync::atomic::{AtomicU32, Ordering};

/// A word that all processors see; the model has its own.
pub trait Word {
    /// Loads it.
    fn load(&self, ordering: Ordering) -> u32;
    /// Stores to it.
    fn store(&self, value: u32, ordering: Ordering);
}

impl Word for AtomicU32 {
    #[inline(always)]
    fn load(&self, ordering: Ordering) -> u32 {
        Self::load(self, ordering)
    }

    #[inline(always)]
    fn store(&self, value: u32, ordering: Ordering) {
        Self::store(self, value, ordering);
    }
}

/// Begins to reach: any translation looked up from now on may be used until [`end`].
///
/// `reaches` is the processor's own. `barrier` orders the store to it before every later load,
/// table walks included.
#[inline(always)]
pub fn begin<W: Word>(reaches: &W, barrier: impl FnOnce()) {
    // Released as well: who sees this number need not have seen that the reach before it ended.
    reaches.store(reaches.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    barrier();
}

/// Ends what [`begin`] began.
#[inline(always)]
pub fn end<W: Word>(reaches: &W) {
    reaches.store(reaches.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}

/// Waits until a processor does not reach by a translation that it looked up before.
///
/// The caller has taken the translation away, with a full barrier behind it. `relax` is called
/// between two looks.
pub fn wait<W: Word>(reaches: &W, relax: impl Fn()) {
    let seen = reaches.load(Ordering::Acquire);
    // Even: it does not reach. Another number: it has looked its translations up anew.
    while seen % 2 == 1 && reaches.load(Ordering::Acquire) == seen {
        relax();
    }
}

// Miri runs no other stacks than its own, and loom has some.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32 as Modelled, fence};
    use loom::thread;

    impl Word for Modelled {
        fn load(&self, ordering: Ordering) -> u32 {
            Self::load(self, ordering)
        }

        fn store(&self, value: u32, ordering: Ordering) {
            Self::store(self, value, ordering);
        }
    }

    /// Whose the page is, as what is written to it.
    const OLD: u32 = 1;
    const NEW: u32 = 2;

    #[derive(Clone, Copy, Eq, PartialEq)]
    enum Broken {
        None,
        NoBarrierAtBegin,
        NoBarrierAfterChange,
        EndsEarly,
        DoesNotWait,
    }

    /// A processor copies to a page and back, twice, while another unmaps it and gives it away.
    fn unmap_while_copying(broken: Broken) {
        loom::model(move || {
            let [reaches, mapped, page] = [0, 1, OLD].map(|value| Arc::new(Modelled::new(value)));
            let (their_reaches, their_mapped, their_page) =
                (Arc::clone(&reaches), Arc::clone(&mapped), Arc::clone(&page));
            let copier = thread::spawn(move || {
                for _ in 0..2 {
                    begin(&*their_reaches, || {
                        if broken != Broken::NoBarrierAtBegin {
                            fence(Ordering::SeqCst);
                        }
                    });
                    let found = their_mapped.load(Ordering::Relaxed) == 1;
                    if broken == Broken::EndsEarly {
                        end(&*their_reaches);
                    }
                    if found {
                        assert_eq!(their_page.load(Ordering::Relaxed), OLD, "it reads another's");
                        their_page.store(OLD, Ordering::Relaxed);
                    }
                    if broken != Broken::EndsEarly {
                        end(&*their_reaches);
                    }
                }
            });
            mapped.store(0, Ordering::Relaxed);
            if broken != Broken::NoBarrierAfterChange {
                fence(Ordering::SeqCst);
            }
            if broken != Broken::DoesNotWait {
                wait(&*reaches, thread::yield_now);
            }
            page.store(NEW, Ordering::Relaxed);
            copier.join().expect("what it asserts holds");
            assert_eq!(page.load(Ordering::Relaxed), NEW, "it writes to another's");
        });
    }

    #[test]
    fn a_copy_never_reaches_a_page_that_was_given_away() {
        unmap_while_copying(Broken::None);
    }

    #[test]
    #[should_panic(expected = "another's")]
    fn the_model_notices_a_missing_barrier_before_looking_up() {
        unmap_while_copying(Broken::NoBarrierAtBegin);
    }

    #[test]
    #[should_panic(expected = "another's")]
    fn the_model_notices_a_missing_barrier_after_taking_away() {
        unmap_while_copying(Broken::NoBarrierAfterChange);
    }

    #[test]
    #[should_panic(expected = "another's")]
    fn the_model_notices_a_reach_that_ends_before_the_copy() {
        unmap_while_copying(Broken::EndsEarly);
    }

    #[test]
    #[should_panic(expected = "another's")]
    fn the_model_notices_that_nobody_waits() {
        unmap_while_copying(Broken::DoesNotWait);
    }
}
