//! Single guest frames: shared pages, grant tables and others' memory into the map, anything out of it.

use super::{Part, managed, should_stop, subject, target};
use crate::domain::Domain;
use crate::hypercall::Caller;
use hv_core::addr::{Gfn, Mfn};
use hv_core::guest::Handle;
use hv_core::ids::DomId;
use hv_core::p2m::Kind;
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{self as abi, AddToPhysmap, AddToPhysmapBatch, RemoveFromPhysmap};

/// Maps one thing.
pub(super) fn add(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    let request = Handle::<AddToPhysmap>::from_register(argument).load(caller.guest)?;
    let space = u16::try_from(request.space).map_err(|_| Errno::ENOSYS)?;
    if space == abi::SPACE_GMFN_FOREIGN {
        return Err(Errno::ENOSYS);
    }
    let domain = target(caller, request.domid)?;
    check(caller, &domain, space)?;
    match space {
        abi::SPACE_SHARED_INFO => add_shared_info(caller, &domain, request.idx, request.gpfn)?,
        abi::SPACE_GRANT_TABLE => add_grant_frame(caller, &domain, request.idx, request.gpfn)?,
        abi::SPACE_DEV_MMIO => add_device(caller, &domain, request.idx, request.gpfn)?,
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// Maps several things, each with an outcome of its own.
pub(super) fn batch(caller: &Caller<'_>, argument: u64, start: u64) -> Part {
    match add_each(caller, argument, start) {
        Ok(part) => part,
        Err(error) => Part::Done(Err(error)),
    }
}

/// Makes a guest frame a hole.
pub(super) fn remove(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    let request = Handle::<RemoveFromPhysmap>::from_register(argument).load(caller.guest)?;
    let domain = managed(caller, request.domid)?;
    let gfn = Gfn::new(request.gpfn);
    if let Some(foreign) = unmap_foreign(caller, &domain, gfn) {
        caller.hv.put_page(foreign);
        return Ok(0);
    }
    let released = {
        let mut p2m = domain.p2m.lock();
        let memory = caller.hv.machine.memory();
        let found = p2m.lookup(memory, gfn).ok_or(Errno::ENOENT)?;
        if !found.kind.holds_frame() {
            return Err(Errno::ENOENT);
        }
        let mut tables = crate::domain::memory::Tables::of(caller.hv, &domain);
        let step = p2m.unmap_range(memory, &mut tables, gfn, 1, 1)?;
        caller.hv.flush(&domain, &p2m, step.flush)
    };
    caller.hv.let_go(&domain, released);
    Ok(0)
}

/// Takes a single foreign page out, which the tools do thousands of times to build a guest.
fn unmap_foreign(caller: &Caller<'_>, domain: &Domain, gfn: Gfn) -> Option<Mfn> {
    let mut p2m = domain.p2m.lock();
    let memory = caller.hv.machine.memory();
    let (mfn, stale) = p2m.unmap_page(memory, gfn, |_, kind| kind.is_foreign())?;
    caller.hv.invalidate(domain, &p2m, stale);
    Some(mfn)
}

fn add_each(caller: &Caller<'_>, argument: u64, start: u64) -> Result<Part, Errno> {
    let request = Handle::<AddToPhysmapBatch>::from_register(argument).load(caller.guest)?;
    let size = u64::from(request.size);
    if start > u64::from(u16::MAX) {
        return Err(Errno::EINVAL);
    }
    if request.space == abi::SPACE_GMFN_RANGE {
        return Err(Errno::EOPNOTSUPP);
    }
    let domain = target(caller, request.domid)?;
    check(caller, &domain, request.space)?;
    if size < start {
        return Err(Errno::EILSEQ);
    }
    if request.space == abi::SPACE_DEV_MMIO && request.foreign_domid != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let source = Source::find(caller, &domain, &request);
    let (idxs, gpfns) =
        (Handle::<u64>::from_register(request.idxs), Handle::<u64>::from_register(request.gpfns));
    let errs = Handle::<i32>::from_register(request.errs);
    for number in start..size {
        let idx = idxs.element(number).load(caller.guest)?;
        let gpfn = gpfns.element(number).load(caller.guest)?;
        let outcome = source.as_ref().map_err(|error| *error);
        let outcome = outcome.and_then(|source| source.add(caller, &domain, idx, gpfn));
        errs.element(number).store(caller.guest, &status(outcome))?;
        let done = number + 1;
        if should_stop(caller, size - done) {
            return Ok(Part::Upto(done));
        }
    }
    Ok(Part::Done(Ok(0)))
}

/// Where the frames of a batch come from.
enum Source {
    SharedInfo,
    GrantTable,
    Foreign(alloc::sync::Arc<Domain>),
    DeviceMemory,
}

impl Source {
    /// Looks the source up once for all frames; why it cannot be used is the outcome of each.
    fn find(
        caller: &Caller<'_>,
        domain: &Domain,
        request: &AddToPhysmapBatch,
    ) -> Result<Self, Errno> {
        match request.space {
            abi::SPACE_SHARED_INFO => Ok(Self::SharedInfo),
            abi::SPACE_GRANT_TABLE => Ok(Self::GrantTable),
            abi::SPACE_DEV_MMIO => Ok(Self::DeviceMemory),
            abi::SPACE_GMFN_FOREIGN => {
                let named = DomId(request.foreign_domid);
                // Pages that the hypervisor itself offers there are none of.
                if named == DomId::XEN || named == DomId::IO {
                    privilege::control(subject(caller))?;
                    return Err(Errno::EINVAL);
                }
                let source = target(caller, request.foreign_domid)?;
                if source.id == domain.id {
                    return Err(Errno::EINVAL);
                }
                privilege::over(subject(caller), source.id)?;
                Ok(Self::Foreign(source))
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn add(&self, caller: &Caller<'_>, domain: &Domain, idx: u64, gpfn: u64) -> Result<(), Errno> {
        match self {
            Self::SharedInfo => add_shared_info(caller, domain, idx, gpfn),
            Self::GrantTable => add_grant_frame(caller, domain, idx, gpfn),
            Self::Foreign(source) => add_foreign(caller, domain, source, idx, gpfn),
            Self::DeviceMemory => add_device(caller, domain, idx, gpfn),
        }
    }
}

/// Refuses callers that may not change `domain`'s map, or put `space` there.
fn check(caller: &Caller<'_>, domain: &Domain, space: u16) -> Result<(), Errno> {
    let its_own = domain.id == caller.domain.id;
    if space == abi::SPACE_DEV_MMIO && !(its_own && domain.is_privileged()) {
        return Err(Errno::EACCES);
    }
    privilege::over(subject(caller), domain.id)?;
    Ok(())
}

fn add_foreign(
    caller: &Caller<'_>,
    domain: &Domain,
    source: &Domain,
    idx: u64,
    gpfn: u64,
) -> Result<(), Errno> {
    let page = caller.hv.hold_page(source, Gfn::new(idx)).map_err(|_| Errno::EINVAL)?;
    let kind = page.kind.as_foreign();
    let mapped = caller.hv.map_frames(domain, Gfn::new(gpfn), page.mfn, 1, kind);
    if mapped.is_err() {
        caller.hv.put_page(page.mfn);
    }
    Ok(mapped?)
}

/// Maps a frame of device registers; one that the domain may not access is skipped, as Xen does.
fn add_device(caller: &Caller<'_>, domain: &Domain, idx: u64, gpfn: u64) -> Result<(), Errno> {
    let allowed = idx.checked_add(1).is_some_and(|end| domain.devices.lock().contains(idx..end));
    if !allowed {
        return Ok(());
    }
    let (gfn, mfn) = (Gfn::new(gpfn), Mfn::new(idx));
    Ok(caller.hv.map_frames(domain, gfn, mfn, 1, Kind::DirectIo)?)
}

fn add_shared_info(caller: &Caller<'_>, domain: &Domain, idx: u64, gpfn: u64) -> Result<(), Errno> {
    if idx != 0 {
        return Err(Errno::EINVAL);
    }
    add_lent_page(caller, domain, domain.shared_info.frame(), gpfn)
}

fn add_grant_frame(caller: &Caller<'_>, domain: &Domain, idx: u64, gpfn: u64) -> Result<(), Errno> {
    // Version 1 has no status frames.
    let index = u32::try_from(idx).map_err(|_| Errno::EINVAL)?;
    if idx & abi::GRANT_TABLE_STATUS != 0 {
        return Err(Errno::EINVAL);
    }
    let mfn = caller.hv.grant_frame(domain, index)?;
    add_lent_page(caller, domain, mfn, gpfn)
}

/// Maps a page lent to `domain`, which must be mapped nowhere yet.
fn add_lent_page(caller: &Caller<'_>, domain: &Domain, mfn: Mfn, gpfn: u64) -> Result<(), Errno> {
    let gfn = Gfn::new(gpfn);
    {
        let mut frames = caller.hv.frames.lock();
        if frames.shared_at(mfn).is_some() {
            return Err(Errno::EBUSY);
        }
        frames.set_shared_at(mfn, Some(gfn));
    }
    let mapped = caller.hv.map_frames(domain, gfn, mfn, 1, Kind::Shared);
    if mapped.is_err() {
        caller.hv.frames.lock().set_shared_at(mfn, None);
    }
    Ok(mapped?)
}

fn status(outcome: Result<(), Errno>) -> i32 {
    let register = outcome.map_or_else(Errno::to_register, |()| 0);
    i32::try_from(register).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{DOM0_FRAMES, DOM0_RAM, Fixture};
    use crate::hypercall::{Outcome, memory};
    use crate::machine::GuestSpace;
    use core::sync::atomic::Ordering;
    use hv_core::frames::Owner;

    const GUEST_RAM: u64 = 0x4_0000;
    /// Guest frames of Dom0 that hold nothing.
    const HOLE: u64 = 0x8_0000;

    fn ask(fixture: &Fixture, from: u16, command: u64, argument: u64) -> Outcome {
        let domain = fixture.existing(from);
        fixture.call(&domain, |caller| memory::handle(caller, &[command, argument, 0, 0, 0]))
    }

    /// A host with guest 1, which has four frames.
    fn with_guest() -> Fixture {
        let fixture = Fixture::new();
        let guest = fixture.domain(DomId(1));
        let block = fixture.hv.frames.lock().alloc_for(guest.id, 2, None).unwrap();
        let gfn = Gfn::new(GUEST_RAM);
        fixture.hv.map_frames(&guest, gfn, block.first, 4, Kind::RamRw).unwrap();
        fixture
    }

    fn add_one(fixture: &Fixture, from: u16, space: u16, idx: u64, gpfn: u64) -> Outcome {
        let request =
            AddToPhysmap { domid: DomId::SELF.0, space: space.into(), idx, gpfn, size: 0 };
        let argument = fixture.put(0, &request);
        ask(fixture, from, abi::ADD_TO_PHYSMAP, argument)
    }

    fn remove_one(fixture: &Fixture, from: u16, gpfn: u64) -> Outcome {
        let request = RemoveFromPhysmap { domid: DomId::SELF.0, gpfn, ..Default::default() };
        let argument = fixture.put(0, &request);
        ask(fixture, from, abi::REMOVE_FROM_PHYSMAP, argument)
    }

    /// Asks for foreign frames; returns the outcome and what was written for each.
    fn add_foreign_batch(
        fixture: &Fixture,
        from: u16,
        foreign: u16,
        frames: &[(u64, u64)],
    ) -> (Outcome, Vec<i32>) {
        const IDXS: u64 = 0x100;
        const GPFNS: u64 = 0x400;
        const ERRS: u64 = 0x800;
        for ((idx, gpfn), number) in frames.iter().zip(0..) {
            fixture.put(IDXS + 8 * number, idx);
            fixture.put(GPFNS + 8 * number, gpfn);
            fixture.put(ERRS + 4 * number, &99_i32);
        }
        let request = AddToPhysmapBatch {
            domid: DomId::SELF.0,
            space: abi::SPACE_GMFN_FOREIGN,
            size: u16::try_from(frames.len()).unwrap(),
            foreign_domid: foreign,
            idxs: GuestSpace::BASE + IDXS,
            gpfns: GuestSpace::BASE + GPFNS,
            errs: GuestSpace::BASE + ERRS,
        };
        let argument = fixture.put(0, &request);
        let outcome = ask(fixture, from, abi::ADD_TO_PHYSMAP_BATCH, argument);
        let errs = (0..frames.len() as u64).map(|number| fixture.get(ERRS + 4 * number));
        (outcome, errs.collect())
    }

    fn lookup(fixture: &Fixture, dom: u16, gfn: u64) -> Option<(Mfn, Kind)> {
        let domain = fixture.existing(dom);
        let p2m = domain.p2m.lock();
        let found = p2m.lookup(fixture.hv.machine.memory(), Gfn::new(gfn))?;
        Some((found.mfn, found.kind))
    }

    #[test]
    fn the_shared_page_is_mapped_once_and_again_when_it_was_removed() {
        let fixture = with_guest();
        let guest = fixture.existing(1);
        let before = fixture.hv.frames.lock().account(guest.id).unwrap().total;
        let map = |gpfn| add_one(&fixture, 1, abi::SPACE_SHARED_INFO, 0, gpfn);
        assert_eq!(map(GUEST_RAM + 1), Outcome::Done(Ok(0)));
        let expected = Some((guest.shared_info.frame(), Kind::Shared));
        assert_eq!(lookup(&fixture, 1, GUEST_RAM + 1), expected);
        let after = fixture.hv.frames.lock().account(guest.id).unwrap().total;
        assert_eq!(after, before - 1, "the frame that was there is freed");
        assert_eq!(map(GUEST_RAM + 2), Outcome::Done(Err(Errno::EBUSY)));
        assert_eq!(remove_one(&fixture, 1, GUEST_RAM + 1), Outcome::Done(Ok(0)));
        assert_eq!(map(GUEST_RAM + 2), Outcome::Done(Ok(0)));
        let outcome = add_one(&fixture, 1, abi::SPACE_SHARED_INFO, 1, GUEST_RAM);
        assert_eq!(outcome, Outcome::Done(Err(Errno::EINVAL)));
    }

    #[test]
    fn dom0_keeps_a_frame_that_something_is_mapped_over() {
        let fixture = Fixture::new();
        let outcome = add_one(&fixture, 0, abi::SPACE_SHARED_INFO, 0, DOM0_RAM + 5);
        assert_eq!(outcome, Outcome::Done(Ok(0)));
        let frames = fixture.hv.frames.lock();
        assert_eq!(frames.account(DomId::DOM0).unwrap().total, DOM0_FRAMES);
        assert_eq!(frames.owner(Mfn::new(DOM0_RAM + 5)), Owner::Domain(DomId::DOM0));
    }

    #[test]
    fn the_grant_table_grows_to_the_frame_asked_for_and_no_further_than_its_limit() {
        let fixture = with_guest();
        let map = |idx, gpfn| add_one(&fixture, 1, abi::SPACE_GRANT_TABLE, idx, gpfn);
        assert_eq!(map(2, 0x3_8002), Outcome::Done(Ok(0)));
        let guest = fixture.existing(1);
        let frames = guest.grants.lock().frames().to_vec();
        assert_eq!(frames.len(), 3);
        assert_eq!(lookup(&fixture, 1, 0x3_8002), Some((frames[2], Kind::Shared)));
        assert_eq!(map(2, 0x3_8003), Outcome::Done(Err(Errno::EBUSY)));
        for idx in [4, u64::from(u32::MAX), u64::MAX, abi::GRANT_TABLE_STATUS] {
            assert_eq!(map(idx, 0x3_8000), Outcome::Done(Err(Errno::EINVAL)));
        }
        for gpfn in [1 << 28, u64::MAX] {
            assert_eq!(map(0, gpfn), Outcome::Done(Err(Errno::EINVAL)));
        }
        assert_eq!(map(0, 0x3_8000), Outcome::Done(Ok(0)), "a refusal leaves nothing behind");
    }

    #[test]
    fn other_spaces_are_not_known_here() {
        let fixture = with_guest();
        for space in [2, 3, 4, 6, 0xffff] {
            let outcome = add_one(&fixture, 0, space, 0, HOLE);
            assert_eq!(outcome, Outcome::Done(Err(Errno::ENOSYS)));
        }
        let outcome = add_one(&fixture, 1, abi::SPACE_DEV_MMIO, 0, GUEST_RAM);
        assert_eq!(outcome, Outcome::Done(Err(Errno::EACCES)));
    }

    #[test]
    fn a_foreign_frame_is_held_until_it_is_removed() {
        let fixture = with_guest();
        let (outcome, errs) = add_foreign_batch(&fixture, 0, 1, &[(GUEST_RAM, HOLE)]);
        assert_eq!((outcome, errs), (Outcome::Done(Ok(0)), vec![0]));
        let (mfn, _) = lookup(&fixture, 1, GUEST_RAM).unwrap();
        assert_eq!(lookup(&fixture, 0, HOLE), Some((mfn, Kind::ForeignRw)));
        assert_eq!(remove_one(&fixture, 1, GUEST_RAM), Outcome::Done(Ok(0)));
        let owner = || fixture.hv.frames.lock().owner(mfn);
        assert_eq!(owner(), Owner::Domain(DomId(1)), "Dom0 still has it mapped");
        assert_eq!(remove_one(&fixture, 0, HOLE), Outcome::Done(Ok(0)));
        assert_eq!(owner(), Owner::Nobody);
        assert_eq!(remove_one(&fixture, 0, HOLE), Outcome::Done(Err(Errno::ENOENT)));
        assert_eq!(remove_one(&fixture, 0, u64::MAX), Outcome::Done(Err(Errno::ENOENT)));
    }

    #[test]
    fn each_foreign_frame_has_an_outcome_of_its_own() {
        let fixture = with_guest();
        let (outcome, errs) = add_foreign_batch(
            &fixture,
            0,
            1,
            &[
                (GUEST_RAM, HOLE),
                (GUEST_RAM + 9, HOLE + 1),
                (u64::MAX, HOLE),
                (GUEST_RAM, u64::MAX),
            ],
        );
        assert_eq!(outcome, Outcome::Done(Ok(0)));
        assert_eq!(errs, [0, -22, -22, -22]);
        for (from, foreign, error) in
            [(0, 9, -3), (0, 0, -22), (0, DomId::XEN.0, -22), (1, 0, -1), (1, DomId::SELF.0, -22)]
        {
            let (outcome, errs) =
                add_foreign_batch(&fixture, from, foreign, &[(GUEST_RAM, GUEST_RAM + 8)]);
            assert_eq!((outcome, errs), (Outcome::Done(Ok(0)), vec![error]), "d{foreign}");
        }
        let guest = fixture.existing(1);
        let (mfn, _) = lookup(&fixture, 1, GUEST_RAM).unwrap();
        assert_eq!(remove_one(&fixture, 0, HOLE), Outcome::Done(Ok(0)));
        let put = fixture.hv.frames.lock().release(mfn, 1);
        assert_eq!(put, hv_core::frames::Put::Freed, "nobody holds it any more");
        assert_eq!(guest.id, DomId(1));
    }

    #[test]
    fn a_batch_stops_for_an_interrupt_and_goes_on_from_there() {
        let fixture = with_guest();
        fixture.hv.machine.interrupted.store(true, Ordering::Relaxed);
        let frames = [(GUEST_RAM, HOLE), (GUEST_RAM + 1, HOLE + 1)];
        let (outcome, errs) = add_foreign_batch(&fixture, 0, 1, &frames);
        let command = abi::ADD_TO_PHYSMAP_BATCH | 1 << abi::OPERATION_BITS;
        assert_eq!(outcome, Outcome::Again([command, GuestSpace::BASE, 0, 0, 0]));
        assert_eq!(errs, [0, 99]);
        let outcome = ask(&fixture, 0, command, GuestSpace::BASE);
        assert_eq!(outcome, Outcome::Done(Ok(0)));
        assert_eq!(fixture.get::<i32>(0x804), 0);
        let beyond = abi::ADD_TO_PHYSMAP_BATCH | 3 << abi::OPERATION_BITS;
        let outcome = ask(&fixture, 0, beyond, GuestSpace::BASE);
        assert_eq!(outcome, Outcome::Done(Err(Errno::EILSEQ)));
    }

    #[test]
    fn arrays_that_cannot_be_reached_are_a_fault() {
        let fixture = with_guest();
        let good = AddToPhysmapBatch {
            domid: DomId::SELF.0,
            space: abi::SPACE_GMFN_FOREIGN,
            size: 1,
            foreign_domid: 1,
            idxs: GuestSpace::BASE + 0x100,
            gpfns: GuestSpace::BASE + 0x100,
            errs: GuestSpace::BASE + 0x100,
        };
        for bad in [
            AddToPhysmapBatch { idxs: u64::MAX - 3, ..good },
            AddToPhysmapBatch { gpfns: 0, ..good },
            AddToPhysmapBatch { errs: 8, ..good },
        ] {
            let argument = fixture.put(0, &bad);
            let outcome = ask(&fixture, 0, abi::ADD_TO_PHYSMAP_BATCH, argument);
            assert_eq!(outcome, Outcome::Done(Err(Errno::EFAULT)));
        }
    }

    #[test]
    fn device_frames_come_in_only_if_dom0_may_access_them() {
        let fixture = Fixture::new();
        fixture.existing(0).devices.lock().insert(0x900..0x901);
        let map = |idx, gpfn| add_one(&fixture, 0, abi::SPACE_DEV_MMIO, idx, gpfn);
        assert_eq!(map(0x900, HOLE), Outcome::Done(Ok(0)));
        assert_eq!(lookup(&fixture, 0, HOLE), Some((Mfn::new(0x900), Kind::DirectIo)));
        assert_eq!(map(0x901, HOLE + 1), Outcome::Done(Ok(0)));
        assert_eq!(map(u64::MAX, HOLE + 1), Outcome::Done(Ok(0)));
        assert_eq!(lookup(&fixture, 0, HOLE + 1), None);
    }
}
