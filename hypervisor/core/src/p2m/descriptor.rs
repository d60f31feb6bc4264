//! Stage-2 descriptors: what a domain may do with a frame, in the bits the hardware reads.
//!
//! Arm ARM D8.3 (VMSAv8-64 stage-2 descriptors, 4 KiB granule). Bits 58:55 are left to software and
//! hold the [`Kind`], from which all the others follow.

use crate::addr::{MachineAddr, Mfn};

/// The level of the smallest pages, 4 KiB.
pub(super) const LEAF_LEVEL: u8 = 3;
/// Entries in one table, as a power of two.
pub(super) const TABLE_ORDER: u8 = 9;

const VALID: u64 = 1 << 0;
/// At levels 0 to 2 a table, at level 3 a page.
const TABLE_OR_PAGE: u64 = 1 << 1;
const MEMATTR_NORMAL: u64 = 0b1111 << 2;
const MEMATTR_DEVICE_NGNRE: u64 = 0b0001 << 2;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const OUTER_SHAREABLE: u64 = 0b10 << 8;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 54;
const KIND_SHIFT: u32 = 55;
const KIND_MASK: u64 = 0xf;
const ADDRESS_MASK: u64 = 0x0000_ffff_ffff_f000;

/// What a guest frame is to its domain.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// The domain's own memory.
    RamRw = 1,
    /// The domain's own memory, which it may not write.
    RamRo = 2,
    /// A page of the hypervisor's lent to the domain: its shared page, its grant table.
    Shared = 3,
    /// Device registers.
    Device = 4,
    /// Devices of the domain that owns them all: its own stage 1 decides how they are reached.
    DirectIo = 5,
    /// Another domain's memory.
    ForeignRw = 6,
    /// Another domain's memory, which it may not write.
    ForeignRo = 7,
    /// Another domain's memory, by a grant.
    GrantRw = 8,
    /// Another domain's memory, by a grant to read.
    GrantRo = 9,
}

impl Kind {
    /// Says whether the frame is memory that the domain owns or was lent, not a device or another's.
    pub const fn is_ram(self) -> bool {
        matches!(self, Self::RamRw | Self::RamRo | Self::Shared)
    }

    /// Says whether the guest may write.
    pub const fn is_writable(self) -> bool {
        !matches!(self, Self::RamRo | Self::ForeignRo | Self::GrantRo)
    }

    /// Says whether the frame is another domain's, which has granted it.
    pub const fn is_grant(self) -> bool {
        matches!(self, Self::GrantRw | Self::GrantRo)
    }

    /// Says whether the frame is another domain's memory.
    pub const fn is_foreign(self) -> bool {
        matches!(self, Self::ForeignRw | Self::ForeignRo)
    }

    /// Says whether taking the mapping away lets go of a frame. A grant's frame is the grant table's.
    pub const fn holds_frame(self) -> bool {
        self.is_ram() || self.is_foreign()
    }

    /// Returns the kind a foreign mapping of such a frame has: no more than the owner may.
    pub const fn as_foreign(self) -> Self {
        if self.is_writable() { Self::ForeignRw } else { Self::ForeignRo }
    }

    const fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            1 => Self::RamRw,
            2 => Self::RamRo,
            3 => Self::Shared,
            4 => Self::Device,
            5 => Self::DirectIo,
            6 => Self::ForeignRw,
            7 => Self::ForeignRo,
            8 => Self::GrantRw,
            9 => Self::GrantRo,
            _ => return None,
        })
    }

    const fn attributes(self) -> u64 {
        let memory = match self {
            Self::Device => MEMATTR_DEVICE_NGNRE | OUTER_SHAREABLE,
            Self::DirectIo => MEMATTR_NORMAL | OUTER_SHAREABLE,
            _ => MEMATTR_NORMAL | INNER_SHAREABLE,
        };
        let execute = if self.is_ram() { 0 } else { EXECUTE_NEVER };
        let write = if self.is_writable() { WRITE } else { 0 };
        memory | execute | write | READ | ACCESSED
    }
}

/// One entry of a table, as it stands there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(transparent)]
pub(super) struct Descriptor(pub(super) u64);

/// What an entry says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Entry {
    /// Nothing.
    Hole,
    /// Go on in this table.
    Table(Mfn),
    /// The frames are these.
    Leaf(Mfn, Kind),
}

impl Descriptor {
    /// The entry that says nothing.
    pub(super) const HOLE: Self = Self(0);

    /// Makes an entry that leads to `table`.
    pub(super) const fn table(table: Mfn) -> Self {
        Self(table.base().raw() | TABLE_OR_PAGE | VALID)
    }

    /// Makes an entry at `level` for the frames from `mfn` on.
    pub(super) const fn leaf(mfn: Mfn, kind: Kind, level: u8) -> Self {
        let page = if level == LEAF_LEVEL { TABLE_OR_PAGE } else { 0 };
        let kind_bits = (kind as u64) << KIND_SHIFT;
        Self(mfn.base().raw() & ADDRESS_MASK | kind.attributes() | kind_bits | page | VALID)
    }

    /// Returns the table that an entry above the last level leads to.
    pub(super) const fn as_table(self) -> Option<Mfn> {
        if self.0 & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE {
            Some(MachineAddr::new(self.0 & ADDRESS_MASK).frame())
        } else {
            None
        }
    }

    /// Decodes an entry that stands at `level`.
    pub(super) const fn decode(self, level: u8) -> Entry {
        if self.0 & VALID == 0 {
            return Entry::Hole;
        }
        let mfn = MachineAddr::new(self.0 & ADDRESS_MASK).frame();
        if level < LEAF_LEVEL && self.0 & TABLE_OR_PAGE != 0 {
            return Entry::Table(mfn);
        }
        match Kind::from_bits(self.0 >> KIND_SHIFT & KIND_MASK) {
            Some(kind) => Entry::Leaf(mfn, kind),
            None => Entry::Hole,
        }
    }
}

/// Returns how many frames one entry at `level` covers, as a power of two.
pub(super) const fn order_of(level: u8) -> u8 {
    TABLE_ORDER * (LEAF_LEVEL - level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 9] = [
        Kind::RamRw,
        Kind::RamRo,
        Kind::Shared,
        Kind::Device,
        Kind::DirectIo,
        Kind::ForeignRw,
        Kind::ForeignRo,
        Kind::GrantRw,
        Kind::GrantRo,
    ];

    #[test]
    fn a_leaf_says_what_was_put_in() {
        for kind in KINDS {
            for level in 1..=LEAF_LEVEL {
                let mfn = Mfn::new(0xf_4004_0000);
                let entry = Descriptor::leaf(mfn, kind, level);
                assert_eq!(entry.decode(level), Entry::Leaf(mfn, kind));
            }
        }
    }

    #[test]
    fn tables_and_holes_are_told_from_leaves() {
        assert_eq!(Descriptor::HOLE.decode(2), Entry::Hole);
        let table = Descriptor::table(Mfn::new(0x4_0123));
        assert_eq!(table.decode(2), Entry::Table(Mfn::new(0x4_0123)));
    }

    #[test]
    fn the_hardware_bits_follow_the_kind() {
        let bits = |kind| Descriptor::leaf(Mfn::new(1), kind, LEAF_LEVEL).0 & 0x0078_0000_0000_0fff;
        assert_eq!(bits(Kind::RamRw), 0x7ff, "normal, inner shareable, read, write, execute");
        assert_eq!(bits(Kind::RamRo), 0x77f);
        assert_eq!(bits(Kind::ForeignRw), 0x0040_0000_0000_07ff, "never executable");
        assert_eq!(bits(Kind::GrantRo), 0x0040_0000_0000_077f);
        assert_eq!(bits(Kind::Device), 0x0040_0000_0000_06c7);
        assert_eq!(bits(Kind::DirectIo), 0x0040_0000_0000_06ff);
    }
}
