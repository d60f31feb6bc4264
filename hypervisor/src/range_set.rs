//! Sets of numbers as ranges: frames a domain may have mapped, addresses nobody uses.

use alloc::vec::Vec;
use core::ops::Range;

/// A set of numbers, as ranges in ascending order with gaps between them.
#[derive(Clone, Debug, Default)]
pub struct RangeSet(Vec<Range<u64>>);

impl RangeSet {
    /// Adds a range.
    pub fn insert(&mut self, added: Range<u64>) {
        if added.is_empty() {
            return;
        }
        let mut joined = added;
        self.0.retain(|range| {
            let touches = range.start <= joined.end && joined.start <= range.end;
            if touches {
                joined = range.start.min(joined.start)..range.end.max(joined.end);
            }
            !touches
        });
        let place = self.0.partition_point(|range| range.start < joined.start);
        self.0.insert(place, joined);
    }

    /// Takes a range out.
    pub fn remove(&mut self, taken: Range<u64>) {
        let keep = |range: Range<u64>| {
            let before = range.start..range.end.min(taken.start);
            let after = range.start.max(taken.end)..range.end;
            [before, after].into_iter().filter(|part| !part.is_empty())
        };
        self.0 = self.0.drain(..).flat_map(keep).collect();
    }

    /// Says whether all of `wanted` is in it.
    pub fn contains(&self, wanted: Range<u64>) -> bool {
        wanted.is_empty()
            || self.0.iter().any(|range| range.start <= wanted.start && wanted.end <= range.end)
    }

    /// Goes through the ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_in_pieces_is_there_as_a_whole() {
        let mut set = RangeSet::default();
        set.insert(10..12);
        set.insert(14..16);
        set.insert(12..14);
        assert!(set.contains(10..16));
        assert!(!set.contains(9..11));
    }

    #[test]
    fn what_is_taken_out_of_the_middle_leaves_both_ends() {
        let mut set = RangeSet::default();
        set.insert(0..10);
        set.remove(4..6);
        assert!(set.contains(0..4) && set.contains(6..10));
        assert!(!set.contains(3..5));
    }
}
