//! Accesses to registers of emulated devices.
//!
//! The processor describes most of them; the rest (pre- and post-indexed forms, pairs) are decoded from
//! the guest's instruction.

use crate::hypercall::Caller;
use crate::machine::VcpuContext;
use core::sync::atomic::Ordering;
use hv_core::addr::GuestAddr;
use hv_core::exit::{self, DataAbort, Plan, Register, Transfer, Width, Writeback};
use hv_core::guest::GuestMemory;
use hv_core::vgic::{Location, MmioRead};

/// A register of an emulated device.
#[derive(Clone, Copy, Debug)]
enum Device {
    InterruptController(Location),
}

/// What became of one transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    /// It is done.
    Done,
    /// The guest's instruction is to run again.
    Again,
}

const INSTRUCTION_BYTES: u64 = 4;
const SPSR_AARCH32: u64 = 1 << 4;
const SPSR_EL1H: u64 = 0b0101;
/// A virtual address without the byte that may be a tag.
const UNTAGGED: u64 = (1 << 56) - 1;

/// Carries out an access at `address`; says no if no device is there or it cannot be decoded.
pub fn handle(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    abort: &DataAbort,
    address: GuestAddr,
    esr: u64,
) -> bool {
    let Some(device) = find(caller, address) else { return false };
    if abort.cache_maintenance {
        return false;
    }
    match abort.access {
        Some(access) => {
            if transfer(caller, context, device, access.transfer, abort.write) == Progress::Done {
                context.skip_instruction(esr);
            }
            true
        }
        None => decoded(caller, context, abort, device, address),
    }
}

/// Carries out an access that the processor did not describe.
fn decoded(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    abort: &DataAbort,
    device: Device,
    address: GuestAddr,
) -> bool {
    let Some(plan) = fetch(caller, context) else { return false };
    let base = base(context, plan.base);
    let expected = base.wrapping_add_signed(plan.displacement);
    // Another address faulted than the first of the access: it straddles two pages.
    if (expected ^ abort.virtual_address) & UNTAGGED != 0 || plan.write != abort.write {
        return false;
    }
    let second = plan.second.map(|transfer| {
        let next = address.checked_add(plan.first.width.bytes());
        (next.and_then(|next| find(caller, next)), transfer)
    });
    let second = match second {
        None => None,
        Some((Some(device), transfer)) => Some((device, transfer)),
        Some((None, _)) => return false,
    };
    let parts = [Some((device, plan.first)), second];
    for (device, part) in parts.into_iter().flatten() {
        if transfer(caller, context, device, part, plan.write) == Progress::Again {
            return true;
        }
    }
    if plan.writeback != Writeback::Nothing {
        set_base(context, plan.base, plan.writeback.apply(base));
    }
    context.set_pc(context.pc().wrapping_add(INSTRUCTION_BYTES));
    true
}

fn fetch(caller: &Caller<'_>, context: &VcpuContext) -> Option<Plan> {
    if context.spsr() & SPSR_AARCH32 != 0 {
        return None;
    }
    let mut word = [0; 4];
    caller.guest.read(context.pc(), &mut word).ok()?;
    exit::decode_instruction(u32::from_le_bytes(word)).ok()
}

fn base(context: &VcpuContext, register: Register) -> u64 {
    if register != Register::ZERO_OR_SP {
        context.gpr(register.number())
    } else if uses_kernel_stack(context) {
        context.sp_el1()
    } else {
        context.sp_el0()
    }
}

fn set_base(context: &mut VcpuContext, register: Register, value: u64) {
    if register != Register::ZERO_OR_SP {
        context.set_gpr(register.number(), value);
    } else if uses_kernel_stack(context) {
        context.set_sp_el1(value);
    } else {
        context.set_sp_el0(value);
    }
}

fn uses_kernel_stack(context: &VcpuContext) -> bool {
    context.spsr() & 0xf == SPSR_EL1H
}

fn find(caller: &Caller<'_>, address: GuestAddr) -> Option<Device> {
    caller.domain.vgic.lock().locate(address).map(Device::InterruptController)
}

/// Moves one register's worth between the guest and a device.
fn transfer(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    device: Device,
    transfer: Transfer,
    write: bool,
) -> Progress {
    let register = transfer.register.number();
    if write {
        let value = context.gpr(register) & transfer.width.mask();
        match device {
            Device::InterruptController(at) => write_vgic(caller, at, transfer.width, value),
        }
        return Progress::Done;
    }
    let read = match device {
        Device::InterruptController(at) => read_vgic(caller, at, transfer.width),
    };
    match read {
        Some(value) => {
            context.set_gpr(register, transfer.extend(value));
            Progress::Done
        }
        None => Progress::Again,
    }
}

/// Reads a register of the interrupt controller; nothing if the guest is to try again.
fn read_vgic(caller: &Caller<'_>, at: Location, width: Width) -> Option<u64> {
    let vcpu = caller.vcpu.who.vcpu;
    let mut vgic = caller.domain.vgic.lock();
    let read = vgic.read(vcpu, at, width, &mut caller.hv.machine.lists());
    if vgic.needs_fill(vcpu) {
        caller.vcpu.refill.store(true, Ordering::SeqCst);
    }
    drop(vgic);
    match read {
        MmioRead::Value(value) => Some(value),
        MmioRead::Again(kick) => {
            caller.hv.wake(caller.domain, kick);
            None
        }
    }
}

fn write_vgic(caller: &Caller<'_>, at: Location, width: Width, value: u64) {
    let vcpu = caller.vcpu.who.vcpu;
    let mut vgic = caller.domain.vgic.lock();
    let work = vgic.write(vcpu, at, width, value, &mut caller.hv.machine.lists());
    if vgic.needs_fill(vcpu) {
        caller.vcpu.refill.store(true, Ordering::SeqCst);
    }
    // Under the lock, so that two processors' changes reach the physical interrupts in this order.
    caller.hv.carry_out(caller.domain, work);
}
