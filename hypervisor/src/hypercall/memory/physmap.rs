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
        abi::SPACE_DEV_MMIO => (),
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
    let released = {
        let mut p2m = domain.p2m.lock();
        let memory = caller.hv.machine.memory();
        let found = p2m.lookup(memory, gfn).ok_or(Errno::ENOENT)?;
        if !found.kind.holds_frame() {
            return Err(Errno::ENOENT);
        }
        let mut tables = crate::domain::memory::Tables(&caller.hv.frames);
        let step = p2m.unmap_range(memory, &mut tables, gfn, 1, 1)?;
        caller.hv.flush(&domain, &p2m, step.flush)
    };
    caller.hv.let_go(&domain, released);
    Ok(0)
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
            // No device memory is left out of Dom0's map that it may access: skipped, as Xen does.
            Self::DeviceMemory => Ok(()),
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
