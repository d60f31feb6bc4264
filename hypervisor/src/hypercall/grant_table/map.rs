//! Mapping another domain's frame and unmapping it again.

use super::{Undo, granter, status};
use crate::domain::memory::Tables;
use crate::domain::{Domain, Grants};
use crate::hypercall::Caller;
use hv_core::addr::{Gfn, GuestAddr, Mfn};
use hv_core::grant::{Access, GrantError, Mapping, Released};
use hv_core::ids::{DomId, GrantRef};
use hv_core::memory::FrameMemory;
use hv_core::p2m::{Kind, Released as FramesOut, Stale};
use hypercall_abi::grant_table::{
    GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY, GnttabMapGrantRef, GnttabUnmapAndReplace,
    GnttabUnmapGrantRef,
};

/// One frame needs at most so many changes of the table: the entry, after what is around it is split.
const ONE_ENTRY: u32 = 1;
/// How many handles are looked through for that of a mapping which another one replaces: all that a
/// guest has unless its limit was raised.
const REPLACED_BUDGET: u32 = 4096;

/// Maps one granted frame.
pub(super) fn map(caller: &Caller<'_>, request: &mut GnttabMapGrantRef) -> Undo {
    match try_map(caller, request) {
        Ok((handle, mfn)) => {
            request.handle = handle;
            request.dev_bus_addr = mfn.base().raw();
            request.status = status(Ok(()));
            Undo::Mapping(handle)
        }
        Err(error) => {
            request.status = status(Err(error));
            Undo::Nothing
        }
    }
}

fn try_map(caller: &Caller<'_>, request: &GnttabMapGrantRef) -> Result<(u32, Mfn), GrantError> {
    if request.flags & (GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP) == 0 {
        return Err(GrantError::BadGrantRef);
    }
    // A translated domain has no device mappings of its own, and no page-table entries to be written.
    if request.flags & !GNTMAP_READONLY != GNTMAP_HOST_MAP {
        return Err(GrantError::General);
    }
    let readonly = request.flags & GNTMAP_READONLY != 0;
    let access = if readonly { Access::Read } else { Access::Write };
    let (dom, grant) = (DomId(request.dom), GrantRef(request.reference));
    let granter = granter(caller, dom)?;
    let memory = caller.memory();
    let mfn = granter.grants.lock().acquire(memory, caller.domain.id, grant, access, |gfn| {
        caller.hv.hold_ram(&granter, gfn, access).ok_or(GrantError::BadPage)
    })?;
    let gfn = GuestAddr::new(request.host_addr).frame();
    let mapping = Mapping { dom, grant, access, gfn, mfn };
    let mut replaced = Replaced::default();
    let mut grants = caller.domain.grants.lock();
    if grants.needs_handles() {
        add_handles(caller, &mut grants);
    }
    let inserted = grants.insert(mapping, || place(caller, gfn, mfn, access, &mut replaced));
    let out = match inserted {
        Ok((handle, ())) if replaced.was_grant => {
            grants.take_replaced(gfn, handle, REPLACED_BUDGET)
        }
        Ok(_) | Err(_) => None,
    };
    drop(grants);
    if let Some(frames) = replaced.frames {
        caller.hv.let_go(caller.domain, frames);
    }
    if let Some(out) = out {
        end_mapping(caller, out);
    }
    match inserted {
        Ok((handle, ())) => Ok((handle, mfn)),
        Err(error) => {
            end_use(caller, &granter, grant, access);
            Err(error)
        }
    }
}

/// What a new mapping took the place of.
#[derive(Default)]
struct Replaced {
    /// Frames that the translations held.
    frames: Option<FramesOut>,
    /// Another granted frame, whose handle is to be given back.
    was_grant: bool,
}

/// Adds a frame of handles; without one the caller has no handle left.
fn add_handles(caller: &Caller<'_>, grants: &mut Grants) {
    let frame = caller.hv.frames.lock().alloc_for_grants(caller.domain.id);
    if let Ok(frame) = frame {
        grants.add_handles(caller.memory().own(frame.first));
    }
}

/// Unmaps one frame.
pub(super) fn unmap(caller: &Caller<'_>, request: &mut GnttabUnmapGrantRef) -> Undo {
    request.status = status(try_unmap(caller, request.handle, request.host_addr));
    Undo::Nothing
}

/// Unmaps one frame and would put another mapping in its place, which a translated domain has not.
pub(super) fn unmap_and_replace(caller: &Caller<'_>, request: &mut GnttabUnmapAndReplace) -> Undo {
    let outcome = if request.new_addr == 0 {
        try_unmap(caller, request.handle, request.host_addr)
    } else {
        caller.domain.grants.lock().mapping(request.handle).and(Err(GrantError::General))
    };
    request.status = status(outcome);
    Undo::Nothing
}

/// Takes back a mapping that the guest could not be told of.
pub(super) fn undo(caller: &Caller<'_>, handle: u32) {
    let mapping = caller.domain.grants.lock().mapping(handle);
    if let Ok(mapping) = mapping {
        // It fails only if the guest has unmapped it meanwhile, having guessed the handle.
        let _ = try_unmap(caller, handle, mapping.gfn.base().raw());
    }
}

fn try_unmap(caller: &Caller<'_>, handle: u32, host_addr: u64) -> Result<(), GrantError> {
    let mut grants = caller.domain.grants.lock();
    if host_addr == 0 {
        // Nothing is asked for: the handle stays.
        return grants.mapping(handle).map(|_| ());
    }
    let gfn = GuestAddr::new(host_addr).frame();
    let (mapping, ()) = grants.remove(handle, gfn, |mapping| displace(caller, mapping))?;
    drop(grants);
    end_mapping(caller, mapping);
    Ok(())
}

/// Ends the use of a grant by a mapping that is no more.
fn end_mapping(caller: &Caller<'_>, mapping: Mapping) {
    // A domain that grants something exists for as long as it is in use.
    if let Some(granter) = caller.hv.domain(mapping.dom) {
        end_use(caller, &granter, mapping.grant, mapping.access);
    }
}

/// Ends a use of a grant, and with the last one the hold on its frame.
fn end_use(caller: &Caller<'_>, granter: &Domain, grant: GrantRef, access: Access) {
    if let Some(mfn) = release(caller, granter, grant, access) {
        caller.hv.put_page(mfn);
    }
}

/// Ends a use of a grant; returns its frame if that was the last, to be let go of.
#[must_use = "the frame is held for good"]
pub(super) fn release(
    caller: &Caller<'_>,
    granter: &Domain,
    grant: GrantRef,
    access: Access,
) -> Option<Mfn> {
    match granter.grants.lock().release(caller.memory(), grant, access) {
        Released::InUse => None,
        Released::Last(mfn) => Some(mfn),
    }
}

/// Maps `mfn` at `gfn` of the caller; what was there comes out in `replaced`.
fn place(
    caller: &Caller<'_>,
    gfn: Gfn,
    mfn: Mfn,
    access: Access,
    replaced: &mut Replaced,
) -> Result<(), GrantError> {
    let kind = match access {
        Access::Read => Kind::GrantRo,
        Access::Write => Kind::GrantRw,
    };
    let (hv, memory) = (caller.hv, caller.memory());
    let mut p2m = caller.domain.p2m.lock();
    if p2m.map_in_hole(memory, gfn, mfn, kind) {
        hv.invalidate(caller.domain, &p2m, Stale::Written);
        return Ok(());
    }
    let before = p2m.lookup(memory, gfn);
    let mut tables = Tables::of(hv, caller.domain);
    let step = p2m
        .map_range(memory, &mut tables, gfn, mfn, 1, kind, ONE_ENTRY)
        .map_err(|_| GrantError::General)?;
    replaced.was_grant = before.is_some_and(|before| before.kind.is_grant());
    replaced.frames = Some(hv.flush(caller.domain, &p2m, step.flush));
    Ok(())
}

/// Unmaps the frame at the mapping's place, if it is still there.
fn displace(caller: &Caller<'_>, mapping: Mapping) -> Result<(), GrantError> {
    let mut p2m = caller.domain.p2m.lock();
    let is_it = |mfn, kind: Kind| mfn == mapping.mfn && kind.is_grant();
    let (_, stale) =
        p2m.unmap_page(caller.memory(), mapping.gfn, is_it).ok_or(GrantError::General)?;
    caller.hv.invalidate(caller.domain, &p2m, stale);
    Ok(())
}
