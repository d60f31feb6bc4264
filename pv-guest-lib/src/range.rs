//! Ranges of guest physical addresses, and what is left of them.

use alloc::vec::Vec;

/// A range of guest physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

impl Range {
    /// Returns the range between two addresses; it is empty if they are not in order.
    pub fn between(start: u64, end: u64) -> Self {
        Self { start, len: end.saturating_sub(start) }
    }

    /// Returns the first address after it.
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Returns whether an address is in it.
    pub fn contains(self, address: u64) -> bool {
        address >= self.start && address - self.start < self.len
    }

    /// Returns what is left of it without another: nothing, one part or two.
    fn without(self, other: Self) -> impl Iterator<Item = Self> {
        let before = Self::between(self.start, self.end().min(other.start));
        let after = Self::between(self.start.max(other.end()), self.end());
        let parts =
            if other.len == 0 { [self, Self { start: 0, len: 0 }] } else { [before, after] };
        parts.into_iter().filter(|part| part.len > 0)
    }
}

/// Returns what is left of `ranges` without the bytes in `taken`.
pub fn without(ranges: &[Range], taken: &[Range]) -> Vec<Range> {
    let mut left = ranges.to_vec();
    for other in taken {
        left = left.into_iter().flat_map(|range| range.without(*other)).collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range((start, len): (u64, u64)) -> Range {
        Range { start, len }
    }

    #[test]
    fn a_hole_in_the_middle_leaves_both_ends() {
        let left = without(&[range((100, 100))], &[range((120, 10))]);
        assert_eq!(left, [range((100, 20)), range((130, 70))]);
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_no_taken_range_has(
            ranges in proptest::collection::vec((0u64..60, 0u64..30), 0..4),
            taken in proptest::collection::vec((0u64..60, 0u64..30), 0..4),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(range).collect();
            let taken: Vec<_> = taken.into_iter().map(range).collect();
            let left = without(&ranges, &taken);
            for address in 0..100 {
                let inside = |ranges: &[Range]| ranges.iter().any(|range| range.contains(address));
                prop_assert_eq!(inside(&left), inside(&ranges) && !inside(&taken));
            }
        }
    }
}
