//! Ranges of machine memory and what can be done with lists of them.

use alloc::vec::Vec;
use core::fmt;
use hv_core::addr::{MachineAddr, PAGE_SIZE};

/// A range of machine addresses. It never reaches past the end of the address space.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Region {
    /// Its first byte.
    pub base: MachineAddr,
    /// How many bytes it has.
    pub size: u64,
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.base.raw(), self.end())
    }
}

impl Region {
    /// Takes `size` bytes from `base` on; nothing if they reach past the end of the address space.
    pub const fn new(base: u64, size: u64) -> Option<Self> {
        match base.checked_add(size) {
            Some(_) => Some(Self { base: MachineAddr::new(base), size }),
            None => None,
        }
    }

    /// Takes the bytes from `base` up to `end`; none if `end` is not after `base`.
    pub const fn between(base: u64, end: u64) -> Self {
        Self { base: MachineAddr::new(base), size: end.saturating_sub(base) }
    }

    /// Returns the address after its last byte.
    pub const fn end(&self) -> u64 {
        self.base.raw().saturating_add(self.size)
    }

    /// Says whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Says whether all of `other` is part of it.
    pub const fn contains(&self, other: &Self) -> bool {
        self.base.raw() <= other.base.raw() && other.end() <= self.end()
    }

    /// Returns what it has in common with `other`.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let base = self.base.raw().max(other.base.raw());
        Self::between(base, self.end().min(other.end()))
    }

    /// Says whether it has a byte in common with `other`.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Returns the smallest region of whole pages that holds it.
    #[must_use]
    pub fn pages_around(&self) -> Self {
        let end = self.end().checked_next_multiple_of(PAGE_SIZE);
        Self::between(self.base.raw() & !(PAGE_SIZE - 1), end.unwrap_or(!(PAGE_SIZE - 1)))
    }

    /// Returns the largest region in it whose ends are multiples of `alignment`, a power of two.
    #[must_use]
    pub fn aligned_inside(&self, alignment: u64) -> Self {
        match self.base.raw().checked_next_multiple_of(alignment) {
            Some(base) => Self::between(base, self.end() & !(alignment - 1)),
            None => Self::between(0, 0),
        }
    }
}

/// Sorts regions and joins those that touch or overlap.
#[must_use]
pub fn merge(mut regions: Vec<Region>) -> Vec<Region> {
    regions.retain(|region| !region.is_empty());
    regions.sort_unstable();
    let mut merged: Vec<Region> = Vec::with_capacity(regions.len());
    for region in regions {
        match merged.last_mut() {
            Some(last) if region.base.raw() <= last.end() => {
                *last = Region::between(last.base.raw(), last.end().max(region.end()));
            }
            _ => merged.push(region),
        }
    }
    merged
}

/// Returns what of `regions` is in none of `holes`, sorted and joined.
#[must_use]
pub fn without(regions: &[Region], holes: &[Region]) -> Vec<Region> {
    let holes = merge(holes.to_vec());
    let mut left = Vec::new();
    for region in merge(regions.to_vec()) {
        let mut base = region.base.raw();
        for hole in holes.iter().filter(|hole| hole.overlaps(&region)) {
            left.push(Region::between(base, hole.base.raw()));
            base = hole.end();
        }
        left.push(Region::between(base, region.end()));
    }
    merge(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn region(base: u64, end: u64) -> Region {
        Region::between(base, end)
    }

    #[test]
    fn a_region_does_not_wrap() {
        assert_eq!(Region::new(u64::MAX, 2), None);
        assert_eq!(Region::new(0x1000, 0x10).map(|region| region.end()), Some(0x1010));
        assert!(region(5, 3).is_empty());
        assert!(region(u64::MAX - 5, u64::MAX).aligned_inside(0x1000).is_empty());
        assert_eq!(region(u64::MAX - 5, u64::MAX).pages_around().size, 0);
    }

    #[test]
    fn pages_are_found_around_and_inside() {
        assert_eq!(region(0x1800, 0x2001).pages_around(), region(0x1000, 0x3000));
        assert_eq!(region(0x1800, 0x4fff).aligned_inside(0x1000), region(0x2000, 0x4000));
        assert!(region(0x1800, 0x1fff).aligned_inside(0x1000).is_empty());
    }

    #[test]
    fn regions_that_touch_become_one() {
        let merged =
            merge(vec![region(5, 7), region(0, 2), region(2, 4), region(6, 9), region(3, 3)]);
        assert_eq!(merged, [region(0, 4), region(5, 9)]);
    }

    #[test]
    fn holes_are_cut_out_wherever_they_are() {
        let cases = [
            (region(0, 10), vec![region(10, 12), region(4, 6), region(5, 7)]),
            (region(4, 7), vec![region(0, 10), region(0, 4), region(7, 10)]),
        ];
        assert_eq!(without(&[cases[0].0], &cases[0].1), [region(0, 4), region(7, 10)]);
        assert_eq!(without(&[cases[1].0], &cases[1].1), []);
        assert_eq!(without(&[region(0, 4)], &[region(0, 1), region(3, 9)]), [region(1, 3)]);
    }
}
