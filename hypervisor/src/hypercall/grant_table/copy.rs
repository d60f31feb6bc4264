//! Copying between a granted frame and one of the caller's own, or between two granted ones.

use super::map::end_use;
use super::{Undo, granter, status};
use crate::domain::Domain;
use crate::hypercall::Caller;
use alloc::sync::Arc;
use hv_core::addr::{MachineAddr, Mfn};
use hv_core::grant::{Access, CopyRequest, GrantError, Side, check_bounds};
use hv_core::ids::GrantRef;
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
    let source_domain = domain_of(caller, decoded.source)?;
    let dest_domain = domain_of(caller, decoded.dest)?;
    let from = Claim::take(caller, decoded.source, source_domain, Access::Read)?;
    let outcome = Claim::take(caller, decoded.dest, dest_domain, Access::Write).and_then(|to| {
        let fits = check_bounds(source.offset, dest.offset, request.len);
        if fits.is_ok() {
            transfer(caller, from.at(source.offset), to.at(dest.offset), request.len.into());
        }
        to.end(caller);
        fits
    });
    from.end(caller);
    outcome
}

fn domain_of(caller: &Caller<'_>, side: Side) -> Result<Arc<Domain>, GrantError> {
    match side {
        Side::Own(_) => Ok(Arc::clone(caller.domain)),
        Side::Granted(dom, _) => granter(caller, dom),
    }
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

/// A frame held for the length of one copy.
struct Claim {
    mfn: Mfn,
    granted: Option<(Arc<Domain>, GrantRef, Access)>,
}

impl Claim {
    fn take(
        caller: &Caller<'_>,
        side: Side,
        domain: Arc<Domain>,
        access: Access,
    ) -> Result<Self, GrantError> {
        let hold = |gfn| caller.hv.hold_ram(&domain, gfn, access).ok_or(GrantError::BadPage);
        match side {
            Side::Own(gfn) => Ok(Self { mfn: hold(gfn)?, granted: None }),
            Side::Granted(_, grant) => {
                let mut grants = domain.grants.lock();
                let mfn = grants.acquire(caller.memory(), caller.domain.id, grant, access, hold)?;
                drop(grants);
                Ok(Self { mfn, granted: Some((domain, grant, access)) })
            }
        }
    }

    const fn at(&self, offset: u16) -> MachineAddr {
        MachineAddr::new(self.mfn.base().raw() + offset as u64)
    }

    fn end(self, caller: &Caller<'_>) {
        match self.granted {
            None => caller.hv.put_page(self.mfn),
            Some((domain, grant, access)) => end_use(caller, &domain, grant, access),
        }
    }
}
