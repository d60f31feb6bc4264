//! One step of a campaign as numbers: the step's own bytes first, then more that follow from them.

use hv_core::ids::DomId;
use hypervisor::testbed::GUEST_RAM;

/// Bytes of a step.
pub(crate) const STEP: usize = 16;
/// Where domains have no memory, and map what they are given.
pub(crate) const HOLE: u64 = GUEST_RAM.number() + 0x1000;
/// `DOMID_SELF`.
pub(crate) const SELF: u16 = 0x7ff0;

/// The numbers of one step.
pub(crate) struct Draw {
    bytes: [u8; STEP],
    taken: usize,
    more: u64,
}

impl Draw {
    pub(crate) fn new(bytes: [u8; STEP]) -> Self {
        let more = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { bytes, taken: 0, more }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        if let Some(byte) = self.bytes.get(self.taken) {
            self.taken += 1;
            return *byte;
        }
        self.more ^= self.more << 13;
        self.more ^= self.more >> 7;
        self.more ^= self.more << 17;
        self.more.to_le_bytes()[3]
    }

    pub(crate) fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    /// Says yes once in `times`.
    pub(crate) fn seldom(&mut self, times: u8) -> bool {
        self.byte() % times == times - 1
    }

    pub(crate) fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number of which few bits are set, most often; anything else now and then.
    pub(crate) fn long(&mut self) -> u64 {
        let (kind, value) = (self.byte(), u64::from(self.half()));
        match kind % 8 {
            0..3 => value & 0xff,
            3 => value,
            4 => value << (kind / 8),
            5 => u64::MAX - (value & 0xff),
            6 => 1 << (value % 64),
            _ => value << 48 | value << 20 | value,
        }
    }

    pub(crate) fn word(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.long().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// One that is there, most often.
    pub(crate) fn port(&mut self) -> u32 {
        let byte = self.byte();
        if byte < 250 { u32::from(byte % 24) } else { self.word() }
    }

    pub(crate) fn handle(&mut self) -> u32 {
        let byte = self.byte();
        if byte < 250 { u32::from(byte % 12) } else { self.word() }
    }

    pub(crate) fn reference(&mut self) -> u32 {
        match self.byte() {
            byte @ 0..240 => 8 + u32::from(byte % 12),
            byte @ 240..250 => u32::from(byte) * 8,
            _ => self.word(),
        }
    }

    pub(crate) fn vcpu(&mut self) -> u32 {
        let byte = self.byte();
        if byte < 250 { u32::from(byte % 2) } else { self.word() }
    }

    pub(crate) fn domain(&mut self) -> u16 {
        match self.byte() {
            byte @ 0..200 => u16::from(byte % 5),
            200..245 => SELF,
            245 => DomId::XEN.0,
            246 => 0x7ff1,
            _ => self.half(),
        }
    }

    pub(crate) fn gfn(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..160 => GUEST_RAM.number() + u64::from(byte % 64),
            byte @ 160..245 => HOLE + u64::from(byte % 16),
            byte @ 245..250 => (HOLE & !0x1ff) + 0x200 * u64::from(byte - 244),
            _ => self.long(),
        }
    }

    /// An address of a page, or in one.
    pub(crate) fn address(&mut self) -> u64 {
        let past = if self.seldom(32) { u64::from(self.half() & 0xfff) } else { 0 };
        self.gfn() << 12 | past
    }

    /// A register that may point into the caller's memory.
    pub(crate) fn register(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..120 => 0x1100 + u64::from(byte) * 64,
            _ => self.long(),
        }
    }
}
