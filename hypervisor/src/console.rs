//! The console: what is printed goes to the serial port and to the message buffer; what is typed
//! goes to Dom0, or, after Ctrl-A three times, to the debug keys.

use crate::lock::Lock;
use crate::machine::Machine;
use core::fmt::{self, Write};
use hv_core::console_ring::ConsoleRing;

/// Bytes of the message buffer that `xl dmesg` reads.
const RING_SIZE: usize = 64 << 10;
/// Bytes typed that Dom0 has not read yet; more are dropped, as a serial port drops them.
const INPUT_SIZE: usize = 128;
/// Ctrl-A, which three times in a row switches the input between Dom0 and the debug keys.
const SWITCH: u8 = 0x01;
const SWITCH_COUNT: u8 = 3;

/// Who hears what is typed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Listener {
    #[default]
    Dom0,
    Keys,
}

/// What a typed byte asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "Dom0 or the debug keys wait for it"]
pub enum Input {
    /// Nothing.
    Nothing,
    /// Tell Dom0 (`VIRQ_CONSOLE`) that there is something to read.
    ForDom0,
    /// Carry out a debug key.
    Key(u8),
    /// The input now goes to the debug keys, or back to Dom0.
    Switched {
        /// Whether it goes to the debug keys.
        keys: bool,
    },
}

#[derive(Debug, Default)]
struct Typed {
    bytes: arrayvec::ArrayVec<u8, INPUT_SIZE>,
    listener: Listener,
    switches: u8,
    switch_off: bool,
}

/// The serial console and the message buffer.
#[derive(Debug)]
pub struct Console {
    ring: Lock<ConsoleRing>,
    typed: Lock<Typed>,
}

impl Default for Console {
    fn default() -> Self {
        Self { ring: Lock::new(ConsoleRing::new(RING_SIZE)), typed: Lock::default() }
    }
}

struct Both<'a> {
    ring: &'a mut ConsoleRing,
    machine: &'a Machine,
}

impl Write for Both<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.ring.write(text.as_bytes());
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    self.machine.serial_write(line.as_bytes());
                    self.machine.serial_write(b"\r\n");
                }
                None => self.machine.serial_write(line.as_bytes()),
            }
        }
        Ok(())
    }
}

impl Console {
    /// Prints one line of the hypervisor's own.
    pub fn print(&self, machine: &Machine, line: fmt::Arguments<'_>) {
        let mut ring = self.ring.lock();
        // Writing to the ring and to the port cannot fail.
        let _ = writeln!(Both { ring: &mut ring, machine }, "(Domus) {line}");
    }

    /// Prints what Dom0 writes, as it stands.
    pub fn print_dom0(&self, machine: &Machine, bytes: &[u8]) {
        let _order = self.ring.lock();
        machine.serial_write(bytes);
    }

    /// Gives access to the message buffer.
    pub fn with_ring<R>(&self, action: impl FnOnce(&mut ConsoleRing) -> R) -> R {
        action(&mut self.ring.lock())
    }

    /// Leaves Ctrl-A to Dom0 (`conswitch=` with an empty letter).
    pub fn disable_switch(&self) {
        self.typed.lock().switch_off = true;
    }

    /// Takes in a byte from the serial port.
    pub fn typed(&self, byte: u8) -> Input {
        let mut typed = self.typed.lock();
        if byte == SWITCH && !typed.switch_off {
            typed.switches += 1;
            if typed.switches == SWITCH_COUNT {
                typed.switches = 0;
                let keys = typed.listener == Listener::Dom0;
                typed.listener = if keys { Listener::Keys } else { Listener::Dom0 };
                return Input::Switched { keys };
            }
            return Input::Nothing;
        }
        let held_back = core::mem::take(&mut typed.switches);
        if typed.listener == Listener::Keys {
            return Input::Key(byte);
        }
        // One or two Ctrl-A that did not become a switch are Dom0's after all.
        for byte in (0..held_back).map(|_| SWITCH).chain([byte]) {
            let _ = typed.bytes.try_push(byte);
        }
        Input::ForDom0
    }

    /// Copies bytes typed for Dom0; returns how many. They stay until [`Self::drop_typed`].
    pub fn peek_typed(&self, out: &mut [u8]) -> usize {
        let typed = self.typed.lock();
        for (slot, byte) in out.iter_mut().zip(&typed.bytes) {
            *slot = *byte;
        }
        out.len().min(typed.bytes.len())
    }

    /// Forgets the first `count` bytes typed for Dom0.
    pub fn drop_typed(&self, count: usize) {
        let mut typed = self.typed.lock();
        let count = count.min(typed.bytes.len());
        typed.bytes.drain(..count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(console: &Console) -> Vec<u8> {
        let mut bytes = [0; 16];
        let count = console.peek_typed(&mut bytes);
        console.drop_typed(count);
        bytes[..count].to_vec()
    }

    #[test]
    fn what_is_typed_reaches_dom0_in_order() {
        let console = Console::default();
        for byte in *b"ls\r" {
            assert_eq!(console.typed(byte), Input::ForDom0);
        }
        assert_eq!(read(&console), b"ls\r");
        assert_eq!(read(&console), b"");
    }

    #[test]
    fn three_ctrl_a_switch_and_one_is_dom0s() {
        let console = Console::default();
        assert_eq!(console.typed(SWITCH), Input::Nothing);
        assert_eq!(console.typed(b'x'), Input::ForDom0);
        assert_eq!(read(&console), [SWITCH, b'x']);
        assert_eq!(console.typed(SWITCH), Input::Nothing);
        assert_eq!(console.typed(SWITCH), Input::Nothing);
        assert_eq!(console.typed(SWITCH), Input::Switched { keys: true });
        assert_eq!(console.typed(b'h'), Input::Key(b'h'));
    }

    #[test]
    fn more_than_fits_is_dropped() {
        let console = Console::default();
        for _ in 0..1000 {
            let _ = console.typed(b'x');
        }
        let mut bytes = [0; 1000];
        assert_eq!(console.peek_typed(&mut bytes), INPUT_SIZE);
    }
}
