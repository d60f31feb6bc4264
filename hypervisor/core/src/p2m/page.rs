//! One page at a time: the short ways of what happens most, a look-up, and the coming and going of a
//! page that is granted or foreign.
//!
//! They do what [`P2m::entry`], [`P2m::map_range`] and [`P2m::unmap_range`] do, where nothing has to be
//! made, broken up or given back.

use super::{
    Kind, Mapping, P2m, Stale,
    descriptor::{Descriptor, Entry, LEAF_LEVEL, TABLE_ORDER},
    range::MFN_END,
    walk::entry_at,
};
use crate::{
    addr::{Gfn, MachineAddr, Mfn},
    memory::FrameMemory,
};

/// The last entry on the way to a guest frame.
struct Found {
    at: MachineAddr,
    entry: Descriptor,
    level: u8,
    /// It covers 2^`order` frames.
    order: u8,
}

impl P2m {
    /// Returns what `gfn` is mapped to.
    pub fn lookup(&self, memory: &impl FrameMemory, gfn: Gfn) -> Option<Mapping> {
        let Found { entry, level, order, .. } = self.find(memory, gfn)?;
        let Entry::Leaf(first, kind) = entry.decode(level) else { return None };
        let past = gfn.number() & ((1 << order) - 1);
        Some(Mapping { mfn: Mfn::new(first.number() + past), kind, order })
    }

    /// Maps `mfn` at `gfn` if nothing is there but a table to put it in; says whether it did.
    ///
    /// The walker sees it after a barrier ([`Stale::Written`]).
    #[must_use]
    pub fn map_in_hole(
        &mut self,
        memory: &impl FrameMemory,
        gfn: Gfn,
        mfn: Mfn,
        kind: Kind,
    ) -> bool {
        let found = self.find(memory, gfn);
        let Some(Found { at, entry, level: LEAF_LEVEL, .. }) = found else { return false };
        if entry != Descriptor::HOLE || mfn.number() >= MFN_END {
            return false;
        }
        memory.store_u64(at, Descriptor::leaf(mfn, kind, LEAF_LEVEL).0);
        self.max_mapped = self.max_mapped.max(Some(gfn));
        true
    }

    /// Unmaps the page at `gfn` if it is one by itself and `wanted`, asked what is there, says so.
    ///
    /// Returns the frame, which the caller lets go of once the translation that is stale now is in no
    /// TLB any more.
    pub fn unmap_page(
        &mut self,
        memory: &impl FrameMemory,
        gfn: Gfn,
        wanted: impl FnOnce(Mfn, Kind) -> bool,
    ) -> Option<(Mfn, Stale)> {
        let Found { at, entry, level: LEAF_LEVEL, .. } = self.find(memory, gfn)? else {
            return None;
        };
        match entry.decode(LEAF_LEVEL) {
            Entry::Leaf(there, kind) if wanted(there, kind) => {
                memory.store_u64(at, Descriptor::HOLE.0);
                Some((there, Stale::Range { first: gfn, count: 1, order: 0 }))
            }
            Entry::Leaf(..) | Entry::Table(_) | Entry::Hole => None,
        }
    }

    /// Follows tables towards `gfn` as far as they go.
    #[inline(always)]
    fn find(&self, memory: &impl FrameMemory, gfn: Gfn) -> Option<Found> {
        if gfn.number() >= self.gfn_end {
            return None;
        }
        let mut level = self.config.start_level;
        let mut order = self.root_entry_order;
        let mut at = entry_at(self.root, gfn.number().wrapping_shr(order.into()));
        loop {
            let entry = Descriptor(memory.load_u64(at));
            let table = if level < LEAF_LEVEL { entry.as_table() } else { None };
            let Some(table) = table else { return Some(Found { at, entry, level, order }) };
            level += 1;
            // The leaf's is 0: it never wraps.
            order = order.wrapping_sub(TABLE_ORDER);
            let index = gfn.number().wrapping_shr(order.into()) & ((1 << TABLE_ORDER) - 1);
            at = entry_at(table, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake::FakeMemory,
        frames::Contents,
        p2m::{P2mConfig, TableFrames},
    };

    struct Tables(u64);

    impl TableFrames for Tables {
        fn alloc(&mut self) -> Option<(Mfn, Contents)> {
            self.0 += 1;
            Some((Mfn::new(self.0), Contents::Dirty))
        }

        fn free(&mut self, _: Mfn) {}
    }

    const GFN: Gfn = Gfn::new(0x3_0000);
    const MFN: Mfn = Mfn::new(0x4_1234);

    #[test]
    fn a_page_comes_and_goes_where_there_is_a_table_for_it() {
        let memory = FakeMemory::default();
        let mut tables = Tables(0x8_0000);
        let root = Mfn::new(0x7_0000);
        let mut p2m = P2m::new(&memory, root, Contents::Dirty, P2mConfig::new(40));
        assert!(!p2m.map_in_hole(&memory, GFN, MFN, Kind::GrantRw), "there is no table yet");
        let beside = Gfn::new(GFN.number() + 1);
        let step = p2m.map_range(&memory, &mut tables, beside, MFN, 1, Kind::RamRw, 1).unwrap();
        let _released = step.flush.carry_out(&memory, |_| ());
        assert!(p2m.map_in_hole(&memory, GFN, MFN, Kind::GrantRw));
        assert_eq!(
            p2m.lookup(&memory, GFN),
            Some(Mapping { mfn: MFN, kind: Kind::GrantRw, order: 0 })
        );
        assert!(!p2m.map_in_hole(&memory, GFN, MFN, Kind::GrantRw), "something is there");
        let is_grant = |_, kind| kind == Kind::GrantRw;
        assert_eq!(p2m.unmap_page(&memory, beside, is_grant), None, "that is the domain's own");
        assert_eq!(p2m.unmap_page(&memory, GFN, |mfn, _| mfn != MFN), None);
        let stale = Stale::Range { first: GFN, count: 1, order: 0 };
        assert_eq!(p2m.unmap_page(&memory, GFN, is_grant), Some((MFN, stale)));
        assert_eq!(p2m.unmap_page(&memory, GFN, is_grant), None);
        assert_eq!(p2m.lookup(&memory, GFN), None);
        assert_eq!(p2m.lookup(&memory, Gfn::new(u64::MAX)), None);
        assert!(!p2m.map_in_hole(&memory, Gfn::new(1 << 28), MFN, Kind::GrantRw));
    }
}
