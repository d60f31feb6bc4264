//! The physical interrupt controller, and the virtual interface it gives a guest.
//!
//! Interrupts are taken in two steps (`EOImode` 1): [`drop_priority`] lets others in, [`deactivate`] lets
//! the same one in again; a guest's own end of interrupt does the second for what a list register
//! ties to hardware. Which interrupt goes where is decided by `hv_core::vgic` and the hypervisor.
//!
//! The functions act through the one controller that [`init_v2`] or [`init_v3`] found. The settings of single
//! interrupts are in registers that both versions have in common.

mod interface;
mod v2;
mod v3;

pub use interface::{CpuInterface, ThisCpuLists};
pub use v2::init_v2;
pub use v3::init_v3;

use crate::lock::Lock;
use crate::mmu::MapError;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use hv_core::ids::{CpuId, Irq};
use hv_core::vgic::Maintenance;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};

register_structs! {
    /// The distributor's first 4 KiB; those of a GICv3 redistributor's SGI frame are the same up to
    /// `configuration`.
    Bank {
        (0x0000 => control: ReadWrite<u32>),
        (0x0004 => kind: ReadOnly<u32>),
        (0x0008 => implementer: ReadOnly<u32>),
        (0x000c => _reserved0),
        (0x0080 => group: [ReadWrite<u32>; 32]),
        (0x0100 => set_enable: [ReadWrite<u32>; 32]),
        (0x0180 => clear_enable: [ReadWrite<u32>; 32]),
        (0x0200 => set_pending: [ReadWrite<u32>; 32]),
        (0x0280 => clear_pending: [ReadWrite<u32>; 32]),
        (0x0300 => set_active: [ReadWrite<u32>; 32]),
        (0x0380 => clear_active: [ReadWrite<u32>; 32]),
        (0x0400 => priority: [ReadWrite<u8>; 1024]),
        (0x0800 => targets: [ReadWrite<u8>; 1024]),
        (0x0c00 => configuration: [ReadWrite<u32>; 64]),
        (0x0d00 => _reserved1),
        (0x0f00 => software_interrupt: WriteOnly<u32>),
        (0x0f04 => _reserved2),
        (0x1000 => @END),
    }
}

/// The priority of every interrupt of the hypervisor's and of devices: the middle of the range.
pub const DEFAULT_PRIORITY: u8 = 0xa0;
/// The interrupt by which the virtual interface calls the hypervisor (both versions recommend PPI 9).
pub const MAINTENANCE_IRQ: Irq = Irq::ppi(9);
/// Interrupt numbers from here on are special.
const SPECIAL: u32 = 1020;

static DISTRIBUTOR: AtomicPtr<Bank> = AtomicPtr::new(core::ptr::null_mut());
/// Whether the controller is a GICv2.
static IS_V2: AtomicBool = AtomicBool::new(false);

/// Whether the controller is QEMU's GICv2, which overlooks interrupts (see [`overlooks`]).
static OVERLOOKS: AtomicBool = AtomicBool::new(false);

/// Why the interrupt controller cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GicError {
    /// Its registers cannot be mapped.
    Map(MapError),
    /// More regions of redistributors than expected.
    TooManyRegions,
}

impl From<MapError> for GicError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// What makes an interrupt pending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trigger {
    /// For as long as its line is active.
    Level,
    /// When its line becomes active.
    Edge,
}

/// Serialises changes of registers that hold several interrupts' settings.
static SETTINGS: Lock<()> = Lock::new(());

/// Takes the most urgent pending interrupt; nothing if there is none any more.
#[inline]
pub fn acknowledge() -> Option<Irq> {
    if is_v2() { v2::acknowledge() } else { v3::acknowledge() }
}

/// Lets other interrupts in while `irq`, just acknowledged here, stays active.
#[inline]
pub fn drop_priority(irq: Irq) {
    if is_v2() { v2::drop_priority(irq) } else { v3::drop_priority(irq) }
}

/// Ends `irq`, so that it may become pending again.
#[inline]
pub fn deactivate(irq: Irq) {
    if is_v2() { v2::deactivate(irq) } else { v3::deactivate(irq) }
}

/// Interrupts processor `target` with software-generated interrupt `sgi`.
#[inline]
pub fn send_sgi(target: CpuId, sgi: Irq) {
    if is_v2() { v2::send_sgi(target, sgi) } else { v3::send_sgi(target, sgi) }
}

/// Returns how many interrupt numbers the controller has, the private 32 included.
pub fn interrupt_count() -> u32 {
    let lines = (distributor().kind.get() & 0x1f) + 1;
    (lines * 32).min(SPECIAL)
}

/// Says whether a shared interrupt ends only on the processor that took it, which is against the
/// architecture: QEMU's GICv2 before 9.1. It is tried, for later ones are right and look the same.
///
/// Call it before a guest has interrupts.
pub fn ends_only_where_taken() -> bool {
    if !overlooks() {
        return false;
    }
    let mut shared = (32..interrupt_count()).rev().filter_map(Irq::new);
    let Some(irq) = shared.find(|irq| !is_enabled(*irq) && !is_active(*irq)) else { return false };
    // Software makes it active for all processors at once; one of them ends it.
    set_active(irq, true);
    deactivate(irq);
    let still = is_active(irq);
    set_active(irq, false);
    still
}

/// Says whether the controller may not signal an interrupt that is pending again when a guest ends it,
/// which is against the architecture: QEMU's GICv2, in 7.2 and in 10.0. [`look_again`] makes it look.
///
/// It is known by an implementer (`GICD_IIDR`) that names Arm and no product, where a GIC-400 says
/// 0x0200_143b. Another that says the same is taken for QEMU's, which costs it the looks and no more.
#[inline]
pub fn overlooks() -> bool {
    OVERLOOKS.load(Ordering::Relaxed)
}

/// Makes a controller that [`overlooks`] signal what is pending.
#[inline]
pub fn look_again() {
    if is_v2() {
        v2::look_again();
    }
}

/// Lets `irq` interrupt a processor: this one, if it is private.
pub fn enable(irq: Irq) {
    if let Some(register) = bank(irq).set_enable.get(word(irq)) {
        register.set(bit(irq));
    }
}

/// Keeps `irq` from interrupting; it is certain to have stopped when this returns.
pub fn disable(irq: Irq) {
    if let Some(register) = bank(irq).clear_enable.get(word(irq)) {
        register.set(bit(irq));
        if is_v2() { v2::wait_for_writes(irq) } else { v3::wait_for_writes(irq) }
    }
}

/// Says whether `irq` may interrupt.
pub fn is_enabled(irq: Irq) -> bool {
    bank(irq).set_enable.get(word(irq)).is_some_and(|register| register.get() & bit(irq) != 0)
}

/// Makes `irq` pending, or not, as software: a line that is active stays so.
pub fn set_pending(irq: Irq, pending: bool) {
    let bank = bank(irq);
    let registers = if pending { &bank.set_pending } else { &bank.clear_pending };
    if let Some(register) = registers.get(word(irq)) {
        register.set(bit(irq));
    }
}

/// Says whether `irq` is pending.
pub fn is_pending(irq: Irq) -> bool {
    bank(irq).set_pending.get(word(irq)).is_some_and(|register| register.get() & bit(irq) != 0)
}

/// Makes `irq` active, or not, whichever processor took it.
pub fn set_active(irq: Irq, active: bool) {
    let bank = bank(irq);
    let registers = if active { &bank.set_active } else { &bank.clear_active };
    if let Some(register) = registers.get(word(irq)) {
        register.set(bit(irq));
    }
}

/// Says whether `irq` is active.
pub fn is_active(irq: Irq) -> bool {
    bank(irq).set_active.get(word(irq)).is_some_and(|register| register.get() & bit(irq) != 0)
}

/// Sets the priority of `irq`: the lower, the more urgent.
pub fn set_priority(irq: Irq, priority: u8) {
    if let Some(register) = bank(irq).priority.get(irq.index()) {
        register.set(priority);
    }
}

/// Sets what makes `irq` pending; the interrupt must be disabled. SGIs are always edges.
pub fn set_trigger(irq: Irq, trigger: Trigger) {
    const FIELDS: u32 = 16;
    if irq.is_sgi() {
        return;
    }
    let shift = irq.intid() % FIELDS * 2;
    let _settings = SETTINGS.lock();
    if let Some(register) = bank(irq).configuration.get(irq.index() / 16) {
        let edge = match trigger {
            Trigger::Level => 0,
            Trigger::Edge => 0b10,
        };
        register.set(register.get() & !(0b11 << shift) | edge << shift);
    }
}

/// Sends the shared interrupt `irq` to processor `target`; a private one stays where it is.
pub fn route(irq: Irq, target: CpuId) {
    if irq.is_private() {
        return;
    }
    if is_v2() { v2::route(irq, target) } else { v3::route(irq, target) }
}

/// Returns the priority mask of the guest that is loaded here; 0 if it has group 1 turned off.
#[inline]
pub fn virtual_priority_mask() -> u8 {
    if is_v2() { v2::virtual_priority_mask() } else { v3::virtual_priority_mask() }
}

/// Chooses when the virtual interface of this processor calls with [`MAINTENANCE_IRQ`].
#[inline]
pub fn set_maintenance(when: Maintenance) {
    if is_v2() { v2::set_maintenance(when) } else { v3::set_maintenance(when) }
}

/// Turns on this processor's part of the controller; private interrupts are off.
///
/// # Panics
///
/// If it is a GICv3 and no redistributor is this processor's: the device tree is wrong.
pub fn init_this_cpu() {
    if is_v2() { v2::init_this_cpu() } else { v3::init_this_cpu() }
}

/// Says whether the controller is a GICv2.
#[inline(always)]
pub fn is_v2() -> bool {
    IS_V2.load(Ordering::Relaxed)
}

fn distributor() -> &'static Bank {
    let address = DISTRIBUTOR.load(Ordering::Relaxed);
    assert!(!address.is_null(), "the interrupt controller is found before it is used");
    // SAFETY: `init_v2` or `init_v3` stored the address of the mapped distributor, which stays mapped.
    unsafe { &*address }
}

/// Returns where `irq`'s settings are: in a GICv2, each processor sees its own of the private ones.
fn bank(irq: Irq) -> &'static Bank {
    if irq.is_private() && !is_v2() { v3::private_bank() } else { distributor() }
}

/// Turns off every interrupt that `bank` has registers of, from `first` on.
fn silence(bank: &Bank, first: u32, end: u32) {
    for number in (first..end).step_by(32) {
        for registers in [&bank.clear_enable, &bank.clear_pending, &bank.clear_active] {
            if let Some(register) = registers.get(number as usize / 32) {
                register.set(u32::MAX);
            }
        }
    }
    for number in first..end {
        if let Some(priority) = bank.priority.get(number as usize) {
            priority.set(DEFAULT_PRIORITY);
        }
    }
}

/// Sends every shared interrupt to the first processor.
fn route_all() {
    for irq in (32..interrupt_count()).filter_map(Irq::new) {
        route(irq, CpuId(0));
    }
}

fn word(irq: Irq) -> usize {
    irq.index() / 32
}

fn bit(irq: Irq) -> u32 {
    1 << (irq.intid() % 32)
}
