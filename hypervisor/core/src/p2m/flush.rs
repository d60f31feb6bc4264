//! What a change of translations asks of the caller before its frames may be used again.

use super::{Kind, Mfn};
use crate::{
    addr::{Gfn, MachineAddr},
    memory::FrameMemory,
};
use arrayvec::ArrayVec;

/// How many runs of frames one flush can own: few, since it is handed from function to function.
pub(super) const RUNS: usize = 2;

/// Which cached translations of the domain are stale.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stale {
    /// None, and nothing was written.
    Nothing,
    /// None, but entries were written that the walker must see: a barrier.
    Written,
    /// Those of `count` guest frames; each cached one covers at least 2^`order` of them.
    Range {
        /// The first guest frame.
        first: Gfn,
        /// How many follow, this one included.
        count: u64,
        /// One invalidation for each 2^`order` frames is enough.
        order: u8,
    },
}

/// Frames next to each other that a translation held and holds no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// The first frame.
    pub first: Mfn,
    /// How many there are.
    pub count: u64,
    /// What they were mapped as: whether the domain's own hold or a foreign one ends.
    pub kind: Kind,
}

impl Run {
    /// Appends `next` if it continues this run.
    pub(super) fn extend(&mut self, next: Self) -> bool {
        let adjacent = self.first.checked_add(self.count) == Some(next.first);
        let continues = adjacent && self.kind == next.kind;
        if continues {
            self.count += next.count;
        }
        continues
    }
}

/// Frames that no translation of the domain reaches any more, to be put back.
#[derive(Clone, Debug, Default)]
#[must_use = "the frames stay allocated until they are put"]
pub struct Released(ArrayVec<Run, RUNS>);

impl IntoIterator for Released {
    type Item = Run;
    type IntoIter = arrayvec::IntoIter<Run, RUNS>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A change of translations that is not done before [`Flush::carry_out`].
///
/// It owns the frames that were unmapped, and the entry to be written when the old one is gone from
/// all TLBs (break before make, Arm ARM D8.16.1). The lock of the domain's [`super::P2m`] is kept
/// until then: meanwhile another processor may fault on an entry that is about to come back.
#[derive(Clone, Debug)]
#[must_use = "stale translations stay in the TLBs until this is carried out"]
pub struct Flush {
    pub(super) stale: Stale,
    pub(super) then: Option<(MachineAddr, u64)>,
    pub(super) released: Released,
}

impl Flush {
    /// Says that nothing has to be done.
    pub fn nothing() -> Self {
        Self { stale: Stale::Nothing, then: None, released: Released::default() }
    }

    /// Says which translations are stale.
    pub const fn stale(&self) -> Stale {
        self.stale
    }

    /// Has `invalidate` drop the stale translations on every processor, then completes the change.
    ///
    /// For [`Stale::Written`] it is a barrier that makes written entries visible to the walker.
    pub fn carry_out(
        self,
        memory: &impl FrameMemory,
        mut invalidate: impl FnMut(Stale),
    ) -> Released {
        if self.stale != Stale::Nothing {
            invalidate(self.stale);
        }
        if let Some((at, entry)) = self.then {
            memory.store_u64(at, entry);
            invalidate(Stale::Written);
        }
        self.released
    }

    /// Notes that entries were written where none were.
    pub(super) fn wrote(&mut self) {
        if self.stale == Stale::Nothing {
            self.stale = Stale::Written;
        }
    }

    /// Notes that the 2^`order` frames from `gfn` on were mapped by one entry.
    pub(super) fn add_stale(&mut self, gfn: Gfn, order: u8) {
        let (start, end) = (gfn.number(), gfn.number() + (1 << order));
        self.stale = match self.stale {
            Stale::Nothing | Stale::Written => {
                Stale::Range { first: gfn, count: end - start, order }
            }
            Stale::Range { first, count, order: finest } => {
                let from = first.number().min(start);
                let to = (first.number() + count).max(end);
                Stale::Range { first: Gfn::new(from), count: to - from, order: finest.min(order) }
            }
        };
    }

    /// Takes over a run of unmapped frames; refuses when there is no room.
    pub(super) fn release(&mut self, run: Run) -> bool {
        if !run.kind.holds_frame() {
            return true;
        }
        if self.released.0.last_mut().is_some_and(|last| last.extend(run)) {
            return true;
        }
        self.released.0.try_push(run).is_ok()
    }
}
