//! Accesses to registers of emulated devices.
//!
//! The processor describes most of them; the rest (pre- and post-indexed forms, pairs) are decoded from
//! the guest's instruction.

use crate::hypercall::Caller;
use crate::machine::VcpuContext;
use hv_core::addr::GuestAddr;
use hv_core::exit::{self, DataAbort, Plan, Register, Transfer, Writeback};
use hv_core::guest::GuestMemory;
use hv_core::vgic::{Location, MmioRead, Vgic};
use hv_core::vpl011::{self, Answer};

/// A register of an emulated device.
#[derive(Clone, Copy, Debug)]
enum Device {
    InterruptController(Location),
    Uart {
        /// Bytes from its start.
        offset: u64,
    },
}

/// What became of one transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    /// It is done.
    Done,
    /// The guest's instruction is to run again.
    Again,
    /// The device does not answer.
    Refused,
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
    let Some(location) = vgic.locate(address) else {
        drop(vgic);
        return match find_uart(caller, address) {
            Some(device) => at_uart(caller, context, abort, device, address, esr),
            None => false,
        };
    };
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

fn at_uart(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    abort: &DataAbort,
    device: Device,
    address: GuestAddr,
    esr: u64,
) -> bool {
    if abort.cache_maintenance {
        return false;
    }
    let Some(access) = abort.access else {
        return decoded(caller, context, abort, device, address);
    };
    let progress = transfer(caller, context, device, access.transfer, abort.write);
    if progress == Progress::Done {
        context.skip_instruction(esr);
    }
    progress != Progress::Refused
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
        match transfer(caller, context, device, part, plan.write) {
            Progress::Done => {}
            Progress::Again => return true,
            Progress::Refused => return false,
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
    let location = caller.domain.vgic.lock().locate(address);
    location.map(Device::InterruptController).or_else(|| find_uart(caller, address))
}

fn find_uart(caller: &Caller<'_>, address: GuestAddr) -> Option<Device> {
    let offset = vpl011::locate(address)?;
    caller.domain.uart.lock().is_some().then_some(Device::Uart { offset })
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
        Device::Uart { offset } => uart_transfer(caller, context, offset, transfer, write),
    }
}

fn uart_transfer(
    caller: &Caller<'_>,
    context: &mut VcpuContext,
    offset: u64,
    transfer: Transfer,
    write: bool,
) -> Progress {
    let (register, width) = (transfer.register.number(), transfer.width);
    let answer = caller.hv.access_uart(caller.domain, |uart, memory| {
        if write {
            uart.write(memory, offset, width, context.gpr(register))
        } else {
            uart.read(memory, offset, width)
        }
    });
    match answer {
        Answer::Refused => Progress::Refused,
        Answer::Done { value, .. } => {
            if !write {
                context.set_gpr(register, transfer.extend(value));
            }
            Progress::Done
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
        caller.vcpu.ask_for_refill();
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Domain;
    use crate::fixture::Fixture;
    use crate::machine::GuestSpace;
    use crate::trap::abort;
    use alloc::sync::Arc;
    use hv_core::addr::{Gfn, MachineAddr};
    use hv_core::evtchn::Peer;
    use hv_core::exit::{Access, Fault, FaultAddress, Width};
    use hv_core::ids::{DomId, Port, VcpuId};
    use hv_core::memory::FrameMemory;
    use hv_core::p2m::Kind;

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
        let _ = vcpu.must_refill();
        let mut context = VcpuContext::default();
        let mut write = |address, value| {
            context.set_gpr(3, value);
            let abort = abort(address, true, described(3, Width::Word));
            fixture.call(&domain, |caller| abort::data(caller, &mut context, abort, IL));
        };
        write(DISTRIBUTOR, 0x12);
        write(REDISTRIBUTOR + 0x1_0100, 1 << 5);
        assert!(!vcpu.must_refill());
        write(REDISTRIBUTOR + 0x1_0200, 1 << 5);
        assert!(vcpu.must_refill());
    }

    /// A guest with a UART, whose other end Dom0 has.
    struct Line {
        fixture: Fixture,
        guest: Arc<Domain>,
        ring: MachineAddr,
        port: Port,
        context: VcpuContext,
    }

    impl Line {
        fn new() -> Self {
            let fixture = Fixture::new();
            let (hv, dom0) = (&fixture.hv, fixture.existing(0));
            let guest = fixture.domain(DomId(1));
            let page = hv.frames.lock().alloc_for(guest.id, 0, None).unwrap().first;
            hv.map_frames(&guest, Gfn::new(0x3_9003), page, 1, Kind::RamRw).unwrap();
            let remote = hv.give_uart(&guest, Gfn::new(0x3_9003), dom0.id).unwrap();
            let (port, _) = {
                let mut ports = dom0.ports.lock();
                let mut theirs = guest.ports.lock();
                let peer = Peer::Other(&mut theirs);
                ports.bind_interdomain(hv.machine.memory(), peer, remote.number()).unwrap()
            };
            let mut context = VcpuContext::default();
            context.set_vbar_el1(VECTORS);
            Self { guest, ring: page.base(), port, context, fixture }
        }

        fn access(&mut self, abort: DataAbort) {
            let Self { fixture, guest, context, .. } = self;
            fixture.call(guest, |caller| abort::data(caller, context, abort, IL));
        }

        fn write(&mut self, address: u64, value: u64) {
            self.context.set_gpr(3, value);
            self.access(abort(address, true, described(3, Width::Word)));
        }

        fn read(&mut self, address: u64) -> u64 {
            self.access(abort(address, false, described(4, Width::Word)));
            self.context.gpr(4)
        }

        fn is_interrupt_pending(&mut self) -> bool {
            self.read(DISTRIBUTOR + 0x204) & 1 != 0
        }

        fn at(&self, offset: u64) -> MachineAddr {
            self.ring.checked_add(offset).unwrap()
        }

        /// Says whether Dom0 was told since it was last asked.
        fn was_told(&self) -> bool {
            let dom0 = self.fixture.existing(0);
            let word = dom0.shared_info.checked_add(48).unwrap();
            let pending = self.fixture.hv.machine.memory().fetch_and_u64(word, 0);
            pending & 1 << self.port.number() != 0
        }
    }

    const UART: u64 = 0x2200_0000;

    #[test]
    fn what_a_guest_writes_to_its_uart_reaches_dom0() {
        let mut line = Line::new();
        assert!(line.was_told(), "as it bound");
        line.write(UART, u64::from(b'A'));
        assert!(line.was_told());
        let memory = line.fixture.hv.machine.memory();
        assert_eq!((memory.load_u8(line.at(1024)), memory.load_u32(line.at(3084))), (b'A', 1));
        assert_eq!(line.read(UART + 0x18), 1 << 4);
        assert!(!line.was_told(), "there is nothing new");
        assert_eq!(line.context.pc(), 8);
    }

    #[test]
    fn input_raises_the_uarts_line_until_it_is_read() {
        let mut line = Line::new();
        line.write(UART + 0x38, 1 << 6);
        let memory = line.fixture.hv.machine.memory();
        memory.swap_u8(line.at(0), b'z');
        memory.store_u32(line.at(3076), 1);
        let dom0 = line.fixture.existing(0);
        assert!(!line.is_interrupt_pending());
        let memory = line.fixture.hv.machine.memory();
        let delivery = dom0.ports.lock().send(memory, line.port.number()).unwrap();
        line.fixture.hv.deliver(&dom0, delivery);
        assert!(line.is_interrupt_pending());
        let _ = line.was_told();
        assert_eq!(line.read(UART), u64::from(b'z'));
        assert!(line.was_told(), "there is room again");
        assert!(!line.is_interrupt_pending());
    }

    #[test]
    fn what_a_uart_does_not_answer_to_gets_the_hardwares_exception() {
        let mut line = Line::new();
        line.context.set_spsr(5);
        line.access(abort(UART, true, described(0, Width::Double)));
        assert_eq!((line.context.pc(), line.context.far_el1()), (VECTORS + 0x200, UART));
        let fixture = Fixture::new();
        let mut context = VcpuContext::default();
        context.set_spsr(5);
        context.set_vbar_el1(VECTORS);
        let domain = fixture.domain(DomId(1));
        let abort = abort(UART, true, described(0, Width::Word));
        fixture.call(&domain, |caller| abort::data(caller, &mut context, abort, IL));
        assert_eq!(context.pc(), VECTORS + 0x200, "this one has no UART");
    }

    #[test]
    fn an_indexed_write_reaches_the_uart_too() {
        let mut line = Line::new();
        line.context.set_gpr(1, u64::from(b'q'));
        line.context.set_gpr(2, UART);
        let strb_w1_x2_post_1: u32 = 0x3800_1441;
        line.context.set_pc(line.fixture.put(0, &strb_w1_x2_post_1));
        line.access(abort(UART, true, None));
        assert_eq!(line.fixture.hv.machine.memory().load_u8(line.at(1024)), b'q');
        assert_eq!(line.context.gpr(2), UART + 1);
        assert_eq!(line.context.pc(), GuestSpace::BASE + 4);
    }

    #[test]
    fn a_uart_at_its_end_hears_nothing_and_lets_its_page_go() {
        let line = Line::new();
        let (hv, dom0) = (&line.fixture.hv, line.fixture.existing(0));
        let delivery = dom0.ports.lock().send(hv.machine.memory(), line.port.number()).unwrap();
        while hv.destroy(&line.guest) != crate::domain::destroy::Progress::Done {}
        hv.deliver(&dom0, delivery);
        hv.hear_of_uart(&line.guest);
        assert!(hv.domain(DomId(1)).is_none());
    }
}
