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
    let FaultAddress::Known(address) = address else {
        // A permission fault: a mapping that was to be read only may have become writable.
        return want == Want::Write && caller.guest.locate(virtual_address).is_ok();
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
