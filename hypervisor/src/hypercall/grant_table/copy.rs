//! Copying between a granted frame and one of the caller's own, or between two granted ones.

use super::map::release;
use super::{Undo, granter, status};
use crate::domain::Domain;
use crate::hypercall::Caller;
use alloc::sync::Arc;
use hv_core::addr::{MachineAddr, Mfn};
use hv_core::grant::{Access, CopyRequest, GrantError, Side, check_bounds};
use hv_core::memory::FrameMemory;
use hypercall_abi::grant_table::GnttabCopy;

/// Carries out one copy.
pub(super) fn copy(caller: &Caller<'_>, request: &mut GnttabCopy) -> Undo {
    request.status = status(try_copy(caller, request));
    Undo::Nothing
}

fn try_copy(caller: &Caller<'_>, request: &GnttabCopy) -> Result<(), GrantError> {
    if request.len == 0 {
        return Ok(());
    }
    let (source, dest) = (request.source, request.dest);
    let decoded = CopyRequest::decode(
        caller.domain.id,
        (source.domid, source.frame_or_ref),
        (dest.domid, dest.frame_or_ref),
        request.flags,
    )?;
    // Both domains are looked up before either frame is.
    let (source_other, dest_other) =
        (other_domain(caller, decoded.source)?, other_domain(caller, decoded.dest)?);
    let source_domain = source_other.as_deref().unwrap_or(caller.domain);
    let dest_domain = dest_other.as_deref().unwrap_or(caller.domain);
    let from = claim(caller, decoded.source, source_domain, Access::Read)?;
    let to = claim(caller, decoded.dest, dest_domain, Access::Write);
    let outcome = to.and_then(|to| {
        check_bounds(source.offset, dest.offset, request.len)?;
        let (from, to) = (place(from, source.offset), place(to, dest.offset));
        transfer(caller, from, to, request.len.into());
        Ok(())
    });
    let to = to.ok().and_then(|to| end(caller, decoded.dest, dest_domain, Access::Write, to));
    let from = end(caller, decoded.source, source_domain, Access::Read, from);
    caller.hv.put_pages([to, from]);
    outcome
}

/// Returns the domain that grants a frame, unless it is the caller itself.
fn other_domain(caller: &Caller<'_>, side: Side) -> Result<Option<Arc<Domain>>, GrantError> {
    match side {
        Side::Granted(dom, _) if dom != caller.domain.id => Ok(Some(granter(caller, dom)?)),
        Side::Own(_) | Side::Granted(..) => Ok(None),
    }
}

const fn place(frame: Mfn, offset: u16) -> MachineAddr {
    MachineAddr::new(frame.base().raw() + offset as u64)
}

/// Copies `len` bytes. Two places in one frame may overlap, which only goes through a buffer.
fn transfer(caller: &Caller<'_>, from: MachineAddr, to: MachineAddr, len: usize) {
    let memory = caller.memory();
    if from.frame() != to.frame() {
        return memory.copy(from, to, len);
    }
    let mut buffer = [0; 256];
    let backwards = to > from;
    let mut left = len;
    while left > 0 {
        let step = left.min(buffer.len());
        let done = if backwards { left - step } else { len - left } as u64;
        let Some(bytes) = buffer.get_mut(..step) else { return };
        memory.read(MachineAddr::new(from.raw() + done), bytes);
        memory.write(MachineAddr::new(to.raw() + done), bytes);
        left -= step;
    }
}

/// Holds one end's frame, for the length of one copy.
fn claim(
    caller: &Caller<'_>,
    side: Side,
    domain: &Domain,
    access: Access,
) -> Result<Mfn, GrantError> {
    let hold = |gfn| caller.hv.hold_ram(domain, gfn, access).ok_or(GrantError::BadPage);
    match side {
        Side::Own(gfn) => hold(gfn),
        Side::Granted(_, grant) => {
            let memory = caller.memory();
            domain.grants.lock().acquire(memory, caller.domain.id, grant, access, hold)
        }
    }
}

/// Ends the claim on one end's frame; returns the frame if it is to be let go of.
fn end(
    caller: &Caller<'_>,
    side: Side,
    domain: &Domain,
    access: Access,
    frame: Mfn,
) -> Option<Mfn> {
    match side {
        Side::Own(_) => Some(frame),
        Side::Granted(_, grant) => release(caller, domain, grant, access),
    }
}
