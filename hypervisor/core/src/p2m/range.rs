//! Mapping and unmapping of ranges, a bounded part at a time, and the end of a table.

use super::{
    Flush, Kind, P2m, P2mError, Run, Step, TableFrames,
    descriptor::{Descriptor, Entry, LEAF_LEVEL, TABLE_ORDER, order_of},
    walk::{Slot, entry_at},
};
use crate::{
    addr::{Gfn, Mfn},
    memory::FrameMemory,
};

impl P2m {
    /// Maps `count` frames from `mfn` on at `first` on, with the largest pages that fit.
    ///
    /// What was mapped there is replaced and comes back in the flush. Does a part of the work: at
    /// most `limit` entries, and less when a flush comes first; call again for the rest. What was
    /// done stays done when an error ends it later.
    #[expect(clippy::too_many_arguments, reason = "a mapping has two sides, a size and a kind")]
    pub fn map_range(
        &mut self,
        memory: &impl FrameMemory,
        frames: &mut impl TableFrames,
        first: Gfn,
        mfn: Mfn,
        count: u64,
        kind: Kind,
        limit: u32,
    ) -> Result<Step, P2mError> {
        self.check(first, count)?;
        if mfn.number().saturating_add(count) > MFN_END {
            return Err(P2mError::OutOfRange);
        }
        let mut step = Step { done: 0, flush: Flush::nothing() };
        for _ in 0..limit {
            if step.done == count || step.flush.then.is_some() {
                break;
            }
            let gfn = Gfn::new(first.number() + step.done);
            let mfn = Mfn::new(mfn.number() + step.done);
            let outcome =
                self.map_entry(memory, frames, gfn, mfn, count - step.done, kind, &mut step.flush);
            match outcome {
                Ok(done) => step.done += done,
                Err(error) if step.done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if step.done > 0 {
            let last = Gfn::new(first.number() + step.done - 1);
            self.max_mapped = self.max_mapped.max(Some(last));
        }
        Ok(step)
    }

    /// Unmaps `count` frames from `first` on; holes among them are no error.
    ///
    /// Does a part of the work, as [`P2m::map_range`] does.
    pub fn unmap_range(
        &mut self,
        memory: &impl FrameMemory,
        frames: &mut impl TableFrames,
        first: Gfn,
        count: u64,
        limit: u32,
    ) -> Result<Step, P2mError> {
        self.check(first, count)?;
        let mut step = Step { done: 0, flush: Flush::nothing() };
        for _ in 0..limit {
            if step.done == count || step.flush.then.is_some() {
                break;
            }
            let gfn = Gfn::new(first.number() + step.done);
            let left = count - step.done;
            let slot = self.walk(memory, gfn, LEAF_LEVEL);
            let size = 1 << order_of(slot.level);
            let past = gfn.number() & (size - 1);
            step.done += match slot.entry {
                Entry::Hole | Entry::Table(_) => left.min(size - past),
                Entry::Leaf(mfn, kind) if past == 0 && left >= size => {
                    if !step.flush.release(Run { first: mfn, count: size, kind }) {
                        break;
                    }
                    memory.store_u64(slot.at, Descriptor::HOLE.0);
                    step.flush.add_stale(gfn, order_of(slot.level));
                    size
                }
                Entry::Leaf(..) if step.flush.stale != super::Stale::Nothing => break,
                Entry::Leaf(mfn, kind) => {
                    let level = level_for(gfn.number(), gfn.number(), left, slot.level + 1);
                    let done = left.min(size - past).min(room_in_table(gfn, level));
                    let done = done >> order_of(level) << order_of(level);
                    let hole = |past| (past < done).then_some(Descriptor::HOLE);
                    step.flush = self.shatter(memory, frames, slot, gfn, level, hole)?;
                    let first = Mfn::new(mfn.number() + past);
                    let _has_room = step.flush.release(Run { first, count: done, kind });
                    done
                }
            };
        }
        Ok(step)
    }

    /// Takes the table apart: gives `release` what it held and frees its tables, except for the root.
    ///
    /// Frees at most `limit` entries and says whether that was all. No flush comes first: the caller
    /// has made sure that no processor uses the table or has any of it cached.
    pub fn teardown(
        &mut self,
        memory: &impl FrameMemory,
        frames: &mut impl TableFrames,
        limit: u32,
        mut release: impl FnMut(Run),
    ) -> bool {
        let mut left = limit;
        let mut pending: Option<Run> = None;
        let mut collect = |run: Run| {
            if run.kind.holds_frame() && !pending.as_mut().is_some_and(|last| last.extend(run)) {
                pending.replace(run).into_iter().for_each(&mut release);
            }
        };
        let entries = if self.gfn_end == 0 { 0 } else { self.config.root_entries() };
        let root = self.root;
        let level = self.config.start_level;
        let finished = self.clear(memory, frames, root, level, entries, &mut left, &mut collect);
        pending.into_iter().for_each(release);
        if finished {
            self.max_mapped = None;
        }
        finished
    }

    /// Clears a table and those below it; says whether it came to the end.
    #[expect(clippy::too_many_arguments, reason = "a recursion that is only called above")]
    fn clear(
        &mut self,
        memory: &impl FrameMemory,
        frames: &mut impl TableFrames,
        table: Mfn,
        level: u8,
        entries: u64,
        left: &mut u32,
        release: &mut impl FnMut(Run),
    ) -> bool {
        for index in 0..entries {
            let at = entry_at(table, index);
            match Descriptor(memory.load_u64(at)).decode(level) {
                Entry::Hole => continue,
                Entry::Leaf(..) if *left == 0 => return false,
                Entry::Leaf(first, kind) => {
                    memory.store_u64(at, Descriptor::HOLE.0);
                    release(Run { first, count: 1 << order_of(level), kind });
                }
                Entry::Table(below) => {
                    let whole = 1 << TABLE_ORDER;
                    if !self.clear(memory, frames, below, level + 1, whole, left, release)
                        || *left == 0
                    {
                        return false;
                    }
                    memory.store_u64(at, Descriptor::HOLE.0);
                    self.free_table(frames, below);
                }
            }
            *left -= 1;
        }
        true
    }

    /// Maps with one entry, or breaks up what is in the way; returns how many frames that did.
    #[expect(clippy::too_many_arguments, reason = "the body of `map_range`'s loop")]
    fn map_entry(
        &mut self,
        memory: &impl FrameMemory,
        frames: &mut impl TableFrames,
        gfn: Gfn,
        mfn: Mfn,
        left: u64,
        kind: Kind,
        flush: &mut Flush,
    ) -> Result<u64, P2mError> {
        let start = self.config.start_level.max(1);
        let mut level = level_for(gfn.number(), mfn.number(), left, start);
        let mut slot = self.walk_adding(memory, frames, gfn, level)?;
        while let Entry::Table(_) = slot.entry {
            level += 1;
            slot = self.walk_adding(memory, frames, gfn, level)?;
        }
        let wanted = Descriptor::leaf(mfn, kind, level);
        let size = 1 << order_of(level);
        let Entry::Leaf(old, old_kind) = slot.entry else {
            memory.store_u64(slot.at, wanted.0);
            flush.wrote();
            return Ok(size);
        };
        let past = gfn.number() & ((1 << order_of(slot.level)) - 1);
        let old = Mfn::new(old.number() + past);
        if old == mfn && old_kind == kind {
            return Ok(left.min((1 << order_of(slot.level)) - past));
        }
        let mut replaced = self.replace(memory, frames, slot, gfn, level, wanted)?;
        let _has_room = replaced.release(Run { first: old, count: size, kind: old_kind });
        *flush = replaced;
        Ok(size)
    }

    /// Puts `wanted` in the place of a leaf, or of a part of it.
    fn replace(
        &mut self,
        memory: &impl FrameMemory,
        frames: &mut impl TableFrames,
        slot: Slot,
        gfn: Gfn,
        level: u8,
        wanted: Descriptor,
    ) -> Result<Flush, P2mError> {
        if slot.level < level {
            let change = |past| (past == 0).then_some(wanted);
            return self.shatter(memory, frames, slot, gfn, level, change);
        }
        let mut flush = Flush::nothing();
        memory.store_u64(slot.at, Descriptor::HOLE.0);
        flush.add_stale(gfn, order_of(level));
        flush.then = Some((slot.at, wanted.0));
        Ok(flush)
    }

    /// Refuses ranges that are empty or leave the guest's address space.
    fn check(&self, first: Gfn, count: u64) -> Result<(), P2mError> {
        let end = first.number().checked_add(count).ok_or(P2mError::OutOfRange)?;
        if count == 0 || end > self.gfn_end {
            return Err(P2mError::OutOfRange);
        }
        Ok(())
    }
}

/// The first machine frame that an entry cannot hold: addresses have 48 bits.
pub(super) const MFN_END: u64 = 1 << (48 - 12);

/// Returns the level of the largest entry, `highest` at most, that maps `gfn` to `mfn` within `left`.
fn level_for(gfn: u64, mfn: u64, left: u64, highest: u8) -> u8 {
    let order = (gfn | mfn).trailing_zeros().min(left.ilog2());
    (highest..LEAF_LEVEL).find(|level| u32::from(order_of(*level)) <= order).unwrap_or(LEAF_LEVEL)
}

/// Returns how many frames there are from `gfn` to the end of its table at `level`.
const fn room_in_table(gfn: Gfn, level: u8) -> u64 {
    let span = 1 << (order_of(level) + TABLE_ORDER);
    span - (gfn.number() & (span - 1))
}
