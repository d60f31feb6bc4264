//! Resources of another domain, mapped straight into the caller: its grant table.

use super::{Part, should_stop, subject};
use crate::domain::Domain;
use crate::hypercall::Caller;
use alloc::sync::Arc;
use hv_core::addr::Gfn;
use hv_core::guest::Handle;
use hv_core::ids::DomId;
use hv_core::p2m::Kind;
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{self as abi, AcquireResource};

/// Maps frames of a resource at guest frames that the caller names, or says how many there are.
pub(super) fn acquire(caller: &Caller<'_>, argument: u64, start: u64) -> Part {
    match acquire_each(caller, argument, start) {
        Ok(part) => part,
        Err(error) => Part::Done(Err(error)),
    }
}

fn acquire_each(caller: &Caller<'_>, argument: u64, start: u64) -> Result<Part, Errno> {
    let handle = Handle::<AcquireResource>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    if request.pad != 0 {
        return Err(Errno::EINVAL);
    }
    let domain = another(caller, request.domid)?;
    let available = match (request.kind, request.id) {
        (abi::RESOURCE_GRANT_TABLE, abi::RESOURCE_GRANT_TABLE_SHARED) => {
            domain.grants.lock().max_frames()
        }
        // Version 1 has no status frames.
        (abi::RESOURCE_GRANT_TABLE, _) => return Err(Errno::EINVAL),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let list = Handle::<u64>::from_register(request.frame_list);
    if list.is_null() {
        if request.nr_frames != 0 {
            return Err(Errno::EINVAL);
        }
        request.nr_frames = available;
        handle.store(caller.guest, &request)?;
        return Ok(Part::Done(Ok(0)));
    }
    if request.nr_frames > u32::MAX >> abi::OPERATION_BITS {
        return Err(Errno::E2BIG);
    }
    let count = u64::from(request.nr_frames);
    let end = request.frame.checked_add(count).ok_or(Errno::EINVAL)?;
    if end > u64::from(available) || start > count {
        return Err(Errno::EINVAL);
    }
    for number in start..count {
        let gfn = Gfn::new(list.element(number).load(caller.guest)?);
        let index = u32::try_from(request.frame + number).map_err(|_| Errno::EINVAL)?;
        map_grant_frame(caller, &domain, index, gfn)?;
        let done = number + 1;
        if should_stop(caller, count - done) {
            return Ok(Part::Upto(done));
        }
    }
    Ok(Part::Done(Ok(0)))
}

/// Returns the domain that `named` is; the caller must rule over it and cannot be it.
fn another(caller: &Caller<'_>, named: u16) -> Result<Arc<Domain>, Errno> {
    let id = DomId(named).resolve(caller.domain.id);
    if id == caller.domain.id {
        return Err(Errno::EPERM);
    }
    let domain = caller.hv.domain(id).ok_or(Errno::ESRCH)?;
    privilege::over_another(subject(caller), id)?;
    Ok(domain)
}

fn map_grant_frame(
    caller: &Caller<'_>,
    domain: &Domain,
    index: u32,
    gfn: Gfn,
) -> Result<(), Errno> {
    let mfn = caller.hv.grant_frame(domain, index)?;
    caller.hv.frames.lock().get(mfn, domain.id)?;
    let mapped = caller.hv.map_frames(caller.domain, gfn, mfn, 1, Kind::ForeignRw);
    if mapped.is_err() {
        caller.hv.put_page(mfn);
    }
    Ok(mapped?)
}
