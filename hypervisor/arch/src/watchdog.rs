//! The watchdog in the power manager of the Raspberry Pi (`brcm,bcm2835-pm`), by which the machine is restarted
//! or turned off where no firmware is left to ask.
//!
//! The registers are in no manual; these are the facts that Linux and Xen drive it by.

use crate::mmu::{self, MapError};
use core::fmt;
use core::ptr::NonNull;
use hv_core::addr::MachineAddr;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::ReadWrite;

register_structs! {
    Registers {
        (0x00 => _reserved0),
        (0x1c => control: ReadWrite<u32>),
        (0x20 => status: ReadWrite<u32>),
        (0x24 => watchdog: ReadWrite<u32>),
        (0x28 => @END),
    }
}

/// Writes without this in the upper byte are ignored.
const PASSWORD: u32 = 0x5a00_0000;
const RESET_MASK: u32 = 0x30;
const FULL_RESET: u32 = 0x20;
/// Some 150 µs, in 16ths of a millisecond.
const TICKS: u32 = 10;
/// The firmware stands still after a reset if it finds this partition number, spread over `status`.
const HALT_PARTITION: u32 = 0x555;

/// The watchdog.
pub struct Watchdog(NonNull<Registers>);

// SAFETY: device registers may be accessed from any processor, and who writes them resets the machine.
unsafe impl Send for Watchdog {}
// SAFETY: the same.
unsafe impl Sync for Watchdog {}

impl Watchdog {
    /// Takes the watchdog whose registers are at `at`.
    pub fn new(at: MachineAddr) -> Result<Self, MapError> {
        Ok(Self(mmu::map_device(at, 0x1000)?.cast()))
    }

    fn registers(&self) -> &Registers {
        // SAFETY: `new` mapped device memory there, for good.
        unsafe { self.0.as_ref() }
    }

    /// Restarts the machine.
    pub fn restart(&self) -> ! {
        let registers = self.registers();
        registers.watchdog.set(PASSWORD | TICKS);
        let control = registers.control.get() & !RESET_MASK & 0x00ff_ffff;
        registers.control.set(PASSWORD | control | FULL_RESET);
        crate::barrier::dsb_sy();
        crate::power::halt()
    }

    /// Turns the machine off: the firmware that a reset starts goes no further.
    pub fn power_off(&self) -> ! {
        let registers = self.registers();
        let status = registers.status.get() & 0x00ff_ffff;
        registers.status.set(PASSWORD | status | HALT_PARTITION);
        self.restart()
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watchdog")
    }
}
