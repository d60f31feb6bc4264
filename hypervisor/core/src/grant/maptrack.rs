//! Maptrack: a domain's handles for the frames of others it has mapped.

use super::Access;
use crate::{
    addr::{Gfn, Mfn},
    ids::{DomId, GrantRef},
};
use alloc::{boxed::Box, vec::Vec};

const CHUNK_HANDLES: u32 = 128;
const CHUNK: usize = CHUNK_HANDLES as usize;
const NO_HANDLE: u32 = u32::MAX;

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

#[derive(Clone, Copy, Debug)]
enum Slot {
    Free { next: u32 },
    Live(Mapping),
}

/// The mappings of a domain, by handle. Handles that were freed are given out again last-in, first-out.
#[derive(Debug)]
pub(super) struct Maptrack {
    limit: u32,
    #[expect(clippy::vec_box, reason = "growing the list must not copy the chunks")]
    chunks: Vec<Box<[Slot; CHUNK]>>,
    free: u32,
    live: u32,
    /// [`Self::take_any`] has emptied every slot before this one.
    emptied: u32,
}

impl Maptrack {
    pub(super) const fn new(limit: u32) -> Self {
        Self { limit, chunks: Vec::new(), free: NO_HANDLE, live: 0, emptied: 0 }
    }

    pub(super) const fn live(&self) -> u32 {
        self.live
    }

    /// Says whether [`Self::vacant`] would have to allocate.
    pub(super) const fn is_full(&self) -> bool {
        self.free == NO_HANDLE
    }

    /// Finds a handle to give out; it stays free until [`Self::fill`].
    pub(super) fn vacant(&mut self) -> Option<u32> {
        if self.free != NO_HANDLE {
            return Some(self.free);
        }
        let first = self.len();
        if first >= self.limit {
            return None;
        }
        let last = first.saturating_add(CHUNK_HANDLES).min(self.limit);
        let mut next = first;
        self.chunks.push(Box::new(core::array::from_fn(|_| {
            next += 1;
            Slot::Free { next: if next < last { next } else { NO_HANDLE } }
        })));
        self.free = first;
        Some(first)
    }

    /// Gives `handle`, which [`Self::vacant`] found, to `mapping`.
    pub(super) fn fill(&mut self, handle: u32, mapping: Mapping) {
        if let Some(slot) = self.slot_mut(handle)
            && let Slot::Free { next } = *slot
        {
            *slot = Slot::Live(mapping);
            self.free = next;
            self.live += 1;
            self.emptied = self.emptied.min(handle);
        }
    }

    /// Frees `handle`.
    pub(super) fn clear(&mut self, handle: u32) {
        let next = self.free;
        if let Some(slot) = self.slot_mut(handle)
            && matches!(slot, Slot::Live(_))
        {
            *slot = Slot::Free { next };
            self.free = handle;
            self.live -= 1;
        }
    }

    pub(super) fn get(&self, handle: u32) -> Option<Mapping> {
        match *self.chunks.get(handle as usize / CHUNK)?.get(handle as usize % CHUNK)? {
            Slot::Live(mapping) => Some(mapping),
            Slot::Free { .. } => None,
        }
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
        if (first..end).any(|handle| self.get(handle).is_some_and(|mapping| mapping.mfn == mfn)) {
            Search::Found
        } else if end == self.len() {
            Search::Absent
        } else {
            Search::From(end)
        }
    }

    fn len(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).unwrap_or(u32::MAX)
    }

    fn slot_mut(&mut self, handle: u32) -> Option<&mut Slot> {
        self.chunks.get_mut(handle as usize / CHUNK)?.get_mut(handle as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(mfn: u64) -> Mapping {
        Mapping {
            dom: DomId(1),
            grant: GrantRef(8),
            access: Access::Write,
            gfn: Gfn::new(1),
            mfn: Mfn::new(mfn),
        }
    }

    fn fill(track: &mut Maptrack, mfn: u64) -> Option<u32> {
        let handle = track.vacant()?;
        track.fill(handle, mapping(mfn));
        Some(handle)
    }

    #[test]
    fn handles_are_distinct_and_limited() {
        let mut track = Maptrack::new(200);
        for handle in 0..200 {
            assert_eq!(fill(&mut track, 1), Some(handle));
        }
        assert_eq!(fill(&mut track, 1), None);
        track.clear(150);
        track.clear(150);
        assert_eq!(track.live(), 199);
        assert_eq!(track.get(150), None);
        assert_eq!(track.get(u32::MAX), None);
        assert_eq!(fill(&mut track, 2), Some(150));
        assert_eq!(fill(&mut track, 2), None);
    }

    #[test]
    fn a_search_goes_on_where_it_stopped() {
        let mut track = Maptrack::new(1000);
        for mfn in 0..300 {
            fill(&mut track, mfn);
        }
        assert_eq!(track.find(Mfn::new(250), 0, 100), Search::From(100));
        assert_eq!(track.find(Mfn::new(250), 200, 100), Search::Found);
        assert_eq!(track.find(Mfn::new(999), 200, 1000), Search::Absent);
    }

    #[test]
    fn all_mappings_can_be_taken_out() {
        let mut track = Maptrack::new(1000);
        for mfn in 0..300 {
            fill(&mut track, mfn);
        }
        track.clear(0);
        let mut taken = 0;
        while track.take_any().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 299);
        fill(&mut track, 7);
        assert_eq!(track.take_any(), Some(mapping(7)));
    }
}
