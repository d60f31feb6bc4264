//! Grant tables, version 1: one domain's, both as the granter of its frames and as the holder of
//! mappings of others'.
//!
//! As granter it keeps the frames of the shared table and, for each entry in use, an active entry with
//! the number of readers and writers. As holder it keeps a handle for each mapping. The guest's own
//! entries are claimed by compare-and-swap and never trusted twice: while an entry is in use, what
//! counts is the active entry.
//!
//! A mapping goes through both tables, one after the other and never both locked at once:
//!
//! 1. the granter's [`GrantTable::acquire`] claims the entry, and calls back to translate the frame and
//!    take a reference to it;
//! 2. the holder's [`GrantTable::insert`] calls back to map the frame, and gives the mapping a handle;
//!    if it fails, [`GrantTable::release`] in the granter undoes the first step.
//!
//! Unmapping is [`GrantTable::remove`] in the holder, then [`GrantTable::release`] in the granter. The
//! callbacks run under the table's lock; they may take those of the p2m and of the frames, which come
//! later in the order.

mod active;
mod copy;
mod entry;
mod maptrack;

pub use copy::{CopyRequest, Side, check_bounds};
pub use maptrack::{HANDLES_PER_FRAME, Mapping, Search};

use crate::{
    addr::{Gfn, MachineAddr, Mfn, to_index},
    ids::{DomId, GrantRef},
    memory::{FrameMemory, OwnFrame, Words},
};
use active::{ActiveTable, FRAMES_PER_FRAME, Uses};
use alloc::vec::Vec;
use core::ops::Deref;
use maptrack::Maptrack;

/// Entries in a frame of the shared table.
pub const ENTRIES_PER_FRAME: u32 = 512;
const ENTRY_SIZE: u64 = 8;

/// Why a grant operation was refused: a status in the operation, not an error of the hypercall.
///
/// As large as a register: a result with it is then moved by registers, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum GrantError {
    /// Something else was wrong.
    General,
    /// There is no such domain.
    BadDomain,
    /// The reference is past the end of the table.
    BadGrantRef,
    /// There is no such mapping.
    BadHandle,
    /// An address given for a reply cannot be written.
    BadVirtAddr,
    /// The caller may not do this.
    PermissionDenied,
    /// The frame is not ordinary memory of its owner.
    BadPage,
    /// The bytes to copy are not within a page.
    BadCopyArgument,
    /// The entry is in use.
    TryAgain,
    /// No handle is left.
    NoSpace,
}

impl GrantError {
    /// Returns the status as the guest knows it (`GNTST_*`, `public/grant_table.h`).
    pub const fn status(self) -> i16 {
        match self {
            Self::General => -1,
            Self::BadDomain => -2,
            Self::BadGrantRef => -3,
            Self::BadHandle => -4,
            Self::BadVirtAddr => -5,
            Self::PermissionDenied => -8,
            Self::BadPage => -9,
            Self::BadCopyArgument => -10,
            Self::TryAgain => -12,
            Self::NoSpace => -13,
        }
    }
}

/// What a holder does with a granted frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Reads and writes it.
    Write,
}

/// What letting go of a grant asks of the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the frame stays referenced unless the last user gives the reference back"]
pub enum Released {
    /// Others still use the entry.
    InUse,
    /// Nobody does: drop the reference that [`GrantTable::acquire`] had taken.
    Last(Mfn),
}

/// How large a domain's grant table may grow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Frames of the shared table.
    pub frames: u32,
    /// Frames of handles; [`HANDLES_PER_FRAME`] each.
    pub maptrack_frames: u32,
}

impl Limits {
    /// What Dom0 and a domain with back ends need.
    pub const DRIVER_DOMAIN: Self = Self { frames: 64, maptrack_frames: 1024 };
    /// What a guest gets for which nothing was said: 4096 handles, since it maps little.
    pub const GUEST: Self = Self { frames: 64, maptrack_frames: 16 };

    /// Returns how many frames the table takes at most.
    pub const fn frames_at_most(self) -> u64 {
        self.frames as u64 * (1 + FRAMES_PER_FRAME as u64) + self.maptrack_frames as u64
    }

    /// Returns how many bytes of heap the table takes: the lists of its frames.
    pub const fn bytes(self) -> usize {
        to_index(self.frames_at_most()) * size_of::<OwnFrame<&Words>>()
    }
}

/// A domain's grant table; `W` are the words of a frame that only the hypervisor uses.
#[derive(Debug)]
pub struct GrantTable<W> {
    max_frames: u32,
    frames: Vec<Mfn>,
    active: ActiveTable<W>,
    maptrack: Maptrack<W>,
}

impl<W: Deref<Target = Words>> GrantTable<W> {
    /// Creates a table without frames; nothing is allocated later.
    pub fn new(limits: Limits) -> Self {
        let frames = limits.frames as usize;
        Self {
            max_frames: limits.frames,
            frames: Vec::with_capacity(frames),
            active: ActiveTable::with_room(frames),
            maptrack: Maptrack::with_room(limits.maptrack_frames as usize),
        }
    }

    /// Returns the frames of the shared table, in order.
    pub fn frames(&self) -> &[Mfn] {
        &self.frames
    }

    /// Returns the most frames there may be.
    pub const fn max_frames(&self) -> u32 {
        self.max_frames
    }

    /// Says how many frames must be added until there are `count`; refuses more than the limit.
    pub fn missing(&self, count: u32) -> Result<u32, GrantError> {
        if count > self.max_frames {
            return Err(GrantError::General);
        }
        Ok(count.saturating_sub(self.frame_count()))
    }

    /// Adds a zeroed frame to the shared table, and the zeroed frames that keep its uses.
    ///
    /// [`Self::missing`] must have said that there may be one more.
    pub fn add_frame(&mut self, frame: Mfn, uses: [OwnFrame<W>; FRAMES_PER_FRAME]) {
        self.frames.push(frame);
        self.active.add(uses);
    }

    /// Takes the frames of the shared table out, for the end of the domain.
    #[must_use = "the frames stay allocated until they are freed"]
    pub fn take_frames(&mut self) -> Vec<Mfn> {
        core::mem::take(&mut self.frames)
    }

    /// Takes a frame out that kept handles or uses, for the end of the domain, when there is no mapping
    /// left. Those of uses stay for as long as others use what this domain grants.
    #[must_use = "the frame stays allocated until it is freed"]
    pub fn take_table(&mut self) -> Option<Mfn> {
        self.maptrack.take_frame().or_else(|| self.active.take_frame())
    }

    /// Says how many uses others make of this domain's frames.
    pub const fn uses(&self) -> u64 {
        self.active.uses()
    }

    /// Lets `by` use the frame granted as `grant`.
    ///
    /// The first use of an entry calls `resolve` with the guest frame; it answers with the machine
    /// frame, of which it has taken a reference, or with the status to give. Later uses get the same
    /// frame, whatever the entry says by then.
    pub fn acquire(
        &mut self,
        memory: &impl FrameMemory,
        by: DomId,
        grant: GrantRef,
        access: Access,
        resolve: impl FnOnce(Gfn) -> Result<Mfn, GrantError>,
    ) -> Result<Mfn, GrantError> {
        let at = self.entry(grant)?;
        let active = self.active.get(grant).ok_or(GrantError::BadGrantRef)?;
        let mut uses = active.uses();
        let is_used = uses.any();
        let before = active.what();
        if is_used && before.1 != by {
            return Err(GrantError::General);
        }
        let writers = uses.writers;
        let count = match access {
            Access::Read => &mut uses.readers,
            Access::Write => &mut uses.writers,
        };
        *count = count.checked_add(1).ok_or(GrantError::General)?;
        if !is_used || (access == Access::Write && writers == 0) {
            let granted_to = (!is_used).then_some(by);
            entry::claim(memory, at, granted_to, access)?;
        }
        let mfn = if is_used {
            before.0
        } else {
            let mfn = resolve(entry::frame(memory, at)).inspect_err(|_| {
                entry::clear(memory, at, entry::Clear::ReadingAndWriting);
            })?;
            active.set_what(mfn, by);
            mfn
        };
        active.set_uses(uses);
        self.active.used();
        Ok(mfn)
    }

    /// Ends a use that [`Self::acquire`] allowed.
    pub fn release(
        &mut self,
        memory: &impl FrameMemory,
        grant: GrantRef,
        access: Access,
    ) -> Released {
        let active = self.active.get(grant).expect("a use keeps its entry");
        let at = self.entry(grant);
        let Uses { mut readers, mut writers } = active.uses();
        let count = match access {
            Access::Read => &mut readers,
            Access::Write => &mut writers,
        };
        *count = count.checked_sub(1).expect("each use ends once");
        let uses = Uses { readers, writers };
        active.set_uses(uses);
        let (mfn, _) = active.what();
        if let Ok(at) = at {
            match (uses.any(), writers != 0) {
                (false, _) => entry::clear(memory, at, entry::Clear::ReadingAndWriting),
                (true, false) if access == Access::Write => {
                    entry::clear(memory, at, entry::Clear::Writing);
                }
                (true, _) => (),
            }
        }
        self.active.unused();
        if uses.any() { Released::InUse } else { Released::Last(mfn) }
    }

    /// Says whether another mapping needs a frame for its handle, which [`Self::add_handles`] takes.
    #[inline(always)]
    pub const fn needs_handles(&self) -> bool {
        self.maptrack.is_full() && self.maptrack.may_grow()
    }

    /// Adds a frame of handles, which [`Self::needs_handles`] has asked for.
    pub fn add_handles(&mut self, frame: OwnFrame<W>) {
        self.maptrack.grow(frame);
    }

    /// Records a mapping of another's frame; `map` is to make it. Returns its handle, and what `map`
    /// gave.
    pub fn insert<T>(
        &mut self,
        mapping: Mapping,
        map: impl FnOnce() -> Result<T, GrantError>,
    ) -> Result<(u32, T), GrantError> {
        let handle = self.maptrack.vacant().ok_or(GrantError::NoSpace)?;
        let packed = mapping.pack().ok_or(GrantError::General)?;
        let made = map()?;
        self.maptrack.fill(handle, packed);
        Ok((handle, made))
    }

    /// Returns the mapping behind `handle`.
    pub fn mapping(&self, handle: u32) -> Result<Mapping, GrantError> {
        self.maptrack.get(handle).ok_or(GrantError::BadHandle)
    }

    /// Forgets the mapping behind `handle`, which must be the one at `gfn`; `unmap` is to undo it. On
    /// an error it stays.
    pub fn remove<T>(
        &mut self,
        handle: u32,
        gfn: Gfn,
        unmap: impl FnOnce(Mapping) -> Result<T, GrantError>,
    ) -> Result<(Mapping, T), GrantError> {
        let mapping = self.mapping(handle)?;
        if mapping.gfn != gfn {
            return Err(GrantError::General);
        }
        let undone = unmap(mapping)?;
        self.maptrack.clear(handle);
        Ok((mapping, undone))
    }

    /// Takes out a mapping at `gfn` in whose place the one with the handle `by` was put.
    ///
    /// One that is not among the first `budget` handles is not found: it keeps its handle.
    pub fn take_replaced(&mut self, gfn: Gfn, by: u32, budget: u32) -> Option<Mapping> {
        let handle = self.maptrack.at_gfn(gfn, by, budget)?;
        let mapping = self.maptrack.get(handle);
        self.maptrack.clear(handle);
        mapping
    }

    /// Takes any mapping out, for the end of the domain; nothing when there is none left.
    pub fn take_mapping(&mut self) -> Option<Mapping> {
        self.maptrack.take_any()
    }

    /// Says how many mappings of others' frames there are.
    pub const fn mappings(&self) -> u32 {
        self.maptrack.live()
    }

    /// Looks for a mapping of `mfn` among `budget` handles from `handle` on.
    pub fn find_mapping(&self, mfn: Mfn, handle: u32, budget: u32) -> Search {
        self.maptrack.find(mfn, handle, budget)
    }

    /// Exchanges two entries of the shared table that nobody uses.
    pub fn swap(
        &mut self,
        memory: &impl FrameMemory,
        left: GrantRef,
        right: GrantRef,
    ) -> Result<(), GrantError> {
        let at = (self.entry(left)?, self.entry(right)?);
        if left == right {
            return Ok(());
        }
        if self.active.is_used(left) || self.active.is_used(right) {
            return Err(GrantError::TryAgain);
        }
        let values = (memory.load_u64(at.0), memory.load_u64(at.1));
        memory.store_u64(at.0, values.1);
        memory.store_u64(at.1, values.0);
        Ok(())
    }

    fn frame_count(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }

    fn entry(&self, grant: GrantRef) -> Result<MachineAddr, GrantError> {
        let frame = self
            .frames
            .get(grant.index() / ENTRIES_PER_FRAME as usize)
            .ok_or(GrantError::BadGrantRef)?;
        let offset = u64::from(grant.0 % ENTRIES_PER_FRAME) * ENTRY_SIZE;
        Ok(MachineAddr::new(frame.base().raw() + offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMemory;
    use alloc::sync::Arc;

    const HOLDER: DomId = DomId(0);
    const REF: GrantRef = GrantRef(9);
    const TABLE: Mfn = Mfn::new(0x4_0000);
    const GRANTED: Mfn = Mfn::new(0x4_1234);
    const READ_ONLY: u16 = 1 | 4;
    const WRITABLE: u16 = 1;

    fn at(grant: GrantRef) -> MachineAddr {
        MachineAddr::new(TABLE.base().raw() + u64::from(grant.0) * 8)
    }

    type Table = GrantTable<Arc<Words>>;

    fn uses(memory: &FakeMemory) -> [OwnFrame<Arc<Words>>; 2] {
        [0x4_0010, 0x4_0011].map(|frame| memory.own(Mfn::new(frame)))
    }

    fn grant(memory: &FakeMemory, flags: u16, dom: u16) -> Table {
        let mut table = GrantTable::new(Limits::GUEST);
        table.add_frame(TABLE, uses(memory));
        memory.store_u32(at(REF), u32::from(flags) | u32::from(dom) << 16);
        memory.store_u32(MachineAddr::new(at(REF).raw() + 4), 0x77);
        table
    }

    fn flags(memory: &FakeMemory) -> u32 {
        memory.load_u32(at(REF)) & 0xffff
    }

    fn acquire(table: &mut Table, memory: &FakeMemory, access: Access) -> Result<Mfn, GrantError> {
        table.acquire(memory, HOLDER, REF, access, |gfn| {
            assert_eq!(gfn, Gfn::new(0x77));
            Ok(GRANTED)
        })
    }

    #[test]
    fn an_entry_in_use_is_marked_and_the_last_use_clears_it() {
        let memory = FakeMemory::default();
        let mut table = grant(&memory, WRITABLE, 0);
        assert_eq!(acquire(&mut table, &memory, Access::Read), Ok(GRANTED));
        assert_eq!(flags(&memory), 0b01001);
        assert_eq!(acquire(&mut table, &memory, Access::Write), Ok(GRANTED));
        assert_eq!(flags(&memory), 0b11001);
        assert_eq!(table.release(&memory, REF, Access::Write), Released::InUse);
        assert_eq!(flags(&memory), 0b01001);
        assert_eq!(table.release(&memory, REF, Access::Read), Released::Last(GRANTED));
        assert_eq!(flags(&memory), 0b00001);
        assert_eq!(table.uses(), 0);
    }

    #[test]
    fn a_read_only_grant_is_not_written() {
        let memory = FakeMemory::default();
        let mut table = grant(&memory, READ_ONLY, 0);
        assert_eq!(acquire(&mut table, &memory, Access::Write), Err(GrantError::General));
        assert_eq!(flags(&memory), u32::from(READ_ONLY));
        assert_eq!(acquire(&mut table, &memory, Access::Read), Ok(GRANTED));
        assert_eq!(acquire(&mut table, &memory, Access::Write), Err(GrantError::General));
    }

    #[test]
    fn an_entry_for_another_or_of_no_kind_is_refused() {
        let memory = FakeMemory::default();
        let mut for_another = grant(&memory, WRITABLE, 3);
        assert_eq!(acquire(&mut for_another, &memory, Access::Read), Err(GrantError::General));
        let mut invalid = grant(&memory, 0, 0);
        assert_eq!(acquire(&mut invalid, &memory, Access::Read), Err(GrantError::General));
        let past = GrantRef(ENTRIES_PER_FRAME);
        let outcome = invalid.acquire(&memory, HOLDER, past, Access::Read, |_| Ok(GRANTED));
        assert_eq!(outcome, Err(GrantError::BadGrantRef));
    }

    #[test]
    fn a_frame_that_cannot_be_had_leaves_the_entry_as_it_was() {
        let memory = FakeMemory::default();
        let mut table = grant(&memory, WRITABLE, 0);
        let outcome =
            table.acquire(&memory, HOLDER, REF, Access::Write, |_| Err(GrantError::BadPage));
        assert_eq!(outcome, Err(GrantError::BadPage));
        assert_eq!(flags(&memory), u32::from(WRITABLE));
        assert_eq!(table.uses(), 0);
    }

    #[test]
    fn what_the_granter_writes_later_does_not_change_a_use() {
        let memory = FakeMemory::default();
        let mut table = grant(&memory, WRITABLE, 0);
        assert_eq!(acquire(&mut table, &memory, Access::Write), Ok(GRANTED));
        memory.store_u64(at(REF), 0);
        let again = table.acquire(&memory, HOLDER, REF, Access::Read, |_| Err(GrantError::BadPage));
        assert_eq!(again, Ok(GRANTED));
        let other = table.acquire(&memory, DomId(2), REF, Access::Read, |_| Ok(GRANTED));
        assert_eq!(other, Err(GrantError::General));
    }

    #[test]
    fn a_mapping_that_fails_takes_no_handle_and_one_that_stays_keeps_it() {
        let memory = FakeMemory::default();
        let mut table = GrantTable::new(Limits { frames: 1, maptrack_frames: 1 });
        assert!(table.needs_handles());
        table.add_handles(memory.own(Mfn::new(0x4_0020)));
        assert!(!table.needs_handles());
        let mapping = Mapping {
            dom: DomId(1),
            grant: REF,
            access: Access::Read,
            gfn: Gfn::new(5),
            mfn: GRANTED,
        };
        let failed: Result<(u32, ()), _> = table.insert(mapping, || Err(GrantError::General));
        assert_eq!(failed, Err(GrantError::General));
        assert_eq!(table.mappings(), 0);
        let (handle, ()) = table.insert(mapping, || Ok(())).unwrap();
        let elsewhere = table.remove(handle, Gfn::new(6), |_| Ok(()));
        assert_eq!(elsewhere, Err(GrantError::General));
        let stuck: Result<(Mapping, ()), _> =
            table.remove(handle, Gfn::new(5), |_| Err(GrantError::General));
        assert_eq!(stuck, Err(GrantError::General));
        assert_eq!(table.remove(handle, Gfn::new(5), |_| Ok(())), Ok((mapping, ())));
        assert_eq!(table.mapping(handle), Err(GrantError::BadHandle));
    }

    #[test]
    fn the_table_grows_to_its_limit() {
        let memory = FakeMemory::default();
        let mut table = GrantTable::new(Limits { frames: 2, maptrack_frames: 1 });
        assert_eq!(table.missing(2), Ok(2));
        assert_eq!(table.missing(3), Err(GrantError::General));
        table.add_frame(Mfn::new(1), uses(&memory));
        assert_eq!(table.missing(2), Ok(1));
        table.add_frame(Mfn::new(2), uses(&memory));
        assert_eq!(table.missing(2), Ok(0));
        assert_eq!(table.take_frames().len(), 2);
        assert_eq!(core::iter::from_fn(|| table.take_table()).count(), 4);
    }

    #[test]
    fn entries_are_swapped_unless_one_is_in_use() {
        let memory = FakeMemory::default();
        let mut table = grant(&memory, WRITABLE, 0);
        let other = GrantRef(11);
        assert_eq!(table.swap(&memory, REF, other), Ok(()));
        assert_eq!(memory.load_u64(at(REF)), 0);
        assert_eq!(table.swap(&memory, REF, other), Ok(()));
        assert_eq!(acquire(&mut table, &memory, Access::Read), Ok(GRANTED));
        assert_eq!(table.swap(&memory, REF, other), Err(GrantError::TryAgain));
        assert_eq!(table.swap(&memory, REF, GrantRef(512)), Err(GrantError::BadGrantRef));
    }

    #[test]
    fn statuses_are_those_of_the_public_header() {
        let all = [
            (GrantError::General, -1),
            (GrantError::BadDomain, -2),
            (GrantError::BadGrantRef, -3),
            (GrantError::BadHandle, -4),
            (GrantError::BadVirtAddr, -5),
            (GrantError::PermissionDenied, -8),
            (GrantError::BadPage, -9),
            (GrantError::BadCopyArgument, -10),
            (GrantError::TryAgain, -12),
            (GrantError::NoSpace, -13),
        ];
        for (error, status) in all {
            assert_eq!(error.status(), status);
        }
    }
}
