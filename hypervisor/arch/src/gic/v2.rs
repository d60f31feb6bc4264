//! GICv2 (IHI 0048): distributor, and the processor's two interfaces, physical and virtual, in memory.

use super::interface::used;
use super::{CpuInterface, GicError, SPECIAL, bank, distributor};
use crate::barrier::{dsb_ish, dsb_ishst, dsb_sy};
use crate::mmu;
use crate::percpu::{MAX_CPUS, PerCpu};
use crate::this_cpu;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};
use hv_core::addr::MachineAddr;
use hv_core::bits::ones;
use hv_core::ids::{CpuId, Irq};
use hv_core::vgic::{MAX_LIST_REGISTERS, Maintenance};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};

register_structs! {
    /// The processor's own interface, `GICC`.
    Physical {
        (0x0000 => control: ReadWrite<u32>),
        (0x0004 => priority_mask: ReadWrite<u32>),
        (0x0008 => binary_point: ReadWrite<u32>),
        (0x000c => acknowledge: ReadOnly<u32>),
        (0x0010 => end: WriteOnly<u32>),
        (0x0014 => _reserved0),
        (0x1000 => deactivate: WriteOnly<u32>),
        (0x1004 => @END),
    },
    /// The hypervisor's side of the guest's interface, `GICH`.
    Virtual {
        (0x0000 => control: ReadWrite<u32>),
        (0x0004 => kind: ReadOnly<u32>),
        (0x0008 => interface: ReadWrite<u32>),
        (0x000c => _reserved0),
        (0x0020 => ended: ReadOnly<u32>),
        (0x0024 => _reserved1),
        (0x0030 => empty: ReadOnly<u32>),
        (0x0034 => _reserved2),
        (0x00f0 => active: ReadWrite<u32>),
        (0x00f4 => _reserved3),
        (0x0100 => lists: [ReadWrite<u32>; MAX_LIST_REGISTERS]),
        (0x0140 => @END),
    }
}

const DISTRIBUTOR_SIZE: u64 = 0x1000;
const PHYSICAL_SIZE: u64 = 0x2000;
const VIRTUAL_SIZE: u64 = 0x1000;
/// `GICC_PMR`: every priority passes.
const ALL_PRIORITIES: u32 = 0xff;
/// `GICD_IIDR`: Arm and no product, which is QEMU's.
const ARM_WITHOUT_PRODUCT: u32 = 0x43b;
/// `GICD_CTLR`: the one group there is, in the non-secure view and in that of one security state.
const DISTRIBUTOR_ON: u32 = 1;

static PHYSICAL: AtomicPtr<Physical> = AtomicPtr::new(core::ptr::null_mut());
static VIRTUAL: AtomicPtr<Virtual> = AtomicPtr::new(core::ptr::null_mut());
/// The bit of each processor in the distributor's registers; 0 until it has started.
static PROCESSOR_BITS: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];
/// What this processor acknowledged last: of a software-generated interrupt, its end names the sender.
static ACKNOWLEDGED: PerCpu<AtomicU32> = PerCpu::new([const { AtomicU32::new(0) }; MAX_CPUS]);

/// Finds a GICv2 and turns its distributor on, with every shared interrupt off.
///
/// The addresses are those of the distributor, the processor interface and the virtual interface's
/// control. Call [`super::init_this_cpu`] next, on every processor.
pub fn init_v2(gicd: MachineAddr, gicc: MachineAddr, gich: MachineAddr) -> Result<(), GicError> {
    let frame = mmu::map_device(gicd, DISTRIBUTOR_SIZE)?;
    super::DISTRIBUTOR.store(frame.cast().as_ptr(), Ordering::Release);
    PHYSICAL.store(mmu::map_device(gicc, PHYSICAL_SIZE)?.cast().as_ptr(), Ordering::Release);
    VIRTUAL.store(mmu::map_device(gich, VIRTUAL_SIZE)?.cast().as_ptr(), Ordering::Release);
    super::IS_V2.store(true, Ordering::Release);
    note_own_bit();
    let bank = distributor();
    super::OVERLOOKS.store(bank.implementer.get() == ARM_WITHOUT_PRODUCT, Ordering::Relaxed);
    bank.control.set(0);
    super::silence(bank, 32, super::interrupt_count());
    super::route_all();
    bank.control.set(DISTRIBUTOR_ON);
    Ok(())
}

/// Turns on this processor's interfaces.
pub(super) fn init_this_cpu() {
    const ON: u32 = 1;
    const SPLIT_END: u32 = 1 << 9;
    note_own_bit();
    super::silence(distributor(), 0, 32);
    let physical = physical();
    physical.priority_mask.set(ALL_PRIORITIES);
    physical.binary_point.set(0);
    physical.control.set(ON | SPLIT_END);
    let interface = interface();
    interface.control.set(0);
    for list in interface.lists.iter().take(list_register_count()) {
        list.set(0);
    }
    dsb_sy();
}

/// Learns which bit stands for this processor: its private interrupts are aimed at it.
fn note_own_bit() {
    let targets = distributor().targets.iter().take(32).map(|target| target.get());
    // A controller of one processor has no such registers.
    let own = targets.into_iter().find(|bits| *bits != 0).unwrap_or(1);
    if let Some(slot) = PROCESSOR_BITS.get(this_cpu().index()) {
        slot.store(own, Ordering::Relaxed);
    }
}

fn processor_bit(cpu: CpuId) -> u8 {
    PROCESSOR_BITS.get(cpu.index()).map_or(0, |bit| bit.load(Ordering::Relaxed))
}

#[inline]
fn physical() -> &'static Physical {
    let address = PHYSICAL.load(Ordering::Relaxed);
    assert!(!address.is_null(), "the interrupt controller is found before it is used");
    // SAFETY: `init_v2` stored the address of the mapped interface, which stays mapped.
    unsafe { &*address }
}

#[inline]
fn interface() -> &'static Virtual {
    let address = VIRTUAL.load(Ordering::Relaxed);
    assert!(!address.is_null(), "the interrupt controller is found before it is used");
    // SAFETY: `init_v2` stored the address of the mapped interface, which stays mapped.
    unsafe { &*address }
}

/// Waits until a write to the settings of `irq` has reached the distributor.
pub(super) fn wait_for_writes(irq: Irq) {
    // A device answers accesses to it in order.
    let _ = bank(irq).control.get();
    dsb_sy();
}

pub(super) fn route(irq: Irq, target: CpuId) {
    let bit = processor_bit(target);
    if let Some(targets) = distributor().targets.get(irq.index()).filter(|_| bit != 0) {
        targets.set(bit);
    }
}

#[inline]
pub(super) fn acknowledge() -> Option<Irq> {
    let value = physical().acknowledge.get();
    let irq = Irq::new(value & 0x3ff).filter(|irq| irq.intid() < SPECIAL)?;
    ACKNOWLEDGED.this().store(value, Ordering::Relaxed);
    // What the sender of the interrupt stored before is seen from here on.
    dsb_ish();
    Some(irq)
}

/// Returns what ends `irq`: its number, and the sender of a software-generated one.
#[inline]
fn ends(irq: Irq) -> u32 {
    if irq.is_sgi() { ACKNOWLEDGED.this().load(Ordering::Relaxed) } else { irq.intid() }
}

#[inline]
pub(super) fn drop_priority(irq: Irq) {
    physical().end.set(ends(irq));
}

#[inline]
pub(super) fn deactivate(irq: Irq) {
    physical().deactivate.set(ends(irq));
}

/// Writes what the register has already: QEMU looks at all interrupts after each such write.
#[inline]
pub(super) fn look_again() {
    physical().priority_mask.set(ALL_PRIORITIES);
}

#[inline]
pub(super) fn send_sgi(target: CpuId, sgi: Irq) {
    dsb_ishst();
    let value = u32::from(processor_bit(target)) << 16 | sgi.intid() & 0xf;
    distributor().software_interrupt.set(value);
}

#[inline]
pub(super) fn set_maintenance(when: Maintenance) {
    interface().control.set(word(super::interface::VIRTUAL_ON) | when.bits());
}

#[inline]
pub(super) fn virtual_priority_mask() -> u8 {
    const GROUP_0_ON: u32 = 1;
    let interface = interface().interface.get();
    if interface & GROUP_0_ON == 0 { 0 } else { interface.to_le_bytes()[3] & 0xf8 }
}

#[inline]
pub(super) fn list_register_count() -> usize {
    ((interface().kind.get() & 0x3f) as usize + 1).min(MAX_LIST_REGISTERS)
}

#[inline]
pub(super) fn read_list_register(index: usize) -> u32 {
    interface().lists.get(index).map_or(0, |list| list.get())
}

#[inline]
pub(super) fn write_list_register(index: usize, value: u32) {
    if let Some(list) = interface().lists.get(index) {
        list.set(value);
    }
}

#[inline]
pub(super) fn empty_lists() -> u32 {
    interface().empty.get()
}

#[inline]
pub(super) fn ended_lists() -> u32 {
    interface().ended.get()
}

#[inline]
pub(super) fn take_end_count() -> u32 {
    const COUNT: u32 = 0x1f << 27;
    let control = interface().control.get();
    if control & COUNT != 0 {
        interface().control.set(control & !COUNT);
    }
    (control & COUNT) >> 27
}

pub(super) fn load(saved: &CpuInterface) {
    let registers = interface();
    registers.interface.set(word(saved.interface));
    let [[active, ..], ..] = saved.active;
    registers.active.set(word(active));
    for index in ones(saved.used) {
        let index = index as usize;
        write_list_register(index, word(saved.lists.get(index).copied().unwrap_or(0)));
    }
    registers.control.set(word(saved.control));
}

pub(super) fn save(saved: &mut CpuInterface) {
    let registers = interface();
    saved.control = registers.control.get().into();
    saved.interface = registers.interface.get().into();
    let [[active, ..], ..] = &mut saved.active;
    *active = registers.active.get().into();
    saved.used = used(empty_lists(), list_register_count());
    for index in ones(saved.used) {
        let index = index as usize;
        if let Some(value) = saved.lists.get_mut(index) {
            *value = read_list_register(index).into();
            write_list_register(index, 0);
        }
    }
    registers.control.set(0);
}

/// Returns what was saved of a 32-bit register.
fn word(saved: u64) -> u32 {
    let [a, b, c, d, ..] = saved.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
