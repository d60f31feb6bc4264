//! Maptrack: a domain's handles for the frames of others it has mapped.
//!
//! The handles are kept in frames that are added when all others are in use. A handle is two words:
//!
//! | word | bits | what |
//! |---|---|---|
//! | 0 | 63, 62 | in use; writable |
//! | 0 | 55:40, 39:0 | the domain that grants the frame, the machine frame |
//! | 1 | 63:36, 35:0 | its reference, the guest frame |
//!
//! Of a free handle, word 0 is the next free one.

use super::Access;
use crate::{
    addr::{Gfn, MachineAddr, Mfn},
    ids::{DomId, GrantRef},
    memory::FrameMemory,
};
use alloc::vec::Vec;

/// Handles in a frame: as many as in one of Xen's, in which limits are given.
pub const HANDLES_PER_FRAME: u32 = 256;

const SIZE: u64 = 16;
const NO_HANDLE: u32 = u32::MAX;

const MFN_BITS: u32 = 40;
const MFN: u64 = (1 << MFN_BITS) - 1;
/// Guest addresses have at most 48 bits.
const GFN_BITS: u32 = 36;
const GFN: u64 = (1 << GFN_BITS) - 1;
const GRANT: u64 = u64::MAX >> GFN_BITS;
const WRITABLE: u64 = 1 << 62;
const LIVE: u64 = 1 << 63;

/// A mapping of another domain's frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mapping {
    /// The domain that grants the frame.
    pub dom: DomId,
    /// Its reference.
    pub grant: GrantRef,
    /// What the mapping allows.
    pub access: Access,
    /// Where it is mapped.
    pub gfn: Gfn,
    /// The frame.
    pub mfn: Mfn,
}

/// What a search among the handles came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Search {
    /// There is such a mapping.
    Found,
    /// There is none.
    Absent,
    /// There may be one from this handle on.
    From(u32),
}

/// A mapping in the two words of its handle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words(u64, u64);

impl Mapping {
    /// Packs the mapping; nothing if a number is past what there can be.
    pub(super) fn pack(self) -> Option<Words> {
        let (mfn, gfn, grant) = (self.mfn.number(), self.gfn.number(), u64::from(self.grant.0));
        if mfn > MFN || gfn > GFN || grant > GRANT {
            return None;
        }
        let writable = if self.access == Access::Write { WRITABLE } else { 0 };
        let first = LIVE | writable | u64::from(self.dom.0) << MFN_BITS | mfn;
        Some(Words(first, grant << GFN_BITS | gfn))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fields are cut out on purpose")]
    const fn unpack(Words(first, second): Words) -> Option<Self> {
        if first & LIVE == 0 {
            return None;
        }
        Some(Self {
            dom: DomId((first >> MFN_BITS) as u16 & 0x7fff),
            grant: GrantRef((second >> GFN_BITS) as u32),
            access: if first & WRITABLE != 0 { Access::Write } else { Access::Read },
            gfn: Gfn::new(second & GFN),
            mfn: Mfn::new(first & MFN),
        })
    }
}

/// The mappings of a domain, by handle. Handles that were freed are given out again last-in, first-out.
#[derive(Debug)]
pub(super) struct Maptrack {
    limit: usize,
    frames: Vec<Mfn>,
    free: u32,
    live: u32,
    /// [`Self::take_any`] has emptied every slot before this one.
    emptied: u32,
}

impl Maptrack {
    /// Allocates the list of up to `limit` frames.
    pub(super) fn with_room(limit: usize) -> Self {
        let frames = Vec::with_capacity(limit);
        Self { limit, frames, free: NO_HANDLE, live: 0, emptied: 0 }
    }

    pub(super) const fn live(&self) -> u32 {
        self.live
    }

    /// Says whether every handle is in use.
    pub(super) const fn is_full(&self) -> bool {
        self.free == NO_HANDLE
    }

    /// Says whether there may be more frames.
    pub(super) const fn may_grow(&self) -> bool {
        self.frames.len() < self.limit
    }

    /// Adds the handles of `frame`, whatever it holds; none is left when it is added.
    pub(super) fn grow(&mut self, memory: &impl FrameMemory, frame: Mfn) {
        let first = self.len();
        self.frames.push(frame);
        for index in 0..HANDLES_PER_FRAME {
            let last = index + 1 == HANDLES_PER_FRAME;
            let next = if last { self.free } else { first + index + 1 };
            memory.store_u64(entry(frame, index), u64::from(next));
        }
        self.free = first;
    }

    /// Finds a handle to give out; it stays free until [`Self::fill`].
    pub(super) const fn vacant(&self) -> Option<u32> {
        if self.free == NO_HANDLE { None } else { Some(self.free) }
    }

    /// Gives `handle`, which [`Self::vacant`] found, to a mapping.
    pub(super) fn fill(&mut self, memory: &impl FrameMemory, handle: u32, mapping: Words) {
        let Some(at) = self.at(handle) else { return };
        let next = memory.load_u64(at);
        if next & LIVE == 0 {
            self.free = u32::try_from(next).unwrap_or(NO_HANDLE);
            memory.store_u64(second(at), mapping.1);
            memory.store_u64(at, mapping.0);
            self.live += 1;
            self.emptied = self.emptied.min(handle);
        }
    }

    /// Frees `handle`.
    pub(super) fn clear(&mut self, memory: &impl FrameMemory, handle: u32) {
        if let Some(at) = self.at(handle)
            && memory.load_u64(at) & LIVE != 0
        {
            memory.store_u64(at, u64::from(self.free));
            self.free = handle;
            self.live -= 1;
        }
    }

    pub(super) fn get(&self, memory: &impl FrameMemory, handle: u32) -> Option<Mapping> {
        let at = self.at(handle)?;
        Mapping::unpack(Words(memory.load_u64(at), memory.load_u64(second(at))))
    }

    /// Takes out the mapping with the lowest handle.
    pub(super) fn take_any(&mut self, memory: &impl FrameMemory) -> Option<Mapping> {
        if self.live == 0 {
            return None;
        }
        let handle =
            (self.emptied..self.len()).find(|handle| self.get(memory, *handle).is_some())?;
        let mapping = self.get(memory, handle);
        self.clear(memory, handle);
        self.emptied = handle;
        mapping
    }

    /// Looks for a mapping of `mfn` among `budget` handles from `first` on.
    pub(super) fn find(
        &self,
        memory: &impl FrameMemory,
        mfn: Mfn,
        first: u32,
        budget: u32,
    ) -> Search {
        let end = first.saturating_add(budget).min(self.len());
        let is_it = |handle| self.get(memory, handle).is_some_and(|mapping| mapping.mfn == mfn);
        if (first..end).any(is_it) {
            Search::Found
        } else if end == self.len() {
            Search::Absent
        } else {
            Search::From(end)
        }
    }

    /// Returns the handle of a mapping at `gfn` other than `except`, if it is among the first `budget`.
    pub(super) fn at_gfn(
        &self,
        memory: &impl FrameMemory,
        gfn: Gfn,
        except: u32,
        budget: u32,
    ) -> Option<u32> {
        let is_there = |handle| self.get(memory, handle).is_some_and(|mapping| mapping.gfn == gfn);
        (0..self.len().min(budget)).find(|handle| *handle != except && is_there(*handle))
    }

    /// Takes a frame out, for the end of the domain; none while there are mappings.
    pub(super) fn take_frame(&mut self) -> Option<Mfn> {
        if self.live > 0 {
            return None;
        }
        self.free = NO_HANDLE;
        self.frames.pop()
    }

    fn len(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(0).saturating_mul(HANDLES_PER_FRAME)
    }

    #[inline(always)]
    fn at(&self, handle: u32) -> Option<MachineAddr> {
        let frame = self.frames.get((handle / HANDLES_PER_FRAME) as usize)?;
        Some(entry(*frame, handle % HANDLES_PER_FRAME))
    }
}

fn entry(frame: Mfn, index: u32) -> MachineAddr {
    MachineAddr::new(frame.base().raw() + u64::from(index) * SIZE)
}

const fn second(first: MachineAddr) -> MachineAddr {
    MachineAddr::new(first.raw() + 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMemory;

    fn mapping(mfn: u64) -> Mapping {
        Mapping {
            dom: DomId(1),
            grant: GrantRef(8),
            access: Access::Write,
            gfn: Gfn::new(mfn + 1),
            mfn: Mfn::new(mfn),
        }
    }

    fn fill(track: &mut Maptrack, memory: &FakeMemory, mfn: u64) -> Option<u32> {
        if track.is_full() && track.may_grow() {
            let frame = Mfn::new(0x8000 + u64::from(track.len() / HANDLES_PER_FRAME));
            track.grow(memory, frame);
        }
        let handle = track.vacant()?;
        track.fill(memory, handle, mapping(mfn).pack().unwrap());
        Some(handle)
    }

    #[test]
    fn a_mapping_is_the_same_packed_and_unpacked() {
        let most = Mapping {
            dom: DomId(DomId::FIRST_RESERVED - 1),
            grant: GrantRef(u32::try_from(GRANT).unwrap()),
            access: Access::Read,
            gfn: Gfn::new(GFN),
            mfn: Mfn::new(MFN),
        };
        for mapping in [most, mapping(7)] {
            assert_eq!(mapping.pack().and_then(Mapping::unpack), Some(mapping));
        }
        assert!(Mapping { gfn: Gfn::new(GFN + 1), ..most }.pack().is_none());
        assert!(Mapping { mfn: Mfn::new(MFN + 1), ..most }.pack().is_none());
        assert!(Mapping { grant: GrantRef(u32::MAX), ..most }.pack().is_none());
    }

    #[test]
    fn handles_are_distinct_and_limited() {
        let memory = FakeMemory::default();
        let mut track = Maptrack::with_room(2);
        for handle in 0..512 {
            assert_eq!(fill(&mut track, &memory, 1), Some(handle));
        }
        assert_eq!(fill(&mut track, &memory, 1), None);
        track.clear(&memory, 150);
        track.clear(&memory, 150);
        assert_eq!(track.live(), 511);
        assert_eq!(track.get(&memory, 150), None);
        assert_eq!(track.get(&memory, u32::MAX), None);
        assert_eq!(fill(&mut track, &memory, 2), Some(150));
        assert_eq!(fill(&mut track, &memory, 2), None);
    }

    #[test]
    fn a_search_goes_on_where_it_stopped() {
        let memory = FakeMemory::default();
        let mut track = Maptrack::with_room(4);
        for mfn in 0..300 {
            fill(&mut track, &memory, mfn);
        }
        let find = |mfn, from, budget| track.find(&memory, Mfn::new(mfn), from, budget);
        assert_eq!(find(250, 0, 100), Search::From(100));
        assert_eq!(find(250, 200, 100), Search::Found);
        assert_eq!(find(999, 200, 1000), Search::Absent);
        let at_gfn = |except, budget| track.at_gfn(&memory, Gfn::new(251), except, budget);
        assert_eq!(at_gfn(7, 300), Some(250));
        assert_eq!(at_gfn(250, 300), None);
        assert_eq!(at_gfn(7, 200), None, "past the budget");
    }

    #[test]
    fn all_mappings_can_be_taken_out() {
        let memory = FakeMemory::default();
        let mut track = Maptrack::with_room(4);
        for mfn in 0..300 {
            fill(&mut track, &memory, mfn);
        }
        track.clear(&memory, 0);
        let mut taken = 0;
        while track.take_any(&memory).is_some() {
            taken += 1;
        }
        assert_eq!(taken, 299);
        fill(&mut track, &memory, 7);
        assert_eq!(track.take_frame(), None);
        assert_eq!(track.take_any(&memory), Some(mapping(7)));
        assert_eq!(core::iter::from_fn(|| track.take_frame()).count(), 2);
        assert_eq!(track.vacant(), None);
    }
}
