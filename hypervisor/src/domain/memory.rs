//! A domain's memory: pages into its translations and out of them, and whose hold on a frame ends then.
//!
//! Each function takes the locks it needs. Frames come back from a change of translations only after
//! the TLBs have forgotten them, and are let go of with no lock held, since the last page of a zombie
//! takes the whole zombie along.

use crate::domain::Domain;
use crate::lock::Lock;
use crate::machine::Memory;
use crate::state::Hypervisor;
use hv_core::addr::{Gfn, Mfn, PAGE_SIZE, to_index};
use hv_core::evtchn::Virq;
use hv_core::frames::{Contents, Frames, FramesError, Put};
use hv_core::ids::DomId;
use hv_core::memory::{FrameMemory, OwnFrame};
use hv_core::p2m::{Kind, P2mError, Released, Run, Stale, TableFrames};
use hv_core::time::Nanos;

/// Entries that are written before a lock is given up for a moment.
const ENTRIES_AT_ONCE: u32 = 512;
/// Blocks that are scrubbed while nobody needs them have 2^6 frames: some 20 µs of work.
const SCRUB_ORDER: u8 = 6;
/// Until then the machine is left to Dom0's first steps.
const SCRUB_FROM: Nanos = Nanos::from_millis(2000);

/// A frame that only the hypervisor uses.
type OwnWords = OwnFrame<<Memory as FrameMemory>::Own>;

/// Frames for a domain's translation tables, taken one by one from its pool.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    frames: &'a Lock<Frames>,
    dom: DomId,
}

impl<'a> Tables<'a> {
    /// Returns where the tables of `domain` come from.
    pub const fn of(hv: &'a Hypervisor, domain: &Domain) -> Self {
        Self { frames: &hv.frames, dom: domain.id }
    }
}

impl TableFrames for Tables<'_> {
    fn alloc(&mut self) -> Option<(Mfn, Contents)> {
        let table = self.frames.lock().alloc_table(self.dom).ok()?;
        Some((table.first, table.contents))
    }

    fn free(&mut self, table: Mfn) {
        self.frames.lock().free_table(self.dom, table);
    }
}

/// A page of a domain that is held until [`Hypervisor::put_page`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the page is held until it is put"]
pub struct HeldPage {
    /// The frame.
    pub mfn: Mfn,
    /// What it is to its domain.
    pub kind: Kind,
}

impl Hypervisor {
    /// Maps `count` frames from `mfn` on at `first` on in `domain`, however long it takes.
    ///
    /// What was mapped there is let go of. On an error the first part may be mapped.
    pub fn map_frames(
        &self,
        domain: &Domain,
        first: Gfn,
        mfn: Mfn,
        count: u64,
        kind: Kind,
    ) -> Result<(), P2mError> {
        self.map_counting(domain, first, mfn, count, kind, &mut 0)
    }

    /// Does as [`Hypervisor::map_frames`], and says in `done` how far it came.
    pub fn map_counting(
        &self,
        domain: &Domain,
        first: Gfn,
        mfn: Mfn,
        count: u64,
        kind: Kind,
        done: &mut u64,
    ) -> Result<(), P2mError> {
        if count == 1 && *done == 0 {
            let mut p2m = domain.p2m.lock();
            if p2m.map_in_hole(self.machine.memory(), first, mfn, kind) {
                self.invalidate(domain, &p2m, Stale::Written);
                *done = 1;
                return Ok(());
            }
        }
        while *done < count {
            let gfn = first.checked_add(*done).ok_or(P2mError::OutOfRange)?;
            let mfn = mfn.checked_add(*done).ok_or(P2mError::OutOfRange)?;
            let released = {
                let mut p2m = domain.p2m.lock();
                let step = p2m.map_range(
                    self.machine.memory(),
                    &mut Tables::of(self, domain),
                    gfn,
                    mfn,
                    count - *done,
                    kind,
                    ENTRIES_AT_ONCE,
                )?;
                *done += step.done;
                self.flush(domain, &p2m, step.flush)
            };
            self.let_go(domain, released);
        }
        Ok(())
    }

    /// Unmaps `count` frames from `first` on in `domain` and lets go of them, however long it takes.
    pub fn unmap_frames(&self, domain: &Domain, first: Gfn, count: u64) -> Result<(), P2mError> {
        let mut done = 0;
        while done < count {
            let gfn = first.checked_add(done).ok_or(P2mError::OutOfRange)?;
            let released = {
                let mut p2m = domain.p2m.lock();
                let step = p2m.unmap_range(
                    self.machine.memory(),
                    &mut Tables::of(self, domain),
                    gfn,
                    count - done,
                    ENTRIES_AT_ONCE,
                )?;
                done += step.done;
                self.flush(domain, &p2m, step.flush)
            };
            self.let_go(domain, released);
        }
        Ok(())
    }

    /// Holds the page behind `gfn` if it is memory of `domain`'s own, or lent to it.
    pub fn hold_page(&self, domain: &Domain, gfn: Gfn) -> Result<HeldPage, FramesError> {
        let p2m = domain.p2m.lock();
        let found = p2m.lookup(self.machine.memory(), gfn).ok_or(FramesError::NotOwned)?;
        if !found.kind.is_ram() {
            return Err(FramesError::NotOwned);
        }
        self.frames.lock().get(found.mfn, domain.id)?;
        Ok(HeldPage { mfn: found.mfn, kind: found.kind })
    }

    /// Lets go of a page that [`Hypervisor::hold_page`] held. No lock may be held.
    pub fn put_page(&self, mfn: Mfn) {
        let put = self.frames.lock().put(mfn);
        self.bury(put);
    }

    /// Lets go of two pages, which may have different owners. No lock may be held.
    pub fn put_pages(&self, pages: [Option<Mfn>; 2]) {
        let mut frames = self.frames.lock();
        let puts = pages.map(|page| page.map_or(Put::Kept, |mfn| frames.put(mfn)));
        drop(frames);
        for put in puts {
            self.bury(put);
        }
    }

    /// Lets go of what `domain`'s translations held and hold no more. No lock may be held.
    ///
    /// Frames of a domain that is mapped one to one stay its own: its devices know them by address.
    pub fn let_go(&self, domain: &Domain, released: Released) {
        for run in released {
            self.let_go_of(domain, run);
        }
    }

    /// Lets go of one run of frames that `domain`'s translations held. No lock may be held.
    pub(super) fn let_go_of(&self, domain: &Domain, run: Run) {
        let put = match run.kind {
            Kind::RamRw | Kind::RamRo if domain.settings.direct_mapped => Put::Kept,
            Kind::RamRw | Kind::RamRo => self.frames.lock().release(run.first, run.count),
            Kind::ForeignRw | Kind::ForeignRo => {
                for mfn in frames_of(run.first, run.count) {
                    self.put_page(mfn);
                }
                Put::Kept
            }
            Kind::Shared => {
                let mut frames = self.frames.lock();
                for mfn in frames_of(run.first, run.count) {
                    frames.set_shared_at(mfn, None);
                }
                Put::Kept
            }
            Kind::Device | Kind::DirectIo | Kind::GrantRw | Kind::GrantRo => Put::Kept,
        };
        self.bury(put);
    }

    /// Forgets a domain whose last frame this was, and tells who listens for that. No lock may be held.
    #[inline]
    pub fn bury(&self, put: Put) {
        if let Put::LastOf(dom) = put {
            self.forget_dead(dom);
        }
    }

    #[cold]
    #[inline(never)]
    fn forget_dead(&self, dom: DomId) {
        self.frames.lock().close(dom);
        let gone = self.domains.lock().remove(&dom);
        if let Some(domain) = &gone {
            // Nobody uses its grants any more: a use holds a frame of it.
            while self.return_grant_table(domain) {}
        }
        for vcpu in gone.iter().flat_map(|domain| domain.vcpus()) {
            // It stopped for good before its memory went.
            let _removed: bool = self.scheduler.lock().remove(vcpu.sched);
        }
        self.raise_global(Virq::DOM_EXC);
    }

    /// Returns frame `index` of the domain's grant table, adding frames until there is one.
    ///
    /// They are set aside: only a table larger than its domain's limit is refused.
    pub fn grant_frame(&self, domain: &Domain, index: u32) -> Result<Mfn, FramesError> {
        let count = index.checked_add(1).ok_or(FramesError::NotOwned)?;
        let mut grants = domain.grants.lock();
        let missing = grants.missing(count).map_err(|_| FramesError::NotOwned)?;
        for _ in 0..missing {
            let (frame, uses) = self.frames_of_grants(domain.id)?;
            grants.add_frame(frame, uses);
        }
        grants.frames().get(to_index(u64::from(index))).copied().ok_or(FramesError::NotOwned)
    }

    /// Takes a frame of grants for `dom` and those that keep their uses, all zero.
    fn frames_of_grants(&self, dom: DomId) -> Result<(Mfn, [OwnWords; 2]), FramesError> {
        let mut frames = self.frames.lock();
        let first = frames.alloc_for_grants(dom)?;
        let second = frames.alloc_for_grants(dom).inspect_err(|_| {
            frames.free_hypervisor(first.first, 1);
        })?;
        let shared = frames.alloc_shared(dom).inspect_err(|_| {
            frames.free_hypervisor(first.first, 1);
            frames.free_hypervisor(second.first, 1);
        })?;
        drop(frames);
        for frame in [first, second, shared] {
            if frame.contents == Contents::Dirty {
                self.scrub(frame.first);
            }
        }
        Ok((shared.first, [first, second].map(|frame| self.machine.memory().own(frame.first))))
    }

    /// Scrubs a little free memory, for a processor with nothing else to do; says if there was any.
    pub fn scrub_some(&self) -> bool {
        // A block is away from the allocator while it is scrubbed, and Dom0's memory is asked for at an
        // address of its own: nothing may be away until Dom0 has it, however long the start takes.
        let dom0 = self.domain(DomId::DOM0);
        let has_started = dom0.is_some_and(|dom0| dom0.life.lock().is_created());
        if !has_started || self.machine.now() < SCRUB_FROM {
            return false;
        }
        let Some(mut block) = self.frames.lock().take_dirty(SCRUB_ORDER) else { return false };
        while let Some(frame) = block.next_to_scrub() {
            if self.machine.interrupt_pending() {
                break;
            }
            self.scrub(frame);
            block.scrubbed += 1;
        }
        self.frames.lock().scrubbed(block);
        true
    }

    /// Makes a frame all zero, for whoever reads it with caches or without.
    pub fn scrub(&self, frame: Mfn) {
        let memory = self.machine.memory();
        memory.zero(frame);
        memory.clean_and_invalidate(frame.base(), to_index(PAGE_SIZE));
    }
}

fn frames_of(first: Mfn, count: u64) -> impl Iterator<Item = Mfn> {
    (0..count).filter_map(move |past| first.checked_add(past))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use core::sync::atomic::Ordering;

    #[test]
    fn idle_processors_scrub_free_memory_bit_by_bit() {
        let fixture = Fixture::new();
        let hv = &fixture.hv;
        assert!(!hv.scrub_some(), "not while the machine starts");
        hv.machine.clock.store(SCRUB_FROM.0, Ordering::Relaxed);
        assert!(!hv.scrub_some(), "not before Dom0 has its memory");
        let dom0 = fixture.existing(0);
        assert!(dom0.life.lock().unpause().is_ok());
        let dirty = hv.frames.lock().dirty();
        assert!(hv.scrub_some());
        assert_eq!(hv.frames.lock().dirty(), dirty - (1 << SCRUB_ORDER));
        hv.machine.interrupted.store(true, Ordering::Relaxed);
        assert!(hv.scrub_some());
        assert_eq!(hv.frames.lock().dirty(), dirty - (1 << SCRUB_ORDER), "interrupts go first");
        hv.machine.interrupted.store(false, Ordering::Relaxed);
        while hv.scrub_some() {}
        assert_eq!(hv.frames.lock().dirty(), 0);
    }

    #[test]
    fn only_memory_of_its_own_can_be_held() {
        let fixture = Fixture::new();
        let guest = fixture.domain(DomId(1));
        let dom0 = fixture.existing(0);
        let gfn = Gfn::new(5);
        assert!(fixture.hv.hold_page(&guest, gfn).is_err());
        let frame = Mfn::new(crate::fixture::DOM0_RAM);
        fixture.hv.frames.lock().get(frame, dom0.id).unwrap();
        fixture.hv.map_frames(&guest, gfn, frame, 1, Kind::ForeignRw).unwrap();
        assert!(fixture.hv.hold_page(&guest, gfn).is_err(), "another's");
        fixture.hv.map_frames(&guest, gfn, Mfn::new(0x900), 1, Kind::Device).unwrap();
        assert!(fixture.hv.hold_page(&guest, gfn).is_err(), "a device");
        assert!(fixture.hv.hold_page(&guest, Gfn::new(u64::MAX)).is_err());
    }
}
