//! Serial ports.

mod mini;
mod pl011;

pub use mini::Mini;
pub use pl011::Pl011;

use crate::mmu::MapError;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use hv_core::addr::MachineAddr;

/// What kind of serial port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Model {
    /// Arm's PL011, or the part of it that an SBSA UART has.
    Pl011,
    /// The Raspberry Pi's mini-UART.
    Mini,
}

/// A serial port, as the firmware set its line up.
#[derive(Debug)]
pub enum SerialPort {
    /// A PL011.
    Pl011(Pl011),
    /// A mini-UART.
    Mini(Mini),
}

/// The ports opened last, one of each model, for [`Emergency`].
static LAST_PL011: AtomicPtr<pl011::Registers> = AtomicPtr::new(core::ptr::null_mut());
static LAST_MINI: AtomicPtr<mini::Registers> = AtomicPtr::new(core::ptr::null_mut());

impl SerialPort {
    /// Takes the port whose registers are at `at`; what [`Emergency`] writes goes there from now on, and
    /// nowhere else.
    pub fn open(model: Model, at: MachineAddr) -> Result<Self, MapError> {
        let port = Self::also(model, at)?;
        match port {
            Self::Pl011(_) => LAST_MINI.store(core::ptr::null_mut(), Ordering::Release),
            Self::Mini(_) => LAST_PL011.store(core::ptr::null_mut(), Ordering::Release),
        }
        Ok(port)
    }

    /// Takes the port whose registers are at `at`; what [`Emergency`] writes goes there too.
    pub fn also(model: Model, at: MachineAddr) -> Result<Self, MapError> {
        Ok(match model {
            Model::Pl011 => Self::Pl011(Pl011::new(at)?),
            Model::Mini => Self::Mini(Mini::new(at)?),
        })
    }

    /// Sends bytes as they are; waits while the transmit queue is full.
    pub fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Pl011(port) => port.write(bytes),
            Self::Mini(port) => port.write(bytes),
        }
    }

    /// Takes a received byte, if there is one; the interrupt goes when none is left.
    pub fn read(&mut self) -> Option<u8> {
        match self {
            Self::Pl011(port) => port.read(),
            Self::Mini(port) => port.read(),
        }
    }

    /// Makes received data interrupt.
    pub fn enable_receive_interrupt(&mut self) {
        match self {
            Self::Pl011(port) => port.enable_receive_interrupt(),
            Self::Mini(port) => port.enable_receive_interrupt(),
        }
    }
}

/// The ports opened last, without asking who else is writing to them: for a panic.
#[derive(Clone, Copy, Debug)]
pub struct Emergency;

impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let pl011 = NonNull::new(LAST_PL011.load(Ordering::Acquire));
        let mini = NonNull::new(LAST_MINI.load(Ordering::Acquire));
        // SAFETY: `Pl011::new` mapped device memory there, for good, and its registers may be shared.
        let pl011 = pl011.map(|registers| unsafe { registers.as_ref() });
        // SAFETY: the same of `Mini::new`.
        let mini = mini.map(|registers| unsafe { registers.as_ref() });
        if pl011.is_none() && mini.is_none() {
            return Err(fmt::Error);
        }
        for byte in text.bytes() {
            let pair = [b'\r', byte];
            let bytes = if byte == b'\n' { &pair[..] } else { pair.get(1..).unwrap_or_default() };
            for &byte in bytes {
                if let Some(registers) = pl011 {
                    registers.send(byte);
                }
                if let Some(registers) = mini {
                    registers.send(byte);
                }
            }
        }
        Ok(())
    }
}

/// Waits until `ready`, but not for ever: a port without a clock must not stop the machine.
fn wait_until(ready: impl Fn() -> bool) {
    // At 9600 baud a queue of 32 bytes takes 33 ms; no machine looks this often in that time.
    const LOOKS: u32 = 1 << 22;
    for _ in 0..LOOKS {
        if ready() {
            return;
        }
        core::hint::spin_loop();
    }
}
