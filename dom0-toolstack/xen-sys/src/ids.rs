//! Identifiers, each a type of its own so that they cannot be confused.

use core::fmt;

use hypercall_abi::ids::{DOMID_FIRST_RESERVED, DOMID_SELF};

/// A domain's number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DomId(pub u16);

impl DomId {
    /// The control domain.
    pub const DOM0: Self = Self(0);
    /// The caller itself (`public/xen.h`, DOMID_SELF).
    pub const SELF: Self = Self(DOMID_SELF);
    /// First number that no domain can have (`public/xen.h`, DOMID_FIRST_RESERVED).
    pub const FIRST_RESERVED: Self = Self(DOMID_FIRST_RESERVED);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event channel's number within one domain.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Port(pub u32);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An index into a domain's grant table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GrantRef(pub u32);

impl GrantRef {
    /// The console ring's entry, filled by whoever builds the domain (`public/grant_table.h`).
    pub const CONSOLE: Self = Self(0);
    /// The xenstore ring's entry, filled by whoever builds the domain.
    pub const XENSTORE: Self = Self(1);
}

/// A frame of a guest's physical address space, 4 KiB.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Gfn(pub u64);
