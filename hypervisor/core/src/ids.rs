//! Identifiers: domains, virtual and physical processors, interrupts, grant references.
//!
//! A raw number becomes one of these where it enters; from there on the type says what it counts.

use core::fmt;
use core::hash::{BuildHasherDefault, Hasher};
use hashbrown::HashMap;

/// A domain's identifier.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct DomId(pub u16);

impl DomId {
    /// The control domain, which owns the devices.
    pub const DOM0: Self = Self(0);
    /// The first number that is not a domain's (`DOMID_FIRST_RESERVED`, `public/xen.h`).
    pub const FIRST_RESERVED: u16 = 0x7ff0;
    /// "The caller" (`DOMID_SELF`, `public/xen.h`).
    pub const SELF: Self = Self(0x7ff0);
    /// Memory that is a device's (`DOMID_IO`).
    pub const IO: Self = Self(0x7ff1);
    /// Memory that the hypervisor shares with privileged domains (`DOMID_XEN`).
    pub const XEN: Self = Self(0x7ff2);

    /// Returns the domain this names when `caller` says it: itself for [`DomId::SELF`].
    pub const fn resolve(self, caller: Self) -> Self {
        if self.0 == Self::SELF.0 { caller } else { self }
    }
}

/// What is kept for each domain.
pub type DomMap<T> = HashMap<DomId, T, BuildHasherDefault<DomIdHasher>>;

/// Spreads domain numbers over a map.
///
/// The hypervisor gives the numbers out itself, or Dom0 chooses them: no guest can make them collide, and a
/// look-up costs a multiplication.
#[derive(Clone, Copy, Debug, Default)]
pub struct DomIdHasher(u64);

impl Hasher for DomIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u16(u16::from(*byte));
        }
    }

    fn write_u16(&mut self, number: u16) {
        // 2^64 divided by the golden ratio: neighbours end up far apart (Knuth, volume 3, 6.4).
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Debug for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

/// The number of a virtual processor within its domain.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct VcpuId(pub u32);

impl VcpuId {
    /// Returns the number as an index into a domain's list of virtual processors.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// The number of a physical processor: 0 for the one that booted, then in device-tree order.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct CpuId(pub u32);

impl CpuId {
    /// Returns the number as an index into a list of processors.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu{}", self.0)
    }
}

/// A virtual processor of a given domain.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VcpuRef {
    /// The domain.
    pub dom: DomId,
    /// The virtual processor in it.
    pub vcpu: VcpuId,
}

impl fmt::Debug for VcpuRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}", self.dom, self.vcpu)
    }
}

impl fmt::Display for VcpuRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}", self.dom, self.vcpu)
    }
}

/// A local port number of one domain, as its guest knows it; never zero.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct Port(pub u32);

impl Port {
    /// Returns the port number as the guest knows it.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Returns the number as an index into a table of ports.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A grant reference: an index into the granting domain's grant table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct GrantRef(pub u32);

impl GrantRef {
    /// Returns the reference as an index into the grant table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An interrupt identifier (INTID) of the GIC architecture: SGIs 0–15, PPIs 16–31, SPIs 32–1019.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(transparent)]
pub struct Irq(u32);

impl Irq {
    /// The first number that is no shared interrupt any more: 1020–1023 are special.
    pub const SPI_END: u32 = 1020;

    /// Takes an interrupt identifier; nothing for a special or an extended one.
    pub const fn new(intid: u32) -> Option<Self> {
        if intid < Self::SPI_END { Some(Self(intid)) } else { None }
    }

    /// Returns software-generated interrupt `number`, 0–15; larger numbers wrap.
    pub const fn sgi(number: u32) -> Self {
        Self(number & 0xf)
    }

    /// Returns private peripheral interrupt `number`, 0–15, which is INTID 16 + `number`.
    pub const fn ppi(number: u32) -> Self {
        Self(16 + (number & 0xf))
    }

    /// Returns shared peripheral interrupt `number`, which is INTID 32 + `number`.
    pub const fn spi(number: u32) -> Option<Self> {
        match number.checked_add(32) {
            Some(intid) => Self::new(intid),
            None => None,
        }
    }

    /// Returns the interrupt identifier.
    pub const fn intid(self) -> u32 {
        self.0
    }

    /// Returns the identifier as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Says whether each processor has its own interrupt of this number.
    pub const fn is_private(self) -> bool {
        self.0 < 32
    }

    /// Says whether this is a software-generated interrupt.
    pub const fn is_sgi(self) -> bool {
        self.0 < 16
    }
}

impl fmt::Debug for Irq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..16 => write!(f, "SGI {}", self.0),
            16..32 => write!(f, "PPI {}", self.0 - 16),
            _ => write!(f, "SPI {}", self.0 - 32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn self_is_the_caller_and_any_other_number_is_itself() {
        assert_eq!(DomId::SELF.resolve(DomId(5)), DomId(5));
        assert_eq!(DomId(7).resolve(DomId(5)), DomId(7));
    }

    #[test]
    fn interrupts_print_as_the_architecture_names_them() {
        assert_eq!(format!("{:?}", Irq::ppi(11)), "PPI 11");
        assert_eq!(format!("{:?}", Irq::spi(1).unwrap()), "SPI 1");
        assert_eq!(Irq::new(1020), None);
        assert_eq!(Irq::spi(u32::MAX), None);
    }
}
