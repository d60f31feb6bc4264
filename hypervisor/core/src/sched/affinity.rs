//! Sets of physical processors.

use crate::bits::ones;
use crate::ids::CpuId;
use core::ops::{BitAnd, BitOr, Sub};

/// A set of physical processors, of which there are at most 64.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CpuSet(u64);

impl CpuSet {
    /// Every processor there could be.
    pub const ALL: Self = Self(u64::MAX);
    /// None.
    pub const NONE: Self = Self(0);

    /// Takes a set in which bit n stands for processor n.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the set with bit n standing for processor n.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns the set of `cpu` alone; of none, if it is beyond the most there may be.
    pub const fn only(cpu: CpuId) -> Self {
        if cpu.0 < u64::BITS { Self(1 << cpu.0) } else { Self::NONE }
    }

    /// Says whether there is nobody in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Says whether `cpu` is in it.
    pub const fn contains(self, cpu: CpuId) -> bool {
        cpu.0 < u64::BITS && self.0 & (1 << cpu.0) != 0
    }

    /// Goes through it in ascending order.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        ones(self.0).map(CpuId)
    }
}

impl BitAnd for CpuSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for CpuSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Sub for CpuSet {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        cpus.into_iter().fold(Self::NONE, |set, cpu| set | Self::only(cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_what_was_put_in() {
        let set: CpuSet = [CpuId(0), CpuId(3), CpuId(63), CpuId(64)].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [CpuId(0), CpuId(3), CpuId(63)]);
        assert!(!set.contains(CpuId(64)));
        assert_eq!(set & CpuSet::from_bits(0b1000), CpuSet::from_bits(0b1000));
    }
}
