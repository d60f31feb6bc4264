//! The walk down a stage-2 table, and the making and breaking of tables on the way.

use super::{
    Flush, P2m, P2mError, TableFrames,
    descriptor::{Descriptor, Entry, LEAF_LEVEL, TABLE_ORDER, order_of},
};
use crate::{
    addr::{Gfn, MachineAddr, Mfn},
    frames::Contents,
    memory::FrameMemory,
};

const ENTRY_BYTES: u64 = 8;

/// Where a walk ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The entry's place.
    pub(super) at: MachineAddr,
    /// Its level.
    pub(super) level: u8,
    /// What stands there.
    pub(super) entry: Entry,
}

impl P2m {
    /// Follows tables towards `gfn`, to `level` at the furthest.
    pub(super) fn walk(&self, memory: &impl FrameMemory, gfn: Gfn, level: u8) -> Slot {
        let mut slot = self.root_slot(memory, gfn);
        while slot.level < level {
            let Entry::Table(table) = slot.entry else { break };
            slot = Self::slot_in(memory, table, gfn, slot.level + 1);
        }
        slot
    }

    /// Follows tables towards `gfn` to `level`, adding those that are missing.
    ///
    /// Ends earlier only at a larger leaf that covers `gfn`.
    pub(super) fn walk_adding(
        &mut self,
        memory: &impl FrameMemory,
        frames: &mut impl TableFrames,
        gfn: Gfn,
        level: u8,
    ) -> Result<Slot, P2mError> {
        let mut slot = self.root_slot(memory, gfn);
        while slot.level < level {
            let table = match slot.entry {
                Entry::Table(table) => table,
                Entry::Leaf(..) => break,
                Entry::Hole => {
                    let (table, contents) = self.new_table(frames)?;
                    if contents == Contents::Dirty {
                        memory.zero(table);
                    }
                    memory.store_u64(slot.at, Descriptor::table(table).0);
                    table
                }
            };
            slot = Self::slot_in(memory, table, gfn, slot.level + 1);
        }
        Ok(slot)
    }

    /// Breaks the leaf in `slot` up so that entries at `level` from `gfn` on can differ from it.
    ///
    /// `change` says what the entry at `level` for a number of frames past `gfn` becomes, or nothing
    /// where the leaf's old meaning stays. The new tables are complete when they become reachable;
    /// until the flush is carried out none of the leaf's frames is mapped.
    pub(super) fn shatter(
        &mut self,
        memory: &impl FrameMemory,
        frames: &mut impl TableFrames,
        slot: Slot,
        gfn: Gfn,
        level: u8,
        change: impl Fn(u64) -> Option<Descriptor>,
    ) -> Result<Flush, P2mError> {
        let mut flush = Flush::nothing();
        let Entry::Leaf(mfn, kind) = slot.entry else { return Ok(flush) };
        let top = slot.level + 1;
        let mut tables = [Mfn::new(0); LEAF_LEVEL as usize];
        for table_level in top..=level {
            match self.new_table(frames) {
                Ok((table, _)) => {
                    if let Some(place) = tables.get_mut(usize::from(table_level - top)) {
                        *place = table;
                    }
                }
                Err(error) => {
                    let made = usize::from(table_level - top);
                    for table in tables.iter().take(made) {
                        self.free_table(frames, *table);
                    }
                    return Err(error);
                }
            }
        }
        let mut base_gfn = gfn.number() >> order_of(slot.level) << order_of(slot.level);
        let mut base_mfn = mfn.number();
        let first_table = Descriptor::table(tables[0]);
        flush.add_stale(Gfn::new(base_gfn), order_of(slot.level));
        for (table_level, (index, table)) in (top..=level).zip(tables.iter().enumerate()) {
            let order = order_of(table_level);
            let within = (gfn.number() - base_gfn) >> order;
            for entry in 0..1 << TABLE_ORDER {
                let offset = entry << order;
                let kept = Descriptor::leaf(Mfn::new(base_mfn + offset), kind, table_level);
                let descriptor = if table_level < level {
                    let below = tables.get(index + 1).copied();
                    below.filter(|_| entry == within).map_or(kept, Descriptor::table)
                } else {
                    let past = (base_gfn + offset).checked_sub(gfn.number());
                    past.and_then(&change).unwrap_or(kept)
                };
                memory.store_u64(entry_at(*table, entry), descriptor.0);
            }
            base_gfn += within << order;
            base_mfn += within << order;
        }
        memory.store_u64(slot.at, Descriptor::HOLE.0);
        flush.then = Some((slot.at, first_table.0));
        Ok(flush)
    }

    /// Gives a table back.
    pub(super) fn free_table(&mut self, frames: &mut impl TableFrames, table: Mfn) {
        self.tables = self.tables.saturating_sub(1);
        frames.free(table);
    }

    fn new_table(&mut self, frames: &mut impl TableFrames) -> Result<(Mfn, Contents), P2mError> {
        if self.tables >= self.table_limit {
            return Err(P2mError::NoMemory);
        }
        let table = frames.alloc().ok_or(P2mError::NoMemory)?;
        self.tables += 1;
        Ok(table)
    }

    fn root_slot(&self, memory: &impl FrameMemory, gfn: Gfn) -> Slot {
        let level = self.config.start_level;
        let at = entry_at(self.root, gfn.number() >> order_of(level));
        let entry = Descriptor(memory.load_u64(at)).decode(level);
        Slot { at, level, entry }
    }

    fn slot_in(memory: &impl FrameMemory, table: Mfn, gfn: Gfn, level: u8) -> Slot {
        let index = gfn.number() >> order_of(level) & ((1 << TABLE_ORDER) - 1);
        let at = entry_at(table, index);
        let entry = Descriptor(memory.load_u64(at)).decode(level);
        Slot { at, level, entry }
    }
}

/// Returns the place of entry `index` of a table, or of tables that follow each other.
pub(super) const fn entry_at(table: Mfn, index: u64) -> MachineAddr {
    MachineAddr::new(table.base().raw() + index * ENTRY_BYTES)
}
