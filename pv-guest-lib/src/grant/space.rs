//! Address space for other domains' pages: which part of it is free.

use alloc::collections::BTreeMap;

/// Free ranges of page numbers.
#[derive(Debug, Default)]
pub struct Space {
    /// Length by start; no two touch.
    free: BTreeMap<u64, u64>,
}

impl Space {
    /// Makes one in which nothing is free.
    pub const fn new() -> Self {
        Self { free: BTreeMap::new() }
    }

    /// Takes `count` pages in a row; returns the first.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        let (start, len) = self.free.iter().find(|(_, len)| **len >= count)?;
        let (start, len) = (*start, *len);
        self.free.remove(&start);
        if len > count {
            self.free.insert(start + count, len - count);
        }
        Some(start)
    }

    /// Gives pages back, or for the first time.
    pub fn give(&mut self, start: u64, count: u64) {
        let (mut start, mut count) = (start, count);
        if count == 0 {
            return;
        }
        if let Some((before, len)) = self.free.range(..start).next_back()
            && before + len == start
        {
            (start, count) = (*before, len + count);
        }
        if let Some(len) = self.free.remove(&(start + count)) {
            count += len;
        }
        self.free.insert(start, count);
    }

    /// Returns how many pages are free.
    pub fn len(&self) -> u64 {
        self.free.values().sum()
    }

    /// Returns whether nothing is free.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_given_back_joins_its_neighbours() {
        let mut space = Space::new();
        space.give(100, 10);
        let (one, two, three) =
            (space.take(3).unwrap(), space.take(3).unwrap(), space.take(4).unwrap());
        assert_eq!(space.take(1), None);
        space.give(one, 3);
        space.give(three, 4);
        space.give(two, 3);
        assert_eq!(space.take(10), Some(100));
    }

    proptest! {
        #[test]
        fn no_page_is_taken_twice_or_lost(steps in proptest::collection::vec((any::<bool>(), 1u64..9), 1..100)) {
            let mut space = Space::new();
            space.give(1000, 32);
            space.give(2000, 8);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (step, (take, number)) in steps.into_iter().enumerate() {
                if take {
                    if let Some(start) = space.take(number) {
                        taken.push((start, number));
                    }
                } else if !taken.is_empty() {
                    let place = step % taken.len();
                    let (start, count) = taken.swap_remove(place);
                    space.give(start, count);
                }
                let pages: BTreeSet<u64> = taken.iter().flat_map(|(start, count)| *start..start + count).collect();
                let count: u64 = taken.iter().map(|(_, count)| count).sum();
                prop_assert_eq!(pages.len() as u64, count);
                prop_assert_eq!(space.len() + count, 40);
            }
        }
    }
}
