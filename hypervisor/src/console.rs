//! The console: what is printed goes to the serial port and to the message buffer; what is typed
//! goes to Dom0, or, after Ctrl-A three times (`conswitch=`), to the debug keys.

use crate::command_line::{LogLevels, Options};
use crate::lock::Lock;
use crate::machine::Machine;
use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use hv_core::addr::to_index;
use hv_core::console_ring::ConsoleRing;

/// Bytes of the message buffer that `xl dmesg` reads, and what `conring_size=` may make of them.
const RING_SIZE: u64 = 64 << 10;
const SMALLEST_RING: u64 = 4 << 10;
const LARGEST_RING: u64 = 1 << 20;
/// Bytes typed that Dom0 has not read yet: a whole line as a terminal takes it, since a program that types
/// does not wait while Dom0 is busy. More are dropped, as a serial port drops them.
const INPUT_SIZE: usize = 4096;
/// How often in a row the switching character is typed.
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

#[derive(Debug)]
struct Typed {
    bytes: VecDeque<u8>,
    listener: Listener,
    switches: u8,
    /// The byte that switches; nothing if none does.
    switch: Option<u8>,
}

/// Which lines are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shown {
    /// Of the hypervisor's own.
    pub own: LogLevels,
    /// Of those about guests.
    pub guests: LogLevels,
}

/// The serial console and the message buffer.
#[derive(Debug)]
pub struct Console {
    /// Which lines are shown (`loglvl=`, `guest_loglvl=`, `xl set-parameters`).
    pub levels: Lock<Shown>,
    ring: Lock<ConsoleRing>,
    typed: Lock<Typed>,
    /// Whether the hypervisor's own lines go to the serial port too.
    serial: bool,
}

impl Console {
    /// Creates the console that the command line asks for.
    pub fn new(options: &Options) -> Self {
        let wanted = options.console_ring_size.unwrap_or(RING_SIZE);
        let size = wanted.clamp(SMALLEST_RING, LARGEST_RING).next_power_of_two();
        let switch = options.console_switch;
        Self {
            levels: Lock::new(Shown { own: options.log_level, guests: options.guest_log_level }),
            ring: Lock::new(ConsoleRing::new(to_index(size))),
            typed: Lock::new(Typed {
                bytes: VecDeque::with_capacity(INPUT_SIZE),
                listener: if switch.to_dom0 { Listener::Dom0 } else { Listener::Keys },
                switches: 0,
                switch: switch.letter.and_then(control),
            }),
            serial: !options.console.iter().any(|name| name == "none"),
        }
    }
}

/// Returns what Ctrl with a letter types.
fn control(letter: char) -> Option<u8> {
    let letter = letter.to_ascii_lowercase();
    letter.is_ascii_lowercase().then(|| u32::from(letter).to_le_bytes()[0] - b'a' + 1)
}

struct Both<'a> {
    ring: &'a mut ConsoleRing,
    /// The machine whose serial port it goes to, if it does.
    machine: Option<&'a Machine>,
}

impl Write for Both<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.ring.write(text.as_bytes());
        let Some(machine) = self.machine else { return Ok(()) };
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    machine.serial_write(line.as_bytes());
                    machine.serial_write(b"\r\n");
                }
                None => machine.serial_write(line.as_bytes()),
            }
        }
        Ok(())
    }
}

impl Console {
    /// Prints one line of the hypervisor's own.
    pub fn print(&self, machine: &Machine, line: fmt::Arguments<'_>) {
        let mut ring = self.ring.lock();
        let machine = self.serial.then_some(machine);
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

    /// Takes in a byte from the serial port.
    pub fn typed(&self, byte: u8) -> Input {
        let mut typed = self.typed.lock();
        if Some(byte) == typed.switch {
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
        // What did not become a switch is Dom0's after all. What finds no room is lost, as it is in a
        // serial port.
        let switch = typed.switch;
        let held_back = (0..held_back).filter_map(|_| switch);
        for byte in held_back.chain([byte]) {
            if typed.bytes.len() == INPUT_SIZE {
                break;
            }
            typed.bytes.push_back(byte);
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

    const SWITCH: u8 = 0x01;

    fn console(line: &str) -> Console {
        Console::new(&Options::parse(line).0)
    }

    fn read(console: &Console) -> Vec<u8> {
        let mut bytes = [0; 16];
        let count = console.peek_typed(&mut bytes);
        console.drop_typed(count);
        bytes[..count].to_vec()
    }

    #[test]
    fn what_is_typed_reaches_dom0_in_order() {
        let console = console("");
        for byte in *b"ls\r" {
            assert_eq!(console.typed(byte), Input::ForDom0);
        }
        assert_eq!(read(&console), b"ls\r");
        assert_eq!(read(&console), b"");
    }

    #[test]
    fn a_long_line_waits_whole_until_dom0_reads_it() {
        let console = console("");
        let line: Vec<u8> = (b'a'..=b'z').cycle().take(1000).collect();
        for byte in &line {
            assert_eq!(console.typed(*byte), Input::ForDom0);
        }
        let mut arrived = Vec::new();
        loop {
            match read(&console) {
                bytes if bytes.is_empty() => break,
                bytes => arrived.extend(bytes),
            }
        }
        assert_eq!(arrived, line);
    }

    #[test]
    fn three_ctrl_a_switch_and_one_is_dom0s() {
        let console = console("");
        assert_eq!(console.typed(SWITCH), Input::Nothing);
        assert_eq!(console.typed(b'x'), Input::ForDom0);
        assert_eq!(read(&console), [SWITCH, b'x']);
        assert_eq!(console.typed(SWITCH), Input::Nothing);
        assert_eq!(console.typed(SWITCH), Input::Nothing);
        assert_eq!(console.typed(SWITCH), Input::Switched { keys: true });
        assert_eq!(console.typed(b'h'), Input::Key(b'h'));
    }

    #[test]
    fn the_command_line_chooses_who_hears_and_what_switches() {
        let other = console("conswitch=bx");
        assert_eq!(other.typed(b'h'), Input::Key(b'h'), "x: not to Dom0");
        for _ in 0..2 {
            assert_eq!(other.typed(0x02), Input::Nothing);
        }
        assert_eq!(other.typed(0x02), Input::Switched { keys: false });
        assert_eq!(other.typed(SWITCH), Input::ForDom0);
    }

    #[test]
    fn without_a_console_lines_go_to_the_buffer_only() {
        let machine = Machine::default();
        let (silent, loud) = (console("console=none conring_size=5000"), console(""));
        silent.print(&machine, format_args!("one"));
        assert!(machine.serial.lock().is_empty());
        let mut bytes = [0; 64];
        let (count, _) = silent.with_ring(|ring| ring.read(0, &mut bytes));
        assert_eq!(&bytes[..count], b"(Domus) one\n");
        loud.print(&machine, format_args!("two"));
        assert_eq!(&machine.serial.lock()[..], b"(Domus) two\r\n");
    }

    #[test]
    fn more_than_fits_is_dropped() {
        let console = console("");
        for _ in 0..INPUT_SIZE + 1 {
            let _ = console.typed(b'x');
        }
        let mut bytes = [0; INPUT_SIZE + 1];
        assert_eq!(console.peek_typed(&mut bytes), INPUT_SIZE);
    }
}
