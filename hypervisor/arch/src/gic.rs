//! The physical interrupt controller, and the virtual interface it gives a guest.
//!
//! Interrupts are taken in two steps (`EOImode` 1): [`drop_priority`] lets others in, [`deactivate`] lets
//! the same one in again; a guest's own end of interrupt does the second for what a list register
//! ties to hardware. Which interrupt goes where is decided by `hv_core::vgic` and the hypervisor.
//!
//! The functions act through the one controller that [`init_v3`] found. A GICv2 will stand beside it.

mod v3;

pub use v3::{CpuInterface, GicError, ThisCpuLists, init_this_cpu, init_v3};

use crate::lock::Lock;
use hv_core::ids::{CpuId, Irq};
use hv_core::vgic::Maintenance;
use tock_registers::interfaces::{Readable, Writeable};
use v3::{bank, distributor};

/// The priority of every interrupt of the hypervisor's and of devices: the middle of the range.
pub const DEFAULT_PRIORITY: u8 = 0xa0;
/// The interrupt by which the virtual interface calls the hypervisor (GICv3 recommends PPI 9).
pub const MAINTENANCE_IRQ: Irq = Irq::ppi(9);

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
    v3::acknowledge()
}

/// Lets other interrupts in while `irq`, just acknowledged here, stays active.
#[inline]
pub fn drop_priority(irq: Irq) {
    v3::drop_priority(irq);
}

/// Ends `irq`, so that it may become pending again.
#[inline]
pub fn deactivate(irq: Irq) {
    v3::deactivate(irq);
}

/// Interrupts processor `target` with software-generated interrupt `sgi`.
#[inline]
pub fn send_sgi(target: CpuId, sgi: Irq) {
    v3::send_sgi(target, sgi);
}

/// Returns how many interrupt numbers the controller has, the private 32 included.
pub fn interrupt_count() -> u32 {
    v3::interrupt_count()
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
        v3::wait_for_writes(irq);
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
    let Some(affinity) = crate::percpu::affinity(target) else { return };
    if irq.is_private() {
        return;
    }
    if let Some(register) = distributor().route.get(irq.index()) {
        register.set(affinity);
    }
}

/// Returns the priority mask of the guest that is loaded here; 0 if it has group 1 turned off.
#[inline]
pub fn virtual_priority_mask() -> u8 {
    v3::virtual_priority_mask()
}

/// Chooses when the virtual interface of this processor calls with [`MAINTENANCE_IRQ`].
#[inline]
pub fn set_maintenance(when: Maintenance) {
    v3::set_maintenance(when);
}

fn word(irq: Irq) -> usize {
    irq.index() / 32
}

fn bit(irq: Irq) -> u32 {
    1 << (irq.intid() % 32)
}
