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
    addr::{Gfn, Mfn},
    ids::{DomId, GrantRef},
    memory::{OwnFrame, Words},
};
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};

/// Handles in a frame: as many as in one of Xen's, in which limits are given.
pub const HANDLES_PER_FRAME: u32 = 256;

const WORDS_PER_HANDLE: usize = 2;
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
pub(super) struct Packed(u64, u64);

impl Mapping {
    /// Packs the mapping; nothing if a number is past what there can be.
    pub(super) fn pack(self) -> Option<Packed> {
        let (mfn, gfn, grant) = (self.mfn.number(), self.gfn.number(), u64::from(self.grant.0));
        if mfn > MFN || gfn > GFN || grant > GRANT {
            return None;
        }
        let writable = if self.access == Access::Write { WRITABLE } else { 0 };
        let first = LIVE | writable | u64::from(self.dom.0) << MFN_BITS | mfn;
        Some(Packed(first, grant << GFN_BITS | gfn))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fields are cut out on purpose")]
    const fn unpack(Packed(first, second): Packed) -> Option<Self> {
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
pub(super) struct Maptrack<W> {
    limit: usize,
    frames: Vec<OwnFrame<W>>,
    free: u32,
    live: u32,
    /// [`Self::take_any`] has emptied every slot before this one.
    emptied: u32,
}

impl<W: Deref<Target = Words>> Maptrack<W> {
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
    pub(super) fn grow(&mut self, frame: OwnFrame<W>) {
        let first = self.len();
        for (slot, handle) in frame.words.chunks(WORDS_PER_HANDLE).zip(first..) {
            let last = handle + 1 == first + HANDLES_PER_FRAME;
            let next = if last { self.free } else { handle + 1 };
            for word in slot {
                word.store(u64::from(next), Ordering::Relaxed);
            }
        }
        self.frames.push(frame);
        self.free = first;
    }

    /// Finds a handle to give out; it stays free until [`Self::fill`].
    pub(super) const fn vacant(&self) -> Option<u32> {
        if self.free == NO_HANDLE { None } else { Some(self.free) }
    }

    /// Gives `handle`, which [`Self::vacant`] found, to a mapping.
    pub(super) fn fill(&mut self, handle: u32, mapping: Packed) {
        let Some((first, second)) = self.at(handle) else { return };
        let next = first.load(Ordering::Relaxed);
        if next & LIVE == 0 {
            second.store(mapping.1, Ordering::Relaxed);
            first.store(mapping.0, Ordering::Relaxed);
            self.free = u32::try_from(next).unwrap_or(NO_HANDLE);
            self.live += 1;
            self.emptied = self.emptied.min(handle);
        }
    }

    /// Frees `handle`.
    pub(super) fn clear(&mut self, handle: u32) {
        if let Some((first, _)) = self.at(handle)
            && first.load(Ordering::Relaxed) & LIVE != 0
        {
            first.store(u64::from(self.free), Ordering::Relaxed);
            self.free = handle;
            self.live -= 1;
        }
    }

    pub(super) fn get(&self, handle: u32) -> Option<Mapping> {
        let (first, second) = self.at(handle)?;
        let packed = Packed(first.load(Ordering::Relaxed), second.load(Ordering::Relaxed));
        Mapping::unpack(packed)
    }

    /// Takes out the mapping with the lowest handle.
    pub(super) fn take_any(&mut self) -> Option<Mapping> {
        if self.live == 0 {
            return None;
        }
        let handle = (self.emptied..self.len()).find(|handle| self.get(*handle).is_some())?;
        let mapping = self.get(handle);
        self.clear(handle);
        self.emptied = handle;
        mapping
    }

    /// Looks for a mapping of `mfn` among `budget` handles from `first` on.
    pub(super) fn find(&self, mfn: Mfn, first: u32, budget: u32) -> Search {
        let end = first.saturating_add(budget).min(self.len());
        let is_it = |handle| self.get(handle).is_some_and(|mapping| mapping.mfn == mfn);
        if (first..end).any(is_it) {
            Search::Found
        } else if end == self.len() {
            Search::Absent
        } else {
            Search::From(end)
        }
    }

    /// Returns the handle of a mapping at `gfn` other than `except`, if it is among the first `budget`.
    pub(super) fn at_gfn(&self, gfn: Gfn, except: u32, budget: u32) -> Option<u32> {
        let is_there = |handle| self.get(handle).is_some_and(|mapping| mapping.gfn == gfn);
        (0..self.len().min(budget)).find(|handle| *handle != except && is_there(*handle))
    }

    /// Takes a frame out, for the end of the domain; none while there are mappings.
    pub(super) fn take_frame(&mut self) -> Option<Mfn> {
        if self.live > 0 {
            return None;
        }
        self.free = NO_HANDLE;
        self.frames.pop().map(|frame| frame.mfn)
    }

    fn len(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(0).saturating_mul(HANDLES_PER_FRAME)
    }

    /// Returns the two words of `handle`.
    #[inline(always)]
    fn at(&self, handle: u32) -> Option<(&AtomicU64, &AtomicU64)> {
        let words = &*self.frames.get((handle / HANDLES_PER_FRAME) as usize)?.words;
        let first = (handle % HANDLES_PER_FRAME) as usize * WORDS_PER_HANDLE;
        Some((words.get(first)?, words.get(first + 1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fake::FakeMemory, memory::FrameMemory};
    use alloc::sync::Arc;

    fn mapping(mfn: u64) -> Mapping {
        Mapping {
            dom: DomId(1),
            grant: GrantRef(8),
            access: Access::Write,
            gfn: Gfn::new(mfn + 1),
            mfn: Mfn::new(mfn),
        }
    }

    fn fill(track: &mut Maptrack<Arc<Words>>, memory: &FakeMemory, mfn: u64) -> Option<u32> {
        if track.is_full() && track.may_grow() {
            let frame = Mfn::new(0x8000 + u64::from(track.len() / HANDLES_PER_FRAME));
            track.grow(memory.own(frame));
        }
        let handle = track.vacant()?;
        track.fill(handle, mapping(mfn).pack().unwrap());
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
        track.clear(150);
        track.clear(150);
        assert_eq!(track.live(), 511);
        assert_eq!(track.get(150), None);
        assert_eq!(track.get(u32::MAX), None);
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
        let find = |mfn, from, budget| track.find(Mfn::new(mfn), from, budget);
        assert_eq!(find(250, 0, 100), Search::From(100));
        assert_eq!(find(250, 200, 100), Search::Found);
        assert_eq!(find(999, 200, 1000), Search::Absent);
        let at_gfn = |except, budget| track.at_gfn(Gfn::new(251), except, budget);
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
        track.clear(0);
        let mut taken = 0;
        while track.take_any().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 299);
        fill(&mut track, &memory, 7);
        assert_eq!(track.take_frame(), None);
        assert_eq!(track.take_any(), Some(mapping(7)));
        assert_eq!(core::iter::from_fn(|| track.take_frame()).count(), 2);
        assert_eq!(track.vacant(), None);
    }
}
