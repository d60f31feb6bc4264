//! Whom to tell that an interrupt waits: a set of vCPUs, most often none or one.

use crate::ids::VcpuId;

/// Which vCPUs have something to do that they do not know of.
///
/// The caller wakes each that is blocked, and interrupts the processor of each that runs elsewhere, so
/// that it comes back through [`super::Vgic::fill`]. A vCPU that is loaded here needs nothing: it is filled
/// before it is entered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "an interrupt waits for ever unless its vCPU is woken or kicked"]
pub enum Kick {
    /// Nobody.
    #[default]
    Nobody,
    /// One vCPU.
    Vcpu(VcpuId),
    /// Two or more.
    Several(VcpuSet),
}

impl Kick {
    /// Says whether it is nobody.
    #[inline]
    pub const fn is_nobody(self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// Says whether it is this vCPU and no other.
    #[inline]
    pub const fn is_only(self, vcpu: VcpuId) -> bool {
        matches!(self, Self::Vcpu(other) if other.0 == vcpu.0)
    }

    /// Calls `action` for each vCPU.
    #[inline]
    pub fn each(self, mut action: impl FnMut(VcpuId)) {
        match self {
            Self::Nobody => {}
            Self::Vcpu(vcpu) => action(vcpu),
            Self::Several(set) => set.iter().for_each(action),
        }
    }

    /// Returns the vCPUs of both.
    #[inline]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, Self::Nobody) | (Self::Nobody, one) => one,
            (one, two) if one == two => one,
            (one, two) => Self::Several(VcpuSet(one.set().0 | two.set().0)),
        }
    }

    /// Returns the vCPUs as a set.
    pub const fn set(self) -> VcpuSet {
        match self {
            Self::Nobody => VcpuSet::EMPTY,
            Self::Vcpu(vcpu) => VcpuSet::EMPTY.with(vcpu),
            Self::Several(set) => set,
        }
    }

    /// Returns the vCPUs one by one.
    pub fn iter(self) -> impl Iterator<Item = VcpuId> {
        self.set().iter()
    }
}

/// A set of one domain's vCPUs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(transparent)]
pub struct VcpuSet(u128);

impl VcpuSet {
    /// No vCPU.
    pub const EMPTY: Self = Self(0);

    /// Returns the set of the vCPUs whose bits are set in `mask`.
    pub const fn from_mask(mask: u128) -> Self {
        Self(mask)
    }

    /// Returns the set with `vcpu` in it; a number past the largest domain's is not taken in.
    #[must_use]
    pub const fn with(self, vcpu: VcpuId) -> Self {
        if vcpu.0 < u128::BITS { Self(self.0 | 1 << vcpu.0) } else { self }
    }

    /// Returns the set without `vcpu`.
    #[must_use]
    pub const fn without(self, vcpu: VcpuId) -> Self {
        if vcpu.0 < u128::BITS { Self(self.0 & !(1 << vcpu.0)) } else { self }
    }

    /// Says whether `vcpu` is in the set.
    pub const fn contains(self, vcpu: VcpuId) -> bool {
        vcpu.0 < u128::BITS && self.0 >> vcpu.0 & 1 != 0
    }

    /// Says whether the set has no vCPU.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the vCPUs in it, in order.
    pub fn iter(self) -> impl Iterator<Item = VcpuId> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let first = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (first < u128::BITS).then_some(VcpuId(first))
        })
    }
}

impl From<VcpuSet> for Kick {
    fn from(set: VcpuSet) -> Self {
        match set.0.count_ones() {
            0 => Self::Nobody,
            1 => Self::Vcpu(VcpuId(set.0.trailing_zeros())),
            _ => Self::Several(set),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kicks_add_up() {
        let both = Kick::Vcpu(VcpuId(1)).and(Kick::Vcpu(VcpuId(127)));
        assert_eq!(both.iter().collect::<Vec<_>>(), [VcpuId(1), VcpuId(127)]);
        assert_eq!(Kick::Vcpu(VcpuId(1)).and(Kick::Vcpu(VcpuId(1))), Kick::Vcpu(VcpuId(1)));
        assert_eq!(Kick::Nobody.and(Kick::Vcpu(VcpuId(3))), Kick::Vcpu(VcpuId(3)));
        assert_eq!(Kick::from(both.set().without(VcpuId(1))), Kick::Vcpu(VcpuId(127)));
        assert_eq!(Kick::from(VcpuSet::EMPTY.with(VcpuId(128))), Kick::Nobody);
        assert!(both.set().contains(VcpuId(1)) && !both.set().contains(VcpuId(2)));
    }
}
