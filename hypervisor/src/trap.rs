//! What a guest's trap leads to: each kind to its handler.

pub mod abort;
pub mod mmio;
pub mod smc;
pub mod sysreg;

use crate::hypercall::{self, Arguments, Caller, Outcome};
use crate::machine::{Machine, VcpuContext};
use hv_core::exit::{self, Exit};

/// `ESR_EL2` of `HVC #0xEA1` from AArch64, which by far most traps are.
const XEN_HYPERCALL: u64 = 0x16 << 26 | 1 << 25 | hypercall_abi::hypercall::HVC_TAG as u64;
/// The register with the hypercall's number.
const NUMBER: usize = 16;

/// Handles a synchronous exception of the guest with syndrome `esr`.
#[inline(always)]
pub fn handle(caller: &Caller<'_>, context: &mut VcpuContext, esr: u64) {
    if esr == XEN_HYPERCALL {
        return hypercall(caller, context);
    }
    let (virtual_address, page) = Machine::fault();
    match exit::decode(esr, virtual_address, page, || context.spsr()) {
        Exit::Hypercall { immediate: hypercall_abi::hypercall::HVC_TAG } => {
            hypercall(caller, context);
        }
        Exit::Hypercall { immediate: 0 } => smc::handle(caller, context),
        Exit::SecureCall { immediate: 0 } => {
            context.skip_instruction(esr);
            smc::handle(caller, context);
        }
        Exit::Register(access) => sysreg::handle(caller, context, access, esr),
        Exit::DataAbort(abort) => abort::data(caller, context, abort, esr),
        Exit::InstructionAbort(abort) => abort::instruction(caller, context, abort, esr),
        Exit::WaitForInterrupt => {
            context.skip_instruction(esr);
            caller.hv.wait_for_interrupt(caller.domain, caller.vcpu);
        }
        Exit::WaitForEvent => {
            context.skip_instruction(esr);
            caller.hv.yield_now(caller.vcpu);
        }
        Exit::Skipped => context.skip_instruction(esr),
        // An `HVC` with another number steps back onto the instruction, which is undefined.
        Exit::Hypercall { .. } => {
            context.set_pc(context.pc().wrapping_sub(4));
            abort::undefined(context, esr);
        }
        Exit::SecureCall { .. } | Exit::FloatingPoint | Exit::Undefined => {
            abort::undefined(context, esr);
        }
    }
}

#[inline(always)]
fn hypercall(caller: &Caller<'_>, context: &mut VcpuContext) {
    match hypercall::dispatch(caller, context.gpr(NUMBER), context.arguments()) {
        Outcome::Done(result) => context.set_gpr(0, Outcome::register(result)),
        Outcome::Again(arguments) => again(context, &arguments),
    }
}

/// Has the guest execute its instruction once more, with these arguments.
#[cold]
#[inline(never)]
fn again(context: &mut VcpuContext, arguments: &Arguments) {
    for (number, value) in arguments.iter().enumerate() {
        context.set_gpr(number, *value);
    }
    context.set_pc(context.pc().wrapping_sub(4));
}
