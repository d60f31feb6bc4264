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
    addr::{MachineAddr, Mfn},
    ids::{DomId, GrantRef},
    memory::FrameMemory,
};
use alloc::vec::Vec;

/// Frames of active entries for each frame of the shared table.
pub(super) const FRAMES_PER_FRAME: usize = 2;

const PER_FRAME: usize = 256;
const SIZE: u64 = 16;
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

/// Where the entry of one grant is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(MachineAddr);

impl Place {
    /// Loads how often the grant is used.
    #[inline(always)]
    pub(super) fn uses(self, memory: &impl FrameMemory) -> Uses {
        Uses::decode(memory.load_u64(self.counts()))
    }

    /// Stores how often the grant is used.
    #[inline(always)]
    pub(super) fn set_uses(self, memory: &impl FrameMemory, uses: Uses) {
        memory.store_u64(self.counts(), uses.encode());
    }

    /// Loads which frame is used, and by whom.
    #[inline(always)]
    pub(super) fn what(self, memory: &impl FrameMemory) -> (Mfn, DomId) {
        let word = memory.load_u64(self.0);
        let by = u16::try_from(word >> MFN_BITS & 0xffff).unwrap_or(u16::MAX);
        (Mfn::new(word & MFN), DomId(by))
    }

    /// Stores which frame is used, and by whom.
    #[inline(always)]
    pub(super) fn set_what(self, memory: &impl FrameMemory, mfn: Mfn, by: DomId) {
        memory.store_u64(self.0, mfn.number() & MFN | u64::from(by.0) << MFN_BITS);
    }

    const fn counts(self) -> MachineAddr {
        MachineAddr::new(self.0.raw() + 8)
    }
}

/// The uses of a domain's grants.
#[derive(Debug)]
pub(super) struct ActiveTable {
    frames: Vec<Mfn>,
    uses: u64,
}

impl ActiveTable {
    /// Allocates for the entries of `frames` frames of the shared table.
    pub(super) fn with_room(frames: usize) -> Self {
        Self { frames: Vec::with_capacity(frames * FRAMES_PER_FRAME), uses: 0 }
    }

    /// Adds the zeroed frames that go with another frame of the shared table.
    pub(super) fn add(&mut self, frames: [Mfn; FRAMES_PER_FRAME]) {
        self.frames.extend(frames);
    }

    /// Returns where the entry of `grant` is, which the shared table has.
    #[inline(always)]
    pub(super) fn place(&self, grant: GrantRef) -> Option<Place> {
        let frame = self.frames.get(grant.index() / PER_FRAME)?;
        let offset = (grant.index() % PER_FRAME) as u64 * SIZE;
        Some(Place(MachineAddr::new(frame.base().raw() + offset)))
    }

    pub(super) fn is_used(&self, memory: &impl FrameMemory, grant: GrantRef) -> bool {
        self.place(grant).is_some_and(|place| place.uses(memory).any())
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
        if self.uses == 0 { self.frames.pop() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMemory;

    #[test]
    fn neighbours_do_not_touch_each_other() {
        let memory = FakeMemory::default();
        let mut table = ActiveTable::with_room(1);
        table.add([Mfn::new(0x100), Mfn::new(0x200)]);
        for grant in 0..512 {
            let place = table.place(GrantRef(grant)).unwrap();
            place.set_what(&memory, Mfn::new(MFN - u64::from(grant)), DomId(0x7fef));
            place.set_uses(&memory, Uses { readers: grant, writers: u32::MAX - grant });
        }
        for grant in 0..512 {
            let place = table.place(GrantRef(grant)).unwrap();
            let expected = (Mfn::new(MFN - u64::from(grant)), DomId(0x7fef));
            assert_eq!(place.what(&memory), expected);
            let uses = Uses { readers: grant, writers: u32::MAX - grant };
            assert_eq!(place.uses(&memory), uses);
        }
        assert!(table.place(GrantRef(512)).is_none());
    }
}
