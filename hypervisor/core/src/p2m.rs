//! Stage-2 translation: a domain's guest-frame to machine-frame map.
//!
//! [`P2m`] is the table the hardware walks; what each guest frame is ([`Kind`]) stands in bits of its
//! entries that are left to software. Changes return a [`Flush`], which owns the unmapped frames until
//! the TLBs have forgotten them. A guest that faults on an entry which [`P2m::lookup`] finds valid, the
//! lock taken, raced with a change and simply tries again.

mod descriptor;
mod flush;
mod page;
mod range;
mod vmid;
mod walk;

use crate::{
    addr::{Gfn, Mfn},
    frames::Contents,
    memory::FrameMemory,
};
use descriptor::{Entry, LEAF_LEVEL, TABLE_ORDER, order_of};
use hypercall_abi::errno::Errno;

pub use descriptor::Kind;
pub use flush::{Flush, Released, Run, Stale};
pub use vmid::{Entry as VmidEntry, Vmid, Vmids};

/// Why a mapping was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum P2mError {
    /// No frame was left for a table, or the domain has used up its own.
    NoMemory,
    /// The guest frames are not in the guest's address space.
    OutOfRange,
}

impl From<P2mError> for Errno {
    fn from(error: P2mError) -> Self {
        match error {
            P2mError::NoMemory => Self::ENOMEM,
            P2mError::OutOfRange => Self::EINVAL,
        }
    }
}

/// Where the frames of a domain's tables below the root come from.
pub trait TableFrames {
    /// Takes a frame; a dirty one will be overwritten.
    fn alloc(&mut self) -> Option<(Mfn, Contents)>;
    /// Gives a frame back.
    fn free(&mut self, table: Mfn);
}

/// The shape of a table: how large guest addresses are, and where the walk starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct P2mConfig {
    /// Bits of a guest address, 32 to 48.
    pub ipa_bits: u8,
    /// The level of the root: 0, 1 or 2.
    pub start_level: u8,
}

impl P2mConfig {
    /// Chooses the fewest levels for guest addresses of `ipa_bits`, joining up to 16 root tables.
    pub const fn new(ipa_bits: u8) -> Self {
        let start_level = match ipa_bits {
            0..=34 => 2,
            35..=43 => 1,
            _ => 0,
        };
        Self { ipa_bits, start_level }
    }

    /// Chooses for a machine whose processors have addresses of `processor_bits`, and which has nothing at `end` and above.
    ///
    /// Fewer bits save the walker a level at each miss of the TLB. All of the machine stays within reach, and so does
    /// Xen's map of a guest's memory (`public/arch-arm.h`, `GUEST_RAM1_BASE`), which ends at 2^40. The sizes are those
    /// that a processor can have, for that is how a guest is told.
    pub fn for_machine(processor_bits: u8, end: u64) -> Self {
        let mut sizes = [40, 42, 44].into_iter();
        let fits = |bits: &u8| *bits < processor_bits && end <= 1 << *bits;
        Self::new(sizes.find(fits).unwrap_or(processor_bits))
    }

    /// Returns the size of the root in frames, as a power of two; its alignment as well.
    pub const fn root_order(&self) -> u8 {
        let entries = self.ipa_bits - 12 - order_of(self.start_level);
        entries.saturating_sub(TABLE_ORDER)
    }

    /// Returns the first guest frame past the address space.
    pub const fn gfn_end(&self) -> u64 {
        1 << (self.ipa_bits - 12)
    }

    const fn root_entries(&self) -> u64 {
        self.gfn_end() >> order_of(self.start_level)
    }
}

/// What a guest frame is mapped to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mapping {
    /// The machine frame.
    pub mfn: Mfn,
    /// What it is to the domain.
    pub kind: Kind,
    /// The entry covers 2^`order` frames, of which this need not be the first.
    pub order: u8,
}

/// A part of a change that was done.
#[derive(Clone, Debug)]
#[must_use = "its flush is not done"]
pub struct Step {
    /// How many frames, from the first on, are done; call again for the rest.
    pub done: u64,
    /// What has to happen before anything else.
    pub flush: Flush,
}

/// One domain's stage-2 table.
#[derive(Debug)]
pub struct P2m {
    root: Mfn,
    config: P2mConfig,
    /// An entry of the root covers 2^`root_entry_order` frames.
    root_entry_order: u8,
    /// The first guest frame that there is not; 0 once the root is gone.
    gfn_end: u64,
    tables: u32,
    table_limit: u32,
    max_mapped: Option<Gfn>,
}

impl P2m {
    /// Makes an empty table whose root is the 2^[`P2mConfig::root_order`] frames from `root` on,
    /// aligned to their size.
    pub fn new(
        memory: &impl FrameMemory,
        root: Mfn,
        contents: Contents,
        config: P2mConfig,
    ) -> Self {
        if contents == Contents::Dirty {
            for index in 0..1 << config.root_order() {
                memory.zero(Mfn::new(root.number() + index));
            }
        }
        let gfn_end = config.gfn_end();
        Self {
            root,
            config,
            root_entry_order: order_of(config.start_level),
            gfn_end,
            tables: 0,
            table_limit: u32::MAX,
            max_mapped: None,
        }
    }

    /// Ends a table that [`P2m::teardown`] has emptied: nothing can be mapped any more. Returns the
    /// root, the first time: its first frame and how many there are.
    #[must_use = "the root stays allocated until it is freed"]
    pub const fn close(&mut self) -> Option<(Mfn, u64)> {
        if self.gfn_end == 0 {
            return None;
        }
        self.gfn_end = 0;
        Some((self.root, 1 << self.config.root_order()))
    }

    /// Returns the first frame of the root, for VTTBR.
    pub const fn root(&self) -> Mfn {
        self.root
    }

    /// Returns the table's shape, for VTCR.
    pub const fn config(&self) -> P2mConfig {
        self.config
    }

    /// Returns how many tables there are below the root.
    pub const fn tables(&self) -> u32 {
        self.tables
    }

    /// Returns how many tables there may be below the root.
    pub const fn table_limit(&self) -> u32 {
        self.table_limit
    }

    /// Bounds the memory that a guest can make its tables take.
    pub const fn set_table_limit(&mut self, tables: u32) {
        self.table_limit = tables;
    }

    /// Returns the highest guest frame that was ever mapped.
    pub const fn max_mapped(&self) -> Option<Gfn> {
        self.max_mapped
    }

    /// Returns what `gfn` is mapped to, and how many frames from it on have the same entry or none.
    pub fn entry(&self, memory: &impl FrameMemory, gfn: Gfn) -> (Option<Mapping>, u64) {
        if gfn.number() >= self.gfn_end {
            return (None, u64::MAX - gfn.number());
        }
        let slot = self.walk(memory, gfn, LEAF_LEVEL);
        let order = order_of(slot.level);
        let past = gfn.number() & ((1 << order) - 1);
        let rest = (1 << order) - past;
        match slot.entry {
            Entry::Hole | Entry::Table(_) => (None, rest),
            Entry::Leaf(mfn, kind) => {
                let mfn = Mfn::new(mfn.number() + past);
                (Some(Mapping { mfn, kind, order }), rest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_as_short_as_the_machines_addresses_allow() {
        let chosen = |processor, end| {
            let config = P2mConfig::for_machine(processor, end);
            (config.ipa_bits, config.start_level)
        };
        assert_eq!(chosen(44, 8 << 30), (40, 1));
        assert_eq!(chosen(44, 1 << 40), (40, 1));
        assert_eq!(chosen(44, (1 << 40) + 1), (42, 1));
        assert_eq!(chosen(44, 1 << 43), (44, 0));
        assert_eq!(chosen(48, 1 << 44), (44, 0));
        assert_eq!(chosen(48, u64::MAX), (48, 0));
        assert_eq!(chosen(40, u64::MAX), (40, 1));
        assert_eq!(chosen(36, 1 << 40), (36, 1));
    }
}
