//! Arguments by chance that mean something in some place, and memory that calls with them may use.

use super::{BAD_ADDRESSES, call, ends_us};
use crate::chance::Chance;
use core::sync::atomic::Ordering;
use hypercall_abi::event_channel::{EVTCHNOP_CLOSE, EVTCHNOP_RESET, EVTCHNOP_RESET_CONT};
use hypercall_abi::hypercall::{
    EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, PHYSDEV_OP, SCHED_OP, VCPU_OP, XEN_VERSION,
};
use hypercall_abi::ids::{DOMID_IO, DOMID_SELF, DOMID_XEN};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::smp;

/// Memory that calls by chance may use.
#[derive(Clone, Copy)]
pub(super) struct Prey {
    pub(super) requests: SharedPage,
    pub(super) arrays: SharedPage,
    spare: SharedPage,
    /// Whether ports may be closed by chance, which the console's may be among.
    closes: bool,
}

impl Prey {
    pub(super) fn new() -> Self {
        let [requests, arrays, spare] = [(); 3].map(|()| SharedPage::allocate());
        Self { requests, arrays, spare, closes: true }
    }

    /// Makes calls that leave the ports that are open as they are.
    pub(super) fn keeping_ports() -> Self {
        Self { closes: false, ..Self::new() }
    }

    /// Returns a number that means something in some place.
    pub(super) fn word(&self, chance: &mut Chance) -> u64 {
        let start = smp::entry_address() >> 12;
        match chance.below(12) {
            0 => 0,
            1 => chance.below(8),
            2 => chance.below(4096),
            3 => u64::from(u32::MAX),
            4 => u64::MAX,
            5 => u64::from(chance.of(&[DOMID_SELF, DOMID_IO, DOMID_XEN, 1, 0x7000]).unwrap_or(1)),
            6 => self.arrays.address() + chance.below(512) * 8,
            7 => self.spare.frame(),
            8 => chance.of(&BAD_ADDRESSES).unwrap_or_default(),
            // Where processors start is nobody's prey.
            9 => Some(1 << chance.below(64)).filter(|bit| *bit != start).unwrap_or_default(),
            10 => chance.next() & 0xffff_ffff,
            _ => chance.next(),
        }
    }

    /// Fills the memory that calls read with words by chance.
    pub(super) fn fill(&self, chance: &mut Chance) {
        for place in 0..16 {
            self.requests.word64(place * 8).store(self.word(chance), Ordering::Relaxed);
            self.arrays.word64(place * 8).store(self.word(chance), Ordering::Relaxed);
        }
    }

    /// Makes one call of the kind that harms nobody but who makes it.
    pub(super) fn one(&self, chance: &mut Chance) -> (u64, u64, i64) {
        self.fill(chance);
        let address = self.requests.address() + chance.below(8) * 8;
        self.one_at(address, chance)
    }

    /// Makes such a call with its structure at an address, whatever is there.
    pub(super) fn one_at(&self, address: u64, chance: &mut Chance) -> (u64, u64, i64) {
        const NUMBERS: [u64; 8] = [
            XEN_VERSION,
            GRANT_TABLE_OP,
            VCPU_OP,
            EVENT_CHANNEL_OP,
            HVM_OP,
            PHYSDEV_OP,
            SCHED_OP,
            MEMORY_OP,
        ];
        let number = chance.of(&NUMBERS).unwrap_or(XEN_VERSION);
        let operation = match number {
            // Removing and giving back memory by chance would hit the guest's own; these only ask
            // or add.
            MEMORY_OP => chance.of(&[2, 3, 4, 9, 10, 14, 18, 19, 28, 40]).unwrap_or(2),
            // Registering areas by chance would leave the hypervisor writing into them: it may.
            _ => chance.below(24),
        };
        if ends_us(number, operation) || !self.closes && closes_ports(number, operation) {
            return (number, operation, 0);
        }
        let arguments = match number {
            VCPU_OP => [operation, chance.below(6), address, 0, 0],
            _ => [operation, address, chance.below(4), self.word(chance), self.word(chance)],
        };
        (number, operation, call(number, arguments))
    }
}

fn closes_ports(number: u64, operation: u64) -> bool {
    const CLOSING: [u32; 3] = [EVTCHNOP_CLOSE, EVTCHNOP_RESET, EVTCHNOP_RESET_CONT];
    number == EVENT_CHANNEL_OP && CLOSING.iter().any(|one| u64::from(*one) == operation)
}
