//! Active entries: what is in use of a domain's grants, by whom and how often.
//!
//! Each frame of the shared table has two frames of active entries, which are added together with it:
//! a use never allocates. An entry is two words, all zero while nobody uses the grant.
//!
//! | word | bits | what |
//! |---|---|---|
//! | 0 | 39:0, 55:40 | the machine frame, the domain that uses it |
//! | 1 | 31:0, 63:32 | how often for reading, how often for writing |

use crate::{
    addr::Mfn,
    ids::{DomId, GrantRef},
    memory::{OwnFrame, Words},
};
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};

/// Frames of active entries for each frame of the shared table.
pub(super) const FRAMES_PER_FRAME: usize = 2;

const PER_FRAME: usize = 256;
const MFN_BITS: u32 = 40;
const MFN: u64 = (1 << MFN_BITS) - 1;

/// How often a grant is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Uses {
    pub(super) readers: u32,
    pub(super) writers: u32,
}

impl Uses {
    pub(super) const fn any(self) -> bool {
        self.readers != 0 || self.writers != 0
    }

    #[expect(clippy::cast_possible_truncation, reason = "each half is taken on purpose")]
    const fn decode(word: u64) -> Self {
        Self { readers: word as u32, writers: (word >> 32) as u32 }
    }

    const fn encode(self) -> u64 {
        self.readers as u64 | (self.writers as u64) << 32
    }
}

/// The entry of one grant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active<'a> {
    what: &'a AtomicU64,
    counts: &'a AtomicU64,
}

impl Active<'_> {
    /// Returns how often the grant is used.
    #[inline(always)]
    pub(super) fn uses(self) -> Uses {
        Uses::decode(self.counts.load(Ordering::Relaxed))
    }

    /// Notes how often the grant is used.
    #[inline(always)]
    pub(super) fn set_uses(self, uses: Uses) {
        self.counts.store(uses.encode(), Ordering::Relaxed);
    }

    /// Returns which frame is used, and by whom.
    #[inline(always)]
    pub(super) fn what(self) -> (Mfn, DomId) {
        let word = self.what.load(Ordering::Relaxed);
        let by = u16::try_from(word >> MFN_BITS & 0xffff).unwrap_or(u16::MAX);
        (Mfn::new(word & MFN), DomId(by))
    }

    /// Notes which frame is used, and by whom.
    #[inline(always)]
    pub(super) fn set_what(self, mfn: Mfn, by: DomId) {
        let word = mfn.number() & MFN | u64::from(by.0) << MFN_BITS;
        self.what.store(word, Ordering::Relaxed);
    }
}

/// The uses of a domain's grants.
#[derive(Debug)]
pub(super) struct ActiveTable<W> {
    frames: Vec<OwnFrame<W>>,
    uses: u64,
}

impl<W: Deref<Target = Words>> ActiveTable<W> {
    /// Allocates the list of the frames that go with `frames` frames of the shared table.
    pub(super) fn with_room(frames: usize) -> Self {
        Self { frames: Vec::with_capacity(frames * FRAMES_PER_FRAME), uses: 0 }
    }

    /// Adds the zeroed frames that go with another frame of the shared table.
    pub(super) fn add(&mut self, frames: [OwnFrame<W>; FRAMES_PER_FRAME]) {
        self.frames.extend(frames);
    }

    /// Returns the entry of `grant`.
    #[inline(always)]
    pub(super) fn get(&self, grant: GrantRef) -> Option<Active<'_>> {
        let words = &*self.frames.get(grant.index() / PER_FRAME)?.words;
        let first = grant.index() % PER_FRAME * 2;
        Some(Active { what: words.get(first)?, counts: words.get(first + 1)? })
    }

    pub(super) fn is_used(&self, grant: GrantRef) -> bool {
        self.get(grant).is_some_and(|active| active.uses().any())
    }

    /// Counts one use more.
    pub(super) const fn used(&mut self) {
        self.uses += 1;
    }

    /// Counts one use less.
    pub(super) const fn unused(&mut self) {
        self.uses -= 1;
    }

    /// Says how many uses there are.
    pub(super) const fn uses(&self) -> u64 {
        self.uses
    }

    /// Takes a frame out, for the end of the domain; none while there are uses.
    pub(super) fn take_frame(&mut self) -> Option<Mfn> {
        if self.uses == 0 { self.frames.pop().map(|frame| frame.mfn) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fake::FakeMemory, memory::FrameMemory};

    #[test]
    fn neighbours_do_not_touch_each_other() {
        let memory = FakeMemory::default();
        let mut table = ActiveTable::with_room(1);
        table.add([0x100, 0x200].map(|frame| memory.own(Mfn::new(frame))));
        for grant in 0..512 {
            let active = table.get(GrantRef(grant)).unwrap();
            active.set_what(Mfn::new(MFN - u64::from(grant)), DomId(0x7fef));
            active.set_uses(Uses { readers: grant, writers: u32::MAX - grant });
        }
        for grant in 0..512 {
            let active = table.get(GrantRef(grant)).unwrap();
            let expected = (Mfn::new(MFN - u64::from(grant)), DomId(0x7fef));
            assert_eq!(active.what(), expected);
            let uses = Uses { readers: grant, writers: u32::MAX - grant };
            assert_eq!(active.uses(), uses);
        }
        assert!(table.get(GrantRef(512)).is_none());
    }
}
