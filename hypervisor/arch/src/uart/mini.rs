//! The Raspberry Pi's mini-UART (BCM2835 ARM Peripherals, 2.2): registers like those of a 16550, 32 bits each.

use crate::mmu::{self, MapError};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use hv_core::addr::MachineAddr;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite};

register_structs! {
    pub(super) Registers {
        (0x00 => data: ReadWrite<u32>),
        (0x04 => interrupts: ReadWrite<u32>),
        (0x08 => _reserved0),
        (0x14 => line_status: ReadOnly<u32>),
        (0x18 => _reserved1),
        (0x2c => @END),
    }
}

const SIZE: u64 = 0x2c;
const DATA_READY: u32 = 1 << 0;
const ROOM_TO_TRANSMIT: u32 = 1 << 5;
/// Received data is waiting. The manual has the two interrupts' bits the wrong way round (its errata).
const RECEIVE: u32 = 1 << 0;

/// A mini-UART, as the firmware set its line up.
pub struct Mini(NonNull<Registers>);

// SAFETY: device registers may be accessed from any processor; `&mut self` keeps it to one at a time.
unsafe impl Send for Mini {}

impl Mini {
    /// Takes the port whose registers are at `at`.
    pub fn new(at: MachineAddr) -> Result<Self, MapError> {
        let registers: NonNull<Registers> = mmu::map_device(at, SIZE)?.cast();
        super::LAST_MINI.store(registers.as_ptr(), Ordering::Release);
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
        if self.registers().line_status.get() & DATA_READY == 0 {
            return None;
        }
        let [byte, ..] = self.registers().data.get().to_le_bytes();
        Some(byte)
    }

    /// Makes received data interrupt.
    pub fn enable_receive_interrupt(&mut self) {
        self.registers().interrupts.set(RECEIVE);
    }
}

impl Registers {
    pub(super) fn send(&self, byte: u8) {
        super::wait_until(|| self.line_status.get() & ROOM_TO_TRANSMIT != 0);
        self.data.set(u32::from(byte));
    }
}

impl fmt::Debug for Mini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mini")
    }
}
