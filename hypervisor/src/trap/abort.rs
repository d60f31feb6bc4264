//! Faults: a guest touched what stage 2 does not give it.
//!
//! It may be a register of an emulated device, or memory whose mapping another processor changed a
//! moment ago; anything else gets the exception that hardware gives for an address nobody answers at.

use crate::hypercall::Caller;
use crate::machine::VcpuContext;
use crate::trap::mmio;
use hv_core::addr::GuestAddr;
use hv_core::exit::{DataAbort, Fault, FaultAddress, InstructionAbort};
use hv_core::inject::{self, Context, Entry, FaultRegister};

/// What an access wants of the memory it reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Want {
    Read,
    Write,
    Execute,
}

/// Handles a data abort.
pub fn data(caller: &Caller<'_>, context: &mut VcpuContext, abort: DataAbort, esr: u64) {
    if let (FaultAddress::Known(address), false) = (abort.address, abort.on_walk)
        && mmio::handle(caller, context, &abort, address, esr)
    {
        return;
    }
    let want = if abort.write && !abort.on_walk { Want::Write } else { Want::Read };
    if is_allowed_by_now(caller, abort.address, abort.fault, abort.virtual_address, want) {
        return;
    }
    let entry = inject::data_abort(
        &entry_context(context),
        abort.virtual_address,
        abort.write,
        abort.cache_maintenance,
    );
    enter(context, entry);
}

/// Handles an instruction abort.
pub fn instruction(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    abort: InstructionAbort,
    _esr: u64,
) {
    let want = if abort.on_walk { Want::Read } else { Want::Execute };
    if is_allowed_by_now(caller, abort.address, abort.fault, abort.virtual_address, want) {
        return;
    }
    let entry = inject::instruction_abort(&entry_context(context), abort.virtual_address);
    enter(context, entry);
}

/// Gives the guest an undefined-instruction exception at its PC.
pub fn undefined(context: &mut VcpuContext, _esr: u64) {
    let entry = inject::undefined(&entry_context(context));
    enter(context, entry);
}

/// Says whether the access would succeed if it were made again: the mapping was changing as it was made.
fn is_allowed_by_now(
    caller: &Caller<'_>,
    address: FaultAddress,
    fault: Fault,
    virtual_address: u64,
    want: Want,
) -> bool {
    if !matches!(fault, Fault::Translation | Fault::AccessFlag | Fault::Permission) {
        return false;
    }
    let address = match address {
        FaultAddress::Known(address) => address,
        // A permission fault: a mapping that was to be read only may have become writable. The processor is
        // asked for the guest's own translation only: QEMU 10.0 ends with an assertion when an address
        // translation instruction meets a page that stage 2 gives for reading.
        FaultAddress::MustTranslate if want == Want::Write => {
            let Ok(address) = caller.guest.translate(virtual_address) else { return false };
            address
        }
        FaultAddress::MustTranslate => return false,
    };
    let memory = caller.hv.machine.memory();
    let mapping = caller.domain.p2m.lock().lookup(memory, GuestAddr::frame(address));
    mapping.is_some_and(|mapping| match want {
        Want::Read => true,
        Want::Write => mapping.kind.is_writable(),
        Want::Execute => mapping.kind.is_ram() && fault != Fault::Permission,
    })
}

fn entry_context(context: &VcpuContext) -> Context {
    Context {
        pc: context.pc(),
        pstate: context.spsr(),
        vector_base: context.vbar_el1(),
        sctlr: context.sctlr_el1(),
    }
}

fn enter(context: &mut VcpuContext, entry: Entry) {
    context.set_elr_el1(entry.elr);
    context.set_spsr_el1(entry.spsr);
    context.set_esr_el1(entry.esr);
    if let FaultRegister::Set(address) = entry.far {
        context.set_far_el1(address);
    }
    context.set_pc(entry.pc);
    context.set_spsr(entry.pstate);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use crate::machine::GuestSpace;
    use hv_core::addr::Gfn;
    use hv_core::ids::DomId;
    use hv_core::p2m::Kind;

    /// Has a guest write to a page of a `kind` for which the processor said "permission fault".
    fn may_write_again(kind: Kind) -> bool {
        let fixture = Fixture::new();
        let guest = fixture.domain(DomId(1));
        let (at, gfn) = (GuestSpace::BASE, Gfn::new(GuestSpace::BASE >> 12));
        let block = fixture.hv.frames.lock().alloc_for(guest.id, 0, None).unwrap();
        fixture.hv.map_frames(&guest, gfn, block.first, 1, kind).unwrap();
        let (address, fault) = (FaultAddress::MustTranslate, Fault::Permission);
        let mut allowed = None;
        fixture.call(&guest, |caller| {
            assert!(!is_allowed_by_now(caller, address, fault, at, Want::Execute));
            assert!(!is_allowed_by_now(caller, address, fault, 0, Want::Write), "not mapped");
            allowed = Some(is_allowed_by_now(caller, address, fault, at, Want::Write));
        });
        allowed.unwrap()
    }

    #[test]
    fn a_write_is_made_again_only_where_the_page_became_writable() {
        assert!(may_write_again(Kind::RamRw));
        assert!(!may_write_again(Kind::GrantRo));
    }
}
