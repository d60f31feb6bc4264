//! A domain's virtual UART: the part of a PL011 that the SBSA asks for ("Generic UART").
//!
//! Its two FIFOs are the rings of one page of the guest's (`public/io/console.h`), shared with the console
//! daemon. [`Vpl011`] decides what its registers say, what moves, and whether it asks for an interrupt;
//! `hypervisor` sets the line of the interrupt controller and sends the event. The guest can write to that
//! page as well as the daemon, so its indices are read anew each time: such as make no sense count as
//! "nothing there" and "no room".

use crate::{
    addr::{GuestAddr, MachineAddr, Mfn},
    exit::Width,
    ids::Port,
    memory::FrameMemory,
};
use core::mem::offset_of;
use hypercall_abi::arch_arm::{GUEST_PL011_BASE, GUEST_PL011_SIZE};
use hypercall_abi::io::console::XenconsInterface;

const IN_SIZE: u32 = 1024;
const OUT_SIZE: u32 = 2048;
/// Half the FIFO of an SBSA UART, where one of hardware asks for an interrupt.
const TRIGGER: u32 = 16;

bitflags::bitflags! {
    /// `UARTFR`.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    struct Flags: u32 {
        /// It sends: only while there is no room, lest a driver wait for the daemon after each byte.
        const BUSY = 1 << 3;
        const RECEIVE_EMPTY = 1 << 4;
        const TRANSMIT_FULL = 1 << 5;
        const RECEIVE_FULL = 1 << 6;
        const TRANSMIT_EMPTY = 1 << 7;
    }
}

bitflags::bitflags! {
    /// `UARTRIS`: what an interrupt is asked for.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    struct Causes: u32 {
        const RECEIVE = 1 << 4;
        const TRANSMIT = 1 << 5;
        const RECEIVE_TIMEOUT = 1 << 6;
    }
}

/// The registers there are; the others read as zero and ignore writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Register {
    /// `UARTDR`.
    Data,
    /// `UARTRSR`, `UARTECR`.
    Errors,
    /// `UARTFR`.
    Flags,
    /// `UARTIMSC`.
    Mask,
    /// `UARTRIS`.
    Raw,
    /// `UARTMIS`.
    Masked,
    /// `UARTICR`.
    Clear,
}

impl Register {
    const fn at(offset: u64) -> Option<Self> {
        match offset {
            0x00 => Some(Self::Data),
            0x04 => Some(Self::Errors),
            0x18 => Some(Self::Flags),
            0x38 => Some(Self::Mask),
            0x3c => Some(Self::Raw),
            0x40 => Some(Self::Masked),
            0x44 => Some(Self::Clear),
            _ => None,
        }
    }
}

/// Whether the console daemon is to hear of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the daemon does not look unless it is told"]
pub enum Tell {
    /// Nothing changed for it.
    Nobody,
    /// There is a byte more, or room for one.
    Daemon,
}

/// What became of an access to a register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the guest waits for its access"]
pub enum Answer {
    /// Nothing answers to that: the guest gets hardware's exception for an address where nothing is.
    Refused,
    /// It is done.
    Done {
        /// What was read; 0 for a write.
        value: u64,
        /// Who is to hear of it.
        tell: Tell,
    },
}

impl Answer {
    const IGNORED: Self = Self::Done { value: 0, tell: Tell::Nobody };
}

/// Returns how far into the UART's registers `address` is; nothing outside of them.
pub fn locate(address: GuestAddr) -> Option<u64> {
    let offset = address.raw().wrapping_sub(GUEST_PL011_BASE);
    (offset < GUEST_PL011_SIZE).then_some(offset)
}

/// A UART.
#[derive(Debug)]
pub struct Vpl011 {
    ring: Mfn,
    port: Port,
    /// `UARTIMSC`: all its bits can be written, as on Xen.
    mask: u32,
    raised: Causes,
}

impl Vpl011 {
    /// Creates one as reset leaves it, with the page of its rings and the port to the daemon.
    pub const fn new(ring: Mfn, port: Port) -> Self {
        Self { ring, port, mask: 0, raised: Causes::empty() }
    }

    /// Returns the page of its rings.
    pub const fn ring(&self) -> Mfn {
        self.ring
    }

    /// Returns the hypervisor's end of the channel to the daemon.
    pub const fn port(&self) -> Port {
        self.port
    }

    /// Says whether it asks for an interrupt: the level of its line.
    pub const fn interrupt(&self) -> bool {
        self.raised.bits() & self.mask != 0
    }

    /// Reads the register at `offset`.
    pub fn read(&mut self, memory: &impl FrameMemory, offset: u64, width: Width) -> Answer {
        let Some(register) = Register::at(offset) else { return Answer::IGNORED };
        if width == Width::Double {
            return Answer::Refused;
        }
        let mut tell = Tell::Nobody;
        let value = match register {
            Register::Data => {
                let (byte, told) = self.receive(memory);
                tell = told;
                u32::from(byte)
            }
            // No line has errors here.
            Register::Errors => 0,
            Register::Flags => self.flags(memory).bits(),
            Register::Mask => self.mask,
            Register::Raw => self.raised.bits(),
            Register::Masked => self.raised.bits() & self.mask,
            Register::Clear => return Answer::Refused,
        };
        Answer::Done { value: u64::from(value) & width.mask(), tell }
    }

    /// Writes the register at `offset`.
    pub fn write(
        &mut self,
        memory: &impl FrameMemory,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Answer {
        let register = match Register::at(offset) {
            None | Some(Register::Flags | Register::Raw | Register::Masked) => {
                return Answer::IGNORED;
            }
            Some(register) => register,
        };
        let Ok(written) = u32::try_from(width.mask()) else { return Answer::Refused };
        let value = u32::try_from(value & width.mask()).unwrap_or(0);
        let mut tell = Tell::Nobody;
        match register {
            Register::Data => {
                let [byte, ..] = value.to_le_bytes();
                tell = self.send(memory, byte);
            }
            Register::Mask => self.mask = self.mask & !written | value,
            Register::Clear => self.raised.remove(Causes::from_bits_truncate(value)),
            Register::Errors | Register::Flags | Register::Raw | Register::Masked => {}
        }
        Answer::Done { value: 0, tell }
    }

    /// Looks what the daemon did, which sent an event.
    pub fn heard(&mut self, memory: &impl FrameMemory) {
        let (waiting, unsent) = (self.waiting(memory), self.unsent(memory));
        if waiting > 0 {
            self.raised |= Causes::RECEIVE_TIMEOUT;
        }
        if waiting >= IN_SIZE - TRIGGER {
            self.raised |= Causes::RECEIVE;
        }
        if unsent < OUT_SIZE {
            self.raised.set(Causes::TRANSMIT, unsent <= OUT_SIZE - TRIGGER);
        }
    }

    /// Takes a byte from the daemon; 0 if there is none.
    fn receive(&mut self, memory: &impl FrameMemory) -> (u8, Tell) {
        let Some(left) = self.waiting(memory).checked_sub(1) else { return (0, Tell::Nobody) };
        let index = self.at(offset_of!(XenconsInterface, in_cons));
        let consumer = memory.load_u32(index);
        let place = (consumer % IN_SIZE) as usize + offset_of!(XenconsInterface, input);
        let byte = memory.load_u8(self.at(place));
        memory.store_u32(index, consumer.wrapping_add(1));
        // Bytes that stay behind are as good as a timeout: no time passes on this line.
        self.raised.set(Causes::RECEIVE_TIMEOUT, left > 0);
        if left < IN_SIZE - TRIGGER {
            self.raised.remove(Causes::RECEIVE);
        }
        (byte, Tell::Daemon)
    }

    /// Gives the daemon a byte; without room it is lost, as on hardware.
    fn send(&mut self, memory: &impl FrameMemory, byte: u8) -> Tell {
        let unsent = self.unsent(memory);
        if unsent >= OUT_SIZE {
            return Tell::Nobody;
        }
        let index = self.at(offset_of!(XenconsInterface, out_prod));
        let producer = memory.load_u32(index);
        let place = (producer % OUT_SIZE) as usize + offset_of!(XenconsInterface, output);
        memory.swap_u8(self.at(place), byte);
        memory.store_u32(index, producer.wrapping_add(1));
        self.raised.set(Causes::TRANSMIT, unsent < OUT_SIZE - TRIGGER);
        Tell::Daemon
    }

    fn flags(&self, memory: &impl FrameMemory) -> Flags {
        let (waiting, unsent) = (self.waiting(memory), self.unsent(memory));
        let mut flags = Flags::empty();
        flags.set(Flags::RECEIVE_EMPTY, waiting == 0);
        flags.set(Flags::RECEIVE_FULL, waiting == IN_SIZE);
        flags.set(Flags::TRANSMIT_EMPTY, unsent == 0);
        flags.set(Flags::TRANSMIT_FULL | Flags::BUSY, unsent == OUT_SIZE);
        flags
    }

    /// Returns how many bytes wait for the guest.
    fn waiting(&self, memory: &impl FrameMemory) -> u32 {
        let consumer = memory.load_u32(self.at(offset_of!(XenconsInterface, in_cons)));
        let producer = memory.load_u32(self.at(offset_of!(XenconsInterface, in_prod)));
        let waiting = producer.wrapping_sub(consumer);
        if waiting > IN_SIZE { 0 } else { waiting }
    }

    /// Returns how many bytes wait for the daemon.
    fn unsent(&self, memory: &impl FrameMemory) -> u32 {
        let consumer = memory.load_u32(self.at(offset_of!(XenconsInterface, out_cons)));
        let producer = memory.load_u32(self.at(offset_of!(XenconsInterface, out_prod)));
        producer.wrapping_sub(consumer).min(OUT_SIZE)
    }

    /// Returns where in memory an offset into the page is.
    const fn at(&self, offset: usize) -> MachineAddr {
        MachineAddr::new(self.ring.base().raw() + offset as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMemory;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const RING: Mfn = Mfn::new(0x4_0000);
    const DR: u64 = 0x00;
    const FR: u64 = 0x18;
    const IMSC: u64 = 0x38;
    const RIS: u64 = 0x3c;
    const MIS: u64 = 0x40;
    const ICR: u64 = 0x44;
    const RECEIVE: u64 = 1 << 4;
    const TRANSMIT: u64 = 1 << 5;
    const TIMEOUT: u64 = 1 << 6;
    const IN_CONS: u64 = 3072;
    const IN_PROD: u64 = 3076;
    const OUT_CONS: u64 = 3080;
    const OUT_PROD: u64 = 3084;

    /// A UART and the daemon's end of its rings.
    struct Line {
        memory: FakeMemory,
        uart: Vpl011,
    }

    impl Line {
        fn new(input: u32, output: u32) -> Self {
            let line = Self { memory: FakeMemory::default(), uart: Vpl011::new(RING, Port(3)) };
            for (index, value) in
                [(IN_CONS, input), (IN_PROD, input), (OUT_CONS, output), (OUT_PROD, output)]
            {
                line.set(index, value);
            }
            line
        }

        fn set(&self, index: u64, value: u32) {
            self.memory.store_u32(RING.base().checked_add(index).unwrap(), value);
        }

        fn get(&self, index: u64) -> u32 {
            self.memory.load_u32(RING.base().checked_add(index).unwrap())
        }

        fn byte(&self, offset: u64) -> u8 {
            self.memory.load_u8(RING.base().checked_add(offset).unwrap())
        }

        /// The daemon gives input and sends an event.
        fn type_in(&mut self, bytes: &[u8]) {
            for byte in bytes {
                let producer = self.get(IN_PROD);
                let place = RING.base().checked_add(u64::from(producer % 1024)).unwrap();
                self.memory.swap_u8(place, *byte);
                self.set(IN_PROD, producer.wrapping_add(1));
            }
            self.uart.heard(&self.memory);
        }

        /// The daemon takes all output and sends an event.
        fn show(&mut self) -> Vec<u8> {
            let mut consumer = self.get(OUT_CONS);
            let mut shown = Vec::new();
            while consumer != self.get(OUT_PROD) {
                shown.push(self.byte(1024 + u64::from(consumer % 2048)));
                consumer = consumer.wrapping_add(1);
            }
            self.set(OUT_CONS, consumer);
            self.uart.heard(&self.memory);
            shown
        }

        fn read_as(&mut self, offset: u64, width: Width) -> Answer {
            self.uart.read(&self.memory, offset, width)
        }

        fn read(&mut self, offset: u64) -> u64 {
            let Answer::Done { value, .. } = self.read_as(offset, Width::Word) else {
                panic!("register {offset:#x} does not answer")
            };
            value
        }

        fn write(&mut self, offset: u64, value: u64) -> Tell {
            let answer = self.uart.write(&self.memory, offset, Width::Word, value);
            let Answer::Done { value: 0, tell } = answer else { panic!("{answer:?}") };
            tell
        }
    }

    #[test]
    fn a_fresh_uart_is_empty_and_silent() {
        let mut line = Line::new(0, 0);
        assert_eq!(line.read(FR), 1 << 4 | 1 << 7);
        assert_eq!((line.read(IMSC), line.read(RIS), line.read(MIS)), (0, 0, 0));
        assert!(!line.uart.interrupt());
        assert_eq!(locate(GuestAddr::new(0x2200_0fff)), Some(0xfff));
        assert_eq!(locate(GuestAddr::new(0x2200_1000)), None);
        assert_eq!(locate(GuestAddr::new(0x21ff_ffff)), None);
    }

    #[test]
    fn what_is_written_reaches_the_daemon_and_asks_for_more() {
        let mut line = Line::new(0, 0);
        assert_eq!(line.write(DR, 0x1_2341), Tell::Daemon);
        assert_eq!((line.byte(1024), line.get(OUT_PROD)), (0x41, 1));
        assert_eq!(line.read(FR), 1 << 4, "neither empty nor full");
        assert_eq!((line.read(RIS), line.uart.interrupt()), (TRANSMIT, false));
        let _ = line.write(IMSC, TRANSMIT);
        assert!(line.uart.interrupt());
        assert_eq!(line.read(MIS), TRANSMIT);
        let _ = line.write(IMSC, TIMEOUT | RECEIVE);
        assert!(!line.uart.interrupt());
    }

    #[test]
    fn a_full_ring_takes_no_more_until_the_daemon_has_read() {
        let mut line = Line::new(0, u32::MAX - 5);
        let _ = line.write(IMSC, TRANSMIT);
        for count in 1..=2048_u32 {
            assert_eq!(line.write(DR, u64::from(count)), Tell::Daemon);
            assert_eq!(line.uart.interrupt(), count <= 2048 - 16, "{count}");
        }
        assert_eq!(line.read(FR), 1 << 3 | 1 << 4 | 1 << 5);
        assert_eq!(line.write(DR, 0x77), Tell::Nobody);
        line.uart.heard(&line.memory);
        assert!(!line.uart.interrupt());
        let shown = line.show();
        assert_eq!((shown.len(), shown[2047]), (2048, 0), "the byte without room is lost");
        assert!(line.uart.interrupt());
        assert_eq!(line.read(FR), 1 << 4 | 1 << 7);
    }

    #[test]
    fn input_asks_for_an_interrupt_until_it_is_read() {
        let mut line = Line::new(u32::MAX, 0);
        let _ = line.write(IMSC, TIMEOUT | RECEIVE);
        line.type_in(b"ok");
        assert_eq!((line.read(MIS), line.uart.interrupt()), (TIMEOUT, true));
        assert_eq!(line.read(FR) & (1 << 4 | 1 << 6), 0);
        assert_eq!(line.read(DR), u64::from(b'o'));
        assert!(line.uart.interrupt());
        let last = line.read_as(DR, Width::Byte);
        assert_eq!(last, Answer::Done { value: u64::from(b'k'), tell: Tell::Daemon });
        assert!(!line.uart.interrupt());
        let nothing = line.read_as(DR, Width::Half);
        assert_eq!(nothing, Answer::Done { value: 0, tell: Tell::Nobody });
        assert_eq!(line.get(IN_CONS), 1);
    }

    #[test]
    fn a_cleared_cause_comes_back_while_input_stays_behind() {
        let mut line = Line::new(0, 0);
        let _ = line.write(IMSC, TIMEOUT);
        line.type_in(b"abc");
        let _ = line.write(ICR, TIMEOUT);
        assert!(!line.uart.interrupt());
        assert_eq!(line.read(DR), u64::from(b'a'));
        assert!(line.uart.interrupt(), "two more wait, and the daemon is silent");
    }

    #[test]
    fn a_ring_nearly_full_of_input_is_a_cause_of_its_own() {
        let mut line = Line::new(0, 0);
        line.type_in(&[b'x'; 1008]);
        assert_eq!(line.read(RIS) & (RECEIVE | TIMEOUT), RECEIVE | TIMEOUT);
        line.type_in(&[b'x'; 16]);
        assert_eq!(line.read(FR) & (1 << 4 | 1 << 6), 1 << 6);
        for left in (1007..1024).rev() {
            let _ = line.read(DR);
            assert_eq!(line.read(RIS) & RECEIVE != 0, left >= 1008, "{left}");
        }
    }

    #[test]
    fn registers_take_what_xens_do() {
        let mut line = Line::new(0, 0);
        for offset in [DR, 0x04, FR, IMSC, RIS, MIS, ICR] {
            assert_eq!(line.read_as(offset, Width::Double), Answer::Refused, "{offset:#x}");
        }
        assert_eq!(line.read_as(ICR, Width::Word), Answer::Refused, "it is written only");
        for offset in [DR, 0x04, IMSC, ICR] {
            let answer = line.uart.write(&line.memory, offset, Width::Double, 1);
            assert_eq!(answer, Answer::Refused, "{offset:#x}");
        }
        for offset in [FR, RIS, MIS, 0x30, 0xfe0, 0x19] {
            let answer = line.uart.write(&line.memory, offset, Width::Double, u64::MAX);
            assert_eq!(answer, Answer::IGNORED, "{offset:#x}");
        }
        assert_eq!(line.read_as(0x24, Width::Double), Answer::IGNORED);
        assert_eq!((line.read(0x04), line.read(0xfe0), line.read(0x1a)), (0, 0, 0));
        let _ = line.write(IMSC, 0x1234_5678);
        let _ = line.uart.write(&line.memory, IMSC, Width::Byte, 0xffff_ff00);
        assert_eq!(line.read(IMSC), 0x1234_5600);
        assert_eq!(line.write(0x04, 0xff), Tell::Nobody);
    }

    #[test]
    fn indices_that_make_no_sense_are_nothing_and_no_room() {
        let mut line = Line::new(0, 0);
        line.set(IN_PROD, 1025);
        line.set(OUT_CONS, 1);
        assert_eq!(line.read(FR), 1 << 3 | 1 << 4 | 1 << 5);
        assert_eq!((line.read(DR), line.write(DR, 1)), (0, Tell::Nobody));
        assert_eq!((line.get(IN_CONS), line.get(OUT_PROD)), (0, 0));
        line.uart.heard(&line.memory);
        assert_eq!(line.read(RIS), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Type(Vec<u8>),
        Show,
        Read(u64, Width),
        Write(u64, Width, u64),
        Scribble(u64, u32),
    }

    fn width() -> impl Strategy<Value = Width> {
        prop_oneof![Just(Width::Byte), Just(Width::Half), Just(Width::Word), Just(Width::Double)]
    }

    fn step() -> impl Strategy<Value = Step> {
        let offset = prop_oneof![
            Just(DR),
            Just(FR),
            Just(IMSC),
            Just(RIS),
            Just(MIS),
            Just(ICR),
            0_u64..0x1000
        ];
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Type),
            Just(Step::Show),
            (offset.clone(), width()).prop_map(|(offset, width)| Step::Read(offset, width)),
            (offset, width(), any::<u64>())
                .prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        ]
    }

    proptest! {
        #[test]
        fn bytes_arrive_in_order_and_the_line_follows_the_causes(
            starts in any::<(u32, u32)>(),
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut line = Line::new(starts.0, starts.1);
            let (mut typed, mut sent) = (VecDeque::new(), Vec::new());
            let mut shown = Vec::new();
            for step in steps {
                match step {
                    Step::Type(bytes) if typed.len() + bytes.len() <= 1024 => {
                        typed.extend(&bytes);
                        line.type_in(&bytes);
                        prop_assert!(typed.is_empty() || line.read(RIS) & TIMEOUT != 0);
                    }
                    Step::Type(_) | Step::Scribble(..) => {}
                    Step::Show => shown.extend(line.show()),
                    Step::Read(DR, width) if width != Width::Double => {
                        let value = typed.pop_front();
                        let tell = if value.is_some() { Tell::Daemon } else { Tell::Nobody };
                        let value = u64::from(value.unwrap_or(0));
                        prop_assert_eq!(line.read_as(DR, width), Answer::Done { value, tell });
                    }
                    Step::Read(offset, width) => {
                        let _ = line.read_as(offset, width);
                    }
                    Step::Write(offset, width, value) => {
                        if offset == DR && width != Width::Double && sent.len() - shown.len() < 2048 {
                            sent.push(value.to_le_bytes()[0]);
                        }
                        let _ = line.uart.write(&line.memory, offset, width, value);
                    }
                }
                prop_assert_eq!(line.read(FR) & 1 << 4 != 0, typed.is_empty());
                prop_assert_eq!(line.read(FR) & 1 << 7 != 0, sent.len() == shown.len());
                prop_assert_eq!(line.read(MIS), line.read(RIS) & line.read(IMSC));
                prop_assert_eq!(line.uart.interrupt(), line.read(MIS) != 0);
            }
            shown.extend(line.show());
            prop_assert_eq!(shown, sent);
        }

        #[test]
        fn no_index_leads_outside_of_the_page_or_moves_by_more_than_one(
            steps in prop::collection::vec(
                prop_oneof![
                    step(),
                    (0_u64..4, any::<u32>()).prop_map(|(index, value)| Step::Scribble(index, value)),
                ],
                0..100,
            ),
        ) {
            let mut line = Line::new(0, 0);
            let before = RING.base().raw() - 8;
            let guard = MachineAddr::new(before);
            line.memory.store_u64(guard, 0x55);
            for step in steps {
                let (in_cons, out_prod) = (line.get(IN_CONS), line.get(OUT_PROD));
                let (in_prod, out_cons) = (line.get(IN_PROD), line.get(OUT_CONS));
                match step {
                    Step::Scribble(index, value) => {
                        line.set(IN_CONS + 4 * index, value);
                        continue;
                    }
                    Step::Type(_) | Step::Show => line.uart.heard(&line.memory),
                    Step::Read(offset, width) => {
                        let _ = line.read_as(offset, width);
                    }
                    Step::Write(offset, width, value) => {
                        let _ = line.uart.write(&line.memory, offset, width, value);
                    }
                }
                prop_assert!(line.get(IN_CONS).wrapping_sub(in_cons) <= 1);
                prop_assert!(line.get(OUT_PROD).wrapping_sub(out_prod) <= 1);
                prop_assert_eq!((line.get(IN_PROD), line.get(OUT_CONS)), (in_prod, out_cons));
                prop_assert_eq!(line.memory.load_u64(guard), 0x55);
                prop_assert_eq!(line.memory.load_u64(RING.base().checked_add(3088).unwrap()), 0);
            }
        }
    }
}
