//! Accesses to registers of emulated devices.
//!
//! The processor describes most of them; the rest (pre- and post-indexed forms, pairs) are decoded from
//! the guest's instruction.

use crate::hypercall::Caller;
use crate::machine::VcpuContext;
use core::sync::atomic::Ordering;
use hv_core::addr::GuestAddr;
use hv_core::exit::{self, DataAbort, Plan, Register, Transfer, Writeback};
use hv_core::guest::GuestMemory;
use hv_core::vgic::{Location, MmioRead, Vgic};

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
    let mut vgic = caller.domain.vgic.lock();
    let Some(location) = vgic.locate(address) else { return false };
    if abort.cache_maintenance {
        return false;
    }
    match abort.access {
        Some(access) => {
            let progress =
                vgic_transfer(caller, context, &mut vgic, location, access.transfer, abort.write);
            if progress == Progress::Done {
                context.skip_instruction(esr);
            }
            true
        }
        None => {
            drop(vgic);
            decoded(caller, context, abort, Device::InterruptController(location), address)
        }
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
    match device {
        Device::InterruptController(location) => {
            let mut vgic = caller.domain.vgic.lock();
            vgic_transfer(caller, context, &mut vgic, location, transfer, write)
        }
    }
}

fn vgic_transfer(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    vgic: &mut Vgic,
    location: Location,
    transfer: Transfer,
    write: bool,
) -> Progress {
    let vcpu = caller.vcpu.who.vcpu;
    let register = transfer.register.number();
    let lists = &mut caller.hv.machine.lists();
    let progress = if write {
        let value = context.gpr(register) & transfer.width.mask();
        let work = vgic.write(vcpu, location, transfer.width, value, lists);
        // Under the lock, so that two processors' changes reach the physical interrupts in this order.
        caller.hv.carry_out(caller.domain, work);
        Progress::Done
    } else {
        match vgic.read(vcpu, location, transfer.width, lists) {
            MmioRead::Value(value) => {
                context.set_gpr(register, transfer.extend(value));
                Progress::Done
            }
            MmioRead::Again(kick) => {
                caller.hv.wake(caller.domain, kick);
                Progress::Again
            }
        }
    };
    if vgic.needs_fill(vcpu) {
        caller.vcpu.refill.store(true, Ordering::SeqCst);
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use crate::machine::GuestSpace;
    use crate::trap::abort;
    use hv_core::exit::{Access, Fault, FaultAddress, Width};
    use hv_core::ids::{DomId, VcpuId};

    const DISTRIBUTOR: u64 = 0x300_1000;
    const REDISTRIBUTOR: u64 = 0x302_0000;
    const VECTORS: u64 = 0x8_0000;
    const IL: u64 = 1 << 25;

    fn abort(address: u64, write: bool, access: Option<Access>) -> DataAbort {
        DataAbort {
            virtual_address: address,
            address: FaultAddress::Known(GuestAddr::new(address)),
            fault: Fault::Translation,
            write,
            on_walk: false,
            cache_maintenance: false,
            access,
        }
    }

    fn described(register: u8, width: Width) -> Option<Access> {
        let register = Register::new(register);
        Some(Access { transfer: Transfer { register, width, sign_extend: false, wide: false } })
    }

    /// Has a guest take `abort` at an instruction with encoding `word`.
    fn trap(context: &mut VcpuContext, word: u32, abort: DataAbort) {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        context.set_pc(fixture.put(0, &word));
        context.set_vbar_el1(VECTORS);
        fixture.call(&domain, |caller| abort::data(caller, context, abort, IL));
    }

    #[test]
    fn a_described_read_puts_the_value_in_its_register_and_goes_on() {
        let mut context = VcpuContext::default();
        trap(&mut context, 0, abort(DISTRIBUTOR + 0xffe8, false, described(5, Width::Word)));
        assert_eq!(context.gpr(5), 0x30);
        assert_eq!(context.pc(), GuestSpace::BASE + 4);
    }

    #[test]
    fn an_indexed_read_is_decoded_and_moves_its_base() {
        let mut context = VcpuContext::default();
        context.set_gpr(2, DISTRIBUTOR + 0xffe8);
        let ldr_w1_x2_post_4 = 0xb840_4441;
        trap(&mut context, ldr_w1_x2_post_4, abort(DISTRIBUTOR + 0xffe8, false, None));
        assert_eq!((context.gpr(1), context.gpr(2)), (0x30, DISTRIBUTOR + 0xffec));
        assert_eq!(context.pc(), GuestSpace::BASE + 4);
    }

    #[test]
    fn a_pair_reads_two_registers_and_uses_the_right_stack_pointer() {
        let mut context = VcpuContext::default();
        context.set_spsr(5);
        context.set_sp_el1(REDISTRIBUTOR + 8);
        context.set_sp_el0(0x1234);
        let ldp_w0_w1_sp_post_8 = 0x28c1_07e0;
        trap(&mut context, ldp_w0_w1_sp_post_8, abort(REDISTRIBUTOR + 8, false, None));
        assert_eq!((context.gpr(0), context.gpr(1)), (0, 0));
        assert_eq!((context.sp_el1(), context.sp_el0()), (REDISTRIBUTOR + 16, 0x1234));
        assert_eq!(context.pc(), GuestSpace::BASE + 4);
    }

    #[test]
    fn what_cannot_be_decoded_gets_the_hardwares_exception() {
        let mut context = VcpuContext::default();
        context.set_spsr(5);
        context.set_gpr(1, DISTRIBUTOR);
        let ldxr_w0_x1 = 0x885f_7c20;
        trap(&mut context, ldxr_w0_x1, abort(DISTRIBUTOR, false, None));
        assert_eq!(context.pc(), VECTORS + 0x200);
        assert_eq!((context.far_el1(), context.esr_el1()), (DISTRIBUTOR, 0x9600_0010));
        assert_eq!(context.elr_el1(), GuestSpace::BASE);
    }

    #[test]
    fn a_base_that_does_not_lead_to_the_fault_is_not_followed() {
        let mut context = VcpuContext::default();
        context.set_spsr(5);
        context.set_gpr(2, 0x5555);
        let ldr_w1_x2_post_4 = 0xb840_4441;
        trap(&mut context, ldr_w1_x2_post_4, abort(DISTRIBUTOR, false, None));
        assert_eq!((context.pc(), context.gpr(2)), (VECTORS + 0x200, 0x5555));
    }

    #[test]
    fn an_address_where_nothing_is_gets_the_hardwares_exception() {
        let mut context = VcpuContext::default();
        trap(&mut context, 0, abort(0xdead_0000, true, described(0, Width::Word)));
        assert_eq!(context.pc(), VECTORS + 0x400);
        assert_eq!((context.far_el1(), context.esr_el1()), (0xdead_0000, 0x9200_0050));
    }

    #[test]
    fn an_access_to_memory_that_is_there_by_now_runs_again() {
        let fixture = Fixture::new();
        let dom0 = fixture.existing(0);
        let mut context = VcpuContext::default();
        context.set_pc(0x77);
        let abort = abort(crate::fixture::DOM0_RAM << 12, true, described(0, Width::Word));
        fixture.call(&dom0, |caller| abort::data(caller, &mut context, abort, IL));
        assert_eq!((context.pc(), context.esr_el1()), (0x77, 0));
    }

    #[test]
    fn a_write_that_makes_an_interrupt_deliverable_has_the_list_registers_filled() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        let vcpu = domain.vcpu(VcpuId(0)).unwrap();
        vcpu.refill.store(false, Ordering::SeqCst);
        let mut context = VcpuContext::default();
        let mut write = |address, value| {
            context.set_gpr(3, value);
            let abort = abort(address, true, described(3, Width::Word));
            fixture.call(&domain, |caller| abort::data(caller, &mut context, abort, IL));
        };
        write(DISTRIBUTOR, 0x12);
        write(REDISTRIBUTOR + 0x1_0100, 1 << 5);
        assert!(!vcpu.refill.load(Ordering::SeqCst));
        write(REDISTRIBUTOR + 0x1_0200, 1 << 5);
        assert!(vcpu.refill.load(Ordering::SeqCst));
    }
}
