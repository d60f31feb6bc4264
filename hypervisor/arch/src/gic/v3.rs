//! GICv3 (IHI 0069): distributor, redistributors, and the processor's system registers.

use super::interface::{VIRTUAL_ON, used};
use super::{Bank, CpuInterface, GicError, SPECIAL, distributor};
use crate::barrier::{dsb_ishst, isb};
use crate::mmu;
use crate::percpu::{self, MAX_CPUS};
use crate::regs::{
    ICH_HCR_EL2, ICH_VMCR_EL2, ICH_VTR_EL2, IccBpr1, IccCtlr, IccDir, IccEoir1, IccIar1,
    IccIgrpen1, IccPmr, IccSgi1r, IccSreEl1, IccSreEl2, IchEisr, IchElrsr,
};
use crate::this_cpu;
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use hv_core::addr::MachineAddr;
use hv_core::bits::ones;
use hv_core::ids::{CpuId, Irq};
use hv_core::vgic::{MAX_LIST_REGISTERS, Maintenance};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite};

register_structs! {
    /// Where each shared interrupt goes: the distributor's from 0x6000 on.
    Routes {
        (0x0000 => route: [ReadWrite<u64>; 1024]),
        (0x2000 => @END),
    },
    /// A redistributor's control frame.
    Redistributor {
        (0x00 => control: ReadWrite<u32>),
        (0x04 => _implementer),
        (0x08 => kind: ReadOnly<u64>),
        (0x10 => _reserved0),
        (0x14 => waker: ReadWrite<u32>),
        (0x18 => @END),
    }
}

/// `GICD_CTLR`: affinity routing and group 1, in the non-secure view and in that of one security state.
const DISTRIBUTOR_ON: u32 = 1 << 4 | 1 << 1 | 1;
/// `GICD_CTLR.RWP`: a write has not taken effect yet.
const DISTRIBUTOR_BUSY: u32 = 1 << 31;
/// `GICR_CTLR.RWP`.
const REDISTRIBUTOR_BUSY: u32 = 1 << 3;
const FRAME: usize = 0x1_0000;
/// `GICD_IROUTER<0>`.
const ROUTES: usize = 0x6000;
static REDISTRIBUTORS: [AtomicPtr<Redistributor>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
/// Where redistributors may be: mapped start and length of each region.
static REGIONS: [(AtomicPtr<u8>, AtomicU64); MAX_REGIONS] =
    [const { (AtomicPtr::new(core::ptr::null_mut()), AtomicU64::new(0)) }; MAX_REGIONS];
const MAX_REGIONS: usize = 8;

/// Finds a GICv3 and turns its distributor on, with every shared interrupt off.
///
/// `redistributors` are the regions the device tree names. Call [`super::init_this_cpu`] next, on every
/// processor.
pub fn init_v3(at: MachineAddr, redistributors: &[(MachineAddr, u64)]) -> Result<(), GicError> {
    let frame = mmu::map_device(at, FRAME as u64)?;
    super::DISTRIBUTOR.store(frame.cast().as_ptr(), Ordering::Release);
    if redistributors.len() > MAX_REGIONS {
        return Err(GicError::TooManyRegions);
    }
    for (&(at, len), (region, region_len)) in redistributors.iter().zip(&REGIONS) {
        region.store(mmu::map_device(at, len)?.as_ptr(), Ordering::Relaxed);
        region_len.store(len, Ordering::Release);
    }
    let bank = distributor();
    bank.control.set(0);
    wait_for_distributor();
    let count = super::interrupt_count();
    super::silence(bank, 32, count);
    for group in bank.group.iter().take(count.div_ceil(32) as usize).skip(1) {
        group.set(u32::MAX);
    }
    bank.control.set(DISTRIBUTOR_ON);
    wait_for_distributor();
    super::route_all();
    Ok(())
}

/// Turns on this processor's redistributor and interface.
pub(super) fn init_this_cpu() {
    const SYSTEM_REGISTERS: u64 = 0b111;
    const SLEEP: u32 = 1 << 1;
    const CHILDREN_ASLEEP: u32 = 1 << 2;
    const SPLIT_END: u64 = 1 << 1;
    let redistributor = find_redistributor().expect("the device tree names each redistributor");
    if let Some(slot) = REDISTRIBUTORS.get(this_cpu().index()) {
        slot.store(redistributor.as_ptr(), Ordering::Relaxed);
    }
    // SAFETY: `find_redistributor` found a mapped redistributor there.
    let registers = unsafe { redistributor.as_ref() };
    registers.waker.set(registers.waker.get() & !SLEEP);
    while registers.waker.get() & CHILDREN_ASLEEP != 0 {
        core::hint::spin_loop();
    }
    let private = private_bank();
    super::silence(private, 0, 32);
    if let Some(group) = private.group.first() {
        group.set(u32::MAX);
    }
    wait_for_writes(Irq::sgi(0));
    // Without `Enable` a guest's access to `ICC_SRE_EL1` traps, for the next guest would find what
    // it wrote.
    IccSreEl2::set(SYSTEM_REGISTERS);
    isb();
    IccSreEl1::set(SYSTEM_REGISTERS);
    isb();
    IccPmr::set(0xff);
    IccBpr1::set(0);
    IccCtlr::set(SPLIT_END);
    IccIgrpen1::set(1);
    ICH_HCR_EL2.set(0);
    for index in 0..list_register_count() {
        write_list_register(index, 0);
    }
    isb();
}

fn find_redistributor() -> Option<NonNull<Redistributor>> {
    const LAST: u64 = 1 << 4;
    const VIRTUAL_LPIS: u64 = 1 << 1;
    let affinity = crate::cpu::affinity();
    let wanted = (affinity >> 32) << 24 | affinity & 0xff_ffff;
    for (region, len) in &REGIONS {
        let start = region.load(Ordering::Relaxed);
        let len = hv_core::addr::to_index(len.load(Ordering::Acquire));
        let mut offset = 0;
        while offset + 2 * FRAME <= len {
            let frame = NonNull::new(start.wrapping_add(offset))?.cast::<Redistributor>();
            // SAFETY: the frame lies within a region that was mapped for good as device memory.
            let kind = unsafe { frame.as_ref() }.kind.get();
            if kind >> 32 == wanted {
                return Some(frame);
            }
            if kind & LAST != 0 {
                break;
            }
            offset += if kind & VIRTUAL_LPIS != 0 { 4 * FRAME } else { 2 * FRAME };
        }
    }
    None
}

/// Returns where this processor's private interrupts are set: its SGI frame.
pub(super) fn private_bank() -> &'static Bank {
    let frame: *const Bank = this_redistributor().wrapping_byte_add(FRAME).cast();
    // SAFETY: the second 64 KiB frame of a redistributor is its SGI frame, mapped with the first.
    unsafe { &*frame }
}

pub(super) fn route(irq: Irq, target: CpuId) {
    let Some(affinity) = percpu::affinity(target) else { return };
    let routes: *const Routes = core::ptr::from_ref(distributor()).wrapping_byte_add(ROUTES).cast();
    // SAFETY: the registers are in the distributor's frame, which `init_v3` mapped whole.
    let routes = unsafe { &*routes };
    if let Some(register) = routes.route.get(irq.index()) {
        register.set(affinity);
    }
}

fn this_redistributor() -> *const Redistributor {
    let slot = REDISTRIBUTORS.get(this_cpu().index()).expect("a processor's number is in range");
    let address = slot.load(Ordering::Relaxed);
    assert!(!address.is_null(), "a processor's interrupts are set up before they are used");
    address
}

pub(super) fn wait_for_writes(irq: Irq) {
    if irq.is_private() {
        // SAFETY: `init_this_cpu` stored the address of the mapped redistributor.
        let redistributor = unsafe { &*this_redistributor() };
        while redistributor.control.get() & REDISTRIBUTOR_BUSY != 0 {
            core::hint::spin_loop();
        }
    } else {
        wait_for_distributor();
    }
}

fn wait_for_distributor() {
    while distributor().control.get() & DISTRIBUTOR_BUSY != 0 {
        core::hint::spin_loop();
    }
}

#[inline(always)]
pub(super) fn acknowledge() -> Option<Irq> {
    let intid = u32::try_from(IccIar1::get() & 0xff_ffff).unwrap_or(SPECIAL);
    Irq::new(intid)
}

#[inline(always)]
pub(super) fn drop_priority(irq: Irq) {
    IccEoir1::set(u64::from(irq.intid()));
}

#[inline(always)]
pub(super) fn deactivate(irq: Irq) {
    IccDir::set(u64::from(irq.intid()));
}

#[inline]
pub(super) fn send_sgi(target: CpuId, sgi: Irq) {
    let Some(affinity) = percpu::affinity(target) else { return };
    let byte = |level: u32| (affinity >> level) & 0xff;
    let value = byte(32) << 48
        | (byte(0) >> 4) << 44
        | byte(16) << 32
        | u64::from(sgi.intid() & 0xf) << 24
        | byte(8) << 16
        | 1 << (byte(0) & 0xf);
    dsb_ishst();
    IccSgi1r::set(value);
    isb();
}

#[inline(always)]
pub(super) fn set_maintenance(when: Maintenance) {
    ICH_HCR_EL2.set(VIRTUAL_ON | u64::from(when.bits()));
}

#[inline]
pub(super) fn virtual_priority_mask() -> u8 {
    const GROUP_1_ON: u64 = 1 << 1;
    let interface = ICH_VMCR_EL2.get();
    if interface & GROUP_1_ON == 0 { 0 } else { interface.to_le_bytes()[3] }
}

pub(super) fn load(saved: &CpuInterface) {
    ICH_VMCR_EL2.set(saved.interface);
    for (group, values) in saved.active.iter().enumerate() {
        for (index, &value) in values.iter().enumerate().take(active_register_count()) {
            write_active_register(group, index, value);
        }
    }
    for index in ones(saved.used) {
        let index = index as usize;
        write_list_register(index, saved.lists.get(index).copied().unwrap_or(0));
    }
    ICH_HCR_EL2.set(saved.control);
}

pub(super) fn save(saved: &mut CpuInterface) {
    saved.control = ICH_HCR_EL2.get();
    saved.interface = ICH_VMCR_EL2.get();
    for (group, values) in saved.active.iter_mut().enumerate() {
        for (index, value) in values.iter_mut().enumerate().take(active_register_count()) {
            *value = read_active_register(group, index);
        }
    }
    saved.used = used(empty_lists(), list_register_count());
    for index in ones(saved.used) {
        let index = index as usize;
        if let Some(value) = saved.lists.get_mut(index) {
            *value = read_list_register(index);
            write_list_register(index, 0);
        }
    }
    ICH_HCR_EL2.set(0);
}

#[inline]
pub(super) fn empty_lists() -> u32 {
    low_half(IchElrsr::get())
}

#[inline]
pub(super) fn ended_lists() -> u32 {
    low_half(IchEisr::get())
}

#[inline]
pub(super) fn take_end_count() -> u32 {
    const COUNT: u64 = 0x1f << 27;
    let control = ICH_HCR_EL2.get();
    if control & COUNT != 0 {
        ICH_HCR_EL2.set(control & !COUNT);
    }
    low_half((control & COUNT) >> 27)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half of these registers is reserved"
)]
const fn low_half(value: u64) -> u32 {
    value as u32
}

#[inline]
pub(super) fn list_register_count() -> usize {
    hv_core::addr::to_index((ICH_VTR_EL2.get() & 0x1f) + 1).min(MAX_LIST_REGISTERS)
}

/// Returns how many active-priority registers each group has: by the bits of pre-emption.
#[inline]
fn active_register_count() -> usize {
    match (ICH_VTR_EL2.get() >> 26) & 0b111 {
        6 => 4,
        5 => 2,
        _ => 1,
    }
}

macro_rules! read_register {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading a register of the virtual interface has no effect.
        unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack, preserves_flags)) };
        value
    }};
}

macro_rules! write_register {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the register says which interrupts the guest sees; none of our memory is concerned.
        unsafe { asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
    }};
}

/// Reaches a register by its number, which is part of the instruction.
macro_rules! numbered {
    ($read:ident, $write:ident, $($number:literal => $name:literal),*) => {
        #[inline]
        pub(super) fn $read(number: usize) -> u64 {
            match number {
                $($number => read_register!($name),)*
                _ => 0,
            }
        }

        #[inline]
        pub(super) fn $write(number: usize, value: u64) {
            match number {
                $($number => write_register!($name, value),)*
                _ => {}
            }
        }
    };
}

numbered!(
    read_list_register, write_list_register,
    0 => "ICH_LR0_EL2", 1 => "ICH_LR1_EL2", 2 => "ICH_LR2_EL2", 3 => "ICH_LR3_EL2",
    4 => "ICH_LR4_EL2", 5 => "ICH_LR5_EL2", 6 => "ICH_LR6_EL2", 7 => "ICH_LR7_EL2",
    8 => "ICH_LR8_EL2", 9 => "ICH_LR9_EL2", 10 => "ICH_LR10_EL2", 11 => "ICH_LR11_EL2",
    12 => "ICH_LR12_EL2", 13 => "ICH_LR13_EL2", 14 => "ICH_LR14_EL2", 15 => "ICH_LR15_EL2"
);
numbered!(
    read_group_0, write_group_0,
    0 => "ICH_AP0R0_EL2", 1 => "ICH_AP0R1_EL2", 2 => "ICH_AP0R2_EL2", 3 => "ICH_AP0R3_EL2"
);
numbered!(
    read_group_1, write_group_1,
    0 => "ICH_AP1R0_EL2", 1 => "ICH_AP1R1_EL2", 2 => "ICH_AP1R2_EL2", 3 => "ICH_AP1R3_EL2"
);

fn read_active_register(group: usize, index: usize) -> u64 {
    if group == 0 { read_group_0(index) } else { read_group_1(index) }
}

fn write_active_register(group: usize, index: usize, value: u64) {
    if group == 0 { write_group_0(index, value) } else { write_group_1(index, value) }
}
