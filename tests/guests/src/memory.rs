//! The library's own routines (`copy.S`): what it does to shared pages, and what the compiler calls to copy, fill and compare.
//!
//! Lengths are hidden from the compiler, so that it calls the routines; what is expected is worked out for each byte, by none of them.

use crate::suite::{Outcome, Suite, check};
use alloc::format;
use alloc::vec;
use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::Ordering;
use pv_guest_lib::page::{PAGE_SIZE, SharedPages};

/// Both places' distances from a multiple of 16.
const STARTS: Range<usize> = 0..9;
/// Bytes at most: the widest loop twice or three times, and every rest.
const LONGEST: usize = 200;
/// Bytes of which a part is written.
const ROOM: usize = 256;

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("bytes are copied, whatever the alignments and the length", copy);
    suite.test("bytes are moved over themselves, upwards and downwards", move_over_itself);
    suite.test("bytes are filled", fill);
    suite.test("bytes are compared", compare);
    suite.test("bytes are read from a shared page", read_page);
    suite.test("bytes are written to a shared page", write_page);
    suite.test("whole pages are written and read", whole_pages);
    suite.finish();
}

/// A place whose alignment is known.
#[repr(align(16))]
struct Place([u8; ROOM]);

/// A byte that is unlike its neighbours, and unlike that of another seed.
fn pattern(seed: usize, index: usize) -> u8 {
    u8::try_from((index * 7 + seed * 101) % 251).unwrap_or_default()
}

impl Place {
    fn new(seed: usize) -> Self {
        let mut place = Self([0; ROOM]);
        place.reset(seed);
        place
    }

    fn reset(&mut self, seed: usize) {
        for (index, byte) in self.0.iter_mut().enumerate() {
            *byte = pattern(seed, index);
        }
    }

    fn part(&mut self, start: usize, len: usize) -> &mut [u8] {
        self.0.get_mut(start..start + black_box(len)).expect("it is in the place")
    }

    /// Returns whether each byte is what it should be.
    fn is(&self, expected: impl Fn(usize) -> u8) -> bool {
        self.0.iter().enumerate().all(|(index, byte)| *byte == expected(index))
    }
}

/// Returns what pattern 2 is after bytes of pattern 1, from `from` on, were copied to `to`.
fn copied(from: usize, to: usize, len: usize) -> impl Fn(usize) -> u8 {
    move |index| {
        let there = (to..to + len).contains(&index);
        if there { pattern(1, from + index - to) } else { pattern(2, index) }
    }
}

/// Does something with each pair of distances and each length.
fn shapes(mut work: impl FnMut(usize, usize, usize) -> Outcome) -> Outcome {
    for from in STARTS {
        for to in STARTS {
            for len in 0..=LONGEST {
                work(from, to, len)?;
            }
        }
    }
    Ok(())
}

fn copy() -> Outcome {
    let (mut source, mut place) = (Place::new(1), Place::new(2));
    shapes(|from, to, len| {
        place.reset(2);
        place.part(to, len).copy_from_slice(source.part(from, len));
        check!(place.is(copied(from, to, len)), "{len} bytes from {from} to {to}");
        Ok(())
    })
}

fn move_over_itself() -> Outcome {
    let mut place = Place::new(1);
    for distance in [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100] {
        for start in STARTS.step_by(3) {
            for len in 0..=140 {
                for (from, to) in [(start, start + distance), (start + distance, start)] {
                    place.reset(1);
                    place.0.copy_within(from..from + black_box(len), to);
                    let moved = |index| {
                        let there = (to..to + len).contains(&index);
                        pattern(1, if there { from + index - to } else { index })
                    };
                    check!(place.is(moved), "{len} bytes from {from} to {to}");
                }
            }
        }
    }
    Ok(())
}

fn fill() -> Outcome {
    let mut place = Place::new(2);
    for start in STARTS {
        for len in 0..=LONGEST {
            for value in [0, 0x81, 0xff] {
                place.reset(2);
                place.part(start, len).fill(black_box(value));
                let filled = |index| {
                    let there = (start..start + len).contains(&index);
                    if there { value } else { pattern(2, index) }
                };
                check!(place.is(filled), "{len} bytes of {value} at {start}");
            }
        }
    }
    Ok(())
}

fn compare() -> Outcome {
    let (mut one, mut other) = (Place::new(1), Place::new(2));
    for (start, to) in [(0, 0), (0, 8), (0, 1), (3, 3), (5, 2), (7, 8)] {
        for len in 0..=40 {
            // What stands around them differs and does not count.
            other.reset(2);
            other.part(to, len).copy_from_slice(one.part(start, len));
            let (left, right) = (one.part(start, len), other.part(to, len));
            check!(left == right, "{len} bytes at {start} and {to} are the same");
            check!((*left).cmp(right).is_eq(), "{len} bytes at {start} and {to} are the same");
            for at in 0..len {
                for change in [1_u8, 0x80, 0xff] {
                    let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
                    let mut set = |at: usize, change: u8| {
                        if let Some(to) = right.get_mut(at) {
                            *to = byte(left, at).wrapping_add(change);
                        }
                    };
                    // The first that differs decides, and not the last, which differs the other way.
                    set(len - 1, change.wrapping_neg());
                    set(at, change);
                    let what = || format!("{len} bytes at {start} and {to}, {change} more at {at}");
                    let order = byte(left, at).cmp(&byte(right, at));
                    check!(left != right, "{}", what());
                    check!((*left).cmp(right) == order, "{}", what());
                    check!((*right).cmp(left) == order.reverse(), "{}", what());
                    let mut restore = |at: usize| {
                        if let Some(to) = right.get_mut(at) {
                            *to = byte(left, at);
                        }
                    };
                    restore(len - 1);
                    restore(at);
                }
            }
        }
    }
    Ok(())
}

/// Gives the first bytes of a shared page a pattern, one by one.
fn reset(pages: SharedPages, seed: usize) {
    for offset in 0..ROOM {
        pages.byte(offset).store(pattern(seed, offset), Ordering::Relaxed);
    }
}

fn read_page() -> Outcome {
    let (pages, mut place) = (SharedPages::allocate(1), Place::new(2));
    reset(pages, 1);
    shapes(|from, to, len| {
        place.reset(2);
        pages.read(from, place.part(to, len));
        check!(place.is(copied(from, to, len)), "{len} bytes from {from} to {to}");
        Ok(())
    })
}

fn write_page() -> Outcome {
    let (mut source, pages) = (Place::new(1), SharedPages::allocate(1));
    shapes(|from, to, len| {
        reset(pages, 2);
        pages.write(to, source.part(from, len));
        let expected = copied(from, to, len);
        let right = |offset| pages.byte(offset).load(Ordering::Relaxed) == expected(offset);
        check!((0..ROOM).all(right), "{len} bytes from {from} to {to}");
        Ok(())
    })
}

fn whole_pages() -> Outcome {
    let pages = SharedPages::allocate(3);
    let mut bytes = vec![0; 3 * PAGE_SIZE];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = pattern(3, index);
    }
    pages.write(0, &bytes);
    let right = |offset| pages.byte(offset).load(Ordering::Relaxed) == pattern(3, offset);
    check!((0..bytes.len()).all(right), "what was written");
    let mut back = vec![0; 3 * PAGE_SIZE];
    pages.read(0, &mut back);
    let right = back.iter().enumerate().all(|(index, byte)| *byte == pattern(3, index));
    check!(right, "what was read");
    Ok(())
}
