//! The PrimeCell UART, PL011 (Arm DDI 0183).

use crate::mmu::{self, MapError};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use hv_core::addr::MachineAddr;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};

register_structs! {
    pub(super) Registers {
        (0x00 => data: ReadWrite<u32>),
        (0x04 => _status),
        (0x18 => flags: ReadOnly<u32>),
        (0x1c => _rates),
        (0x38 => interrupt_mask: ReadWrite<u32>),
        (0x3c => _raw),
        (0x44 => interrupt_clear: WriteOnly<u32>),
        (0x48 => @END),
    }
}

const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;
/// Received data is waiting, or has been for a while (`RXIM`, `RTIM`).
const RECEIVE: u32 = 1 << 4 | 1 << 6;

/// A PL011, as the firmware set its line up.
pub struct Pl011(NonNull<Registers>);

// SAFETY: device registers may be accessed from any processor; `&mut self` keeps it to one at a time.
unsafe impl Send for Pl011 {}

impl Pl011 {
    /// Takes the port whose registers are at `at`.
    pub fn new(at: MachineAddr) -> Result<Self, MapError> {
        let registers = mmu::map_device(at, 0x1000)?.cast();
        super::LAST_PL011.store(registers.as_ptr(), Ordering::Release);
        Ok(Self(registers))
    }

    fn registers(&self) -> &Registers {
        // SAFETY: `new` mapped device memory there, for good.
        unsafe { self.0.as_ref() }
    }

    /// Sends bytes as they are; waits while the transmit queue is full.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.registers().send(byte);
        }
    }

    /// Takes a received byte, if there is one; the interrupt goes when none is left.
    pub fn read(&mut self) -> Option<u8> {
        if self.registers().flags.get() & RECEIVE_EMPTY != 0 {
            self.registers().interrupt_clear.set(RECEIVE);
            // What came between the look and the clearing would interrupt no more.
            if self.registers().flags.get() & RECEIVE_EMPTY != 0 {
                return None;
            }
        }
        let [byte, ..] = self.registers().data.get().to_le_bytes();
        Some(byte)
    }

    /// Makes received data interrupt.
    pub fn enable_receive_interrupt(&mut self) {
        self.registers().interrupt_mask.set(RECEIVE);
    }
}

impl Registers {
    pub(super) fn send(&self, byte: u8) {
        super::wait_until(|| self.flags.get() & TRANSMIT_FULL == 0);
        self.data.set(u32::from(byte));
    }
}

impl fmt::Debug for Pl011 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pl011")
    }
}
