//! The machine itself: `hv-arch`, by the names the rest of this crate uses.

pub use hv_arch::DirectMap as Memory;
pub use hv_arch::VcpuContext;
use hv_arch::guest_copy::LoadedGuest;
pub use hv_arch::lock::Relax;
pub use hv_arch::vcpu::VirtualTimer;

use crate::lock::Lock;
use hv_arch::gic::{self, Trigger};
use hv_arch::stage2::{self, Space};
use hv_arch::uart::SerialPort;
use hv_arch::watchdog::Watchdog;
use hv_arch::{power, timer, vcpu};
use hv_core::addr::{GuestAddr, MachineAddr};
use hv_core::guest::{Fault, GuestMemory};
use hv_core::ids::{CpuId, Irq};
use hv_core::p2m::Stale;
use hv_core::time::Nanos;
use hv_core::vgic::Maintenance;

/// Marks a place where another processor may get in between, for the models on the host.
#[inline(always)]
pub const fn step() {}

/// The software-generated interrupt that makes a processor look up.
pub const KICK: Irq = Irq::sgi(0);

/// The list registers of this processor.
pub use hv_arch::gic::ThisCpuLists as Lists;

/// The machine this runs on.
#[derive(Debug)]
pub struct Machine {
    serial: Lock<SerialPort>,
    power: PowerSwitch,
}

/// What turns the machine off.
#[derive(Debug)]
pub enum PowerSwitch {
    /// The firmware.
    Psci,
    /// The board's watchdog.
    Watchdog(Watchdog),
    /// Nothing: it stands still.
    Nothing,
}

impl Machine {
    /// Takes the machine, with the serial port that is its console and what turns it off.
    pub fn new(serial: SerialPort, power: PowerSwitch) -> Self {
        Self { serial: Lock::new(serial), power }
    }

    /// Returns the memory of guests and tables.
    #[inline(always)]
    pub fn memory(&self) -> &Memory {
        &hv_arch::DirectMap
    }

    /// Returns the time since the hypervisor started.
    #[inline(always)]
    pub fn now(&self) -> Nanos {
        timer::now()
    }

    /// Returns the system counter, in ticks.
    #[inline(always)]
    pub fn ticks(&self) -> u64 {
        timer::ticks()
    }

    /// Returns how long `ticks` take.
    pub fn to_nanos(&self, ticks: u64) -> Nanos {
        timer::to_nanos(ticks)
    }

    /// Returns when the counter reads `ticks`.
    pub fn moment(&self, ticks: u64) -> Nanos {
        timer::to_nanos(ticks.saturating_sub(timer::start()))
    }

    /// Returns the processor this runs on.
    #[inline(always)]
    pub fn this_cpu(&self) -> CpuId {
        hv_arch::this_cpu()
    }

    /// Returns the list registers of this processor.
    #[inline(always)]
    pub const fn lists(&self) -> Lists {
        Lists
    }

    /// Chooses when the virtual interface of this processor calls the hypervisor.
    #[inline(always)]
    pub fn set_maintenance(&self, when: Maintenance) {
        gic::set_maintenance(when);
    }

    /// Returns how many bytes of the hypervisor's heap nobody uses.
    pub fn heap_free(&self) -> usize {
        hv_arch::heap::free()
    }

    /// Makes `cpu` leave its guest or its sleep.
    pub fn kick(&self, cpu: CpuId) {
        gic::send_sgi(cpu, KICK);
    }

    /// Says whether long work should stop and let an interrupt in.
    #[inline(always)]
    pub fn interrupt_pending(&self) -> bool {
        power::interrupt_pending()
    }

    /// Writes to the serial port.
    pub fn serial_write(&self, bytes: &[u8]) {
        self.serial.lock().write(bytes);
    }

    /// Takes a byte that was typed.
    pub fn serial_read(&self) -> Option<u8> {
        self.serial.lock().read()
    }

    /// Makes typed bytes interrupt this processor, by `irq`.
    pub fn listen_to_serial(&self, irq: Irq) {
        self.serial.lock().enable_receive_interrupt();
        gic::set_trigger(irq, Trigger::Level);
        gic::route(irq, self.this_cpu());
        gic::enable(irq);
    }

    /// Makes what was written to translation tables seen by every processor's walks.
    #[inline(always)]
    pub fn complete_table_writes(&self) {
        hv_arch::barrier::dsb_ishst();
    }

    /// Forgets stale translations of the table whose `VTTBR_EL2` is `vttbr`, on every processor;
    /// what was written to the table is complete.
    pub fn flush_stage2(&self, vttbr: u64, stale: Stale) {
        if let Stale::Range { first, count, order } = stale {
            stage2::flush(Space::from_raw(vttbr), first, count, order);
        }
    }

    /// Forgets all guests' translations on every processor.
    pub fn flush_all_guests(&self) {
        stage2::flush_all();
    }

    /// Ends a physical interrupt that a guest never will.
    pub fn deactivate(&self, irq: Irq) {
        gic::set_active(irq, false);
    }

    /// Lets a shared physical interrupt in, or keeps it out, on the processor it is routed to.
    pub fn enable_irq(&self, irq: Irq, enable: bool) {
        if enable { gic::enable(irq) } else { gic::disable(irq) }
    }

    /// Sets how a shared physical interrupt is triggered.
    pub fn configure_irq(&self, irq: Irq, edge: bool) {
        gic::set_trigger(irq, if edge { Trigger::Edge } else { Trigger::Level });
    }

    /// Sends a shared physical interrupt to `cpu`.
    pub fn route_irq(&self, irq: Irq, cpu: CpuId) {
        gic::route(irq, cpu);
    }

    /// Sets what a physical interrupt's pending state is.
    pub fn set_irq_pending(&self, irq: Irq, pending: bool) {
        gic::set_pending(irq, pending);
    }

    /// Sets what a physical interrupt's active state is.
    pub fn set_irq_active(&self, irq: Irq, active: bool) {
        gic::set_active(irq, active);
    }

    /// Returns the priority mask of the virtual processor that is loaded here; 0 if it takes none.
    pub fn priority_mask(&self) -> u8 {
        gic::virtual_priority_mask()
    }

    /// Turns the machine off, or restarts it.
    pub fn power_off(&self, restart: bool) {
        match &self.power {
            PowerSwitch::Psci if restart => power::system_reset(),
            PowerSwitch::Psci => power::system_off(),
            PowerSwitch::Watchdog(watchdog) if restart => watchdog.restart(),
            PowerSwitch::Watchdog(watchdog) => watchdog.power_off(),
            PowerSwitch::Nothing => power::halt(),
        }
    }

    /// Returns `FAR_EL2` and `HPFAR_EL2` of the trap just taken.
    #[inline(always)]
    pub fn fault() -> (u64, u64) {
        (vcpu::fault_address(), vcpu::fault_page())
    }
}

/// The calling guest's virtual memory: that of the virtual processor this processor has loaded.
#[derive(Debug)]
pub struct GuestSpace(LoadedGuest);

impl GuestSpace {
    /// Takes the guest that is loaded here.
    #[inline(always)]
    pub const fn current() -> Self {
        Self(LoadedGuest)
    }

    /// Returns the guest physical address of the guest's `address`, if its own tables let it write there.
    pub fn translate(&self, address: u64) -> Result<GuestAddr, Fault> {
        self.0.translate(address)
    }

    /// Returns where the guest's `address` is in memory, if the guest may write there.
    pub fn locate(&self, address: u64) -> Result<MachineAddr, Fault> {
        self.0.locate_for_write(address)
    }
}

impl GuestMemory for GuestSpace {
    #[inline(always)]
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.0.read(address, bytes)
    }

    #[inline(always)]
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.0.write(address, bytes)
    }
}
