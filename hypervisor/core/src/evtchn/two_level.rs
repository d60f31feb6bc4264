//! The 2-level ABI: one pending and one mask bit per port in the domain's shared page, and per
//! virtual processor a word that says which words of pending bits to look at
//! (`public/xen.h`, `struct shared_info` and `struct vcpu_info`).

use super::{Raised, mark_upcall};
use crate::{addr::MachineAddr, ids::Port, memory::FrameMemory};

/// Ports the ABI can name: 64 words of 64 bits.
pub(super) const PORTS: u32 = 64 * 64;

const PENDING: u64 = 48;
const MASK: u64 = 560;
const PENDING_SEL: u64 = 8;

struct Place {
    pending: MachineAddr,
    mask: MachineAddr,
    bit: u64,
    /// The bit in `evtchn_pending_sel` for the word the port is in.
    selector: u64,
}

impl Place {
    const fn of(shared: MachineAddr, port: Port) -> Self {
        let number = port.number() as u64;
        let (word, bit) = ((number / 64) & 63, number % 64);
        Self {
            pending: MachineAddr::new(shared.raw() + PENDING + word * 8),
            mask: MachineAddr::new(shared.raw() + MASK + word * 8),
            bit: 1 << bit,
            selector: 1 << word,
        }
    }
}

/// Sets `port` pending and, if it is not masked, raises the upcall of the processor whose
/// `vcpu_info` is at `info`.
///
/// The mask is read after the pending bit is set: a guest that unmasks clears the mask first and
/// looks at the pending bit second, so that one of the two sees the other.
pub(super) fn set_pending(
    memory: &impl FrameMemory,
    shared: MachineAddr,
    info: Option<MachineAddr>,
    port: Port,
) -> Raised {
    let place = Place::of(shared, port);
    if memory.fetch_or_u64(place.pending, place.bit) & place.bit != 0 {
        return Raised { newly: false, upcall: false };
    }
    let masked = memory.load_u64(place.mask) & place.bit != 0;
    Raised { newly: true, upcall: !masked && select(memory, info, place.selector) }
}

/// Clears the mask of `port`; raises the upcall if the port is pending.
pub(super) fn unmask(
    memory: &impl FrameMemory,
    shared: MachineAddr,
    info: Option<MachineAddr>,
    port: Port,
) -> bool {
    let place = Place::of(shared, port);
    let was_masked = memory.fetch_and_u64(place.mask, !place.bit) & place.bit != 0;
    was_masked
        && memory.load_u64(place.pending) & place.bit != 0
        && select(memory, info, place.selector)
}

/// Takes the pending bit of `port` back.
pub(super) fn clear_pending(memory: &impl FrameMemory, shared: MachineAddr, port: Port) {
    let place = Place::of(shared, port);
    memory.fetch_and_u64(place.pending, !place.bit);
}

/// Says whether `port` is pending.
pub(super) fn is_pending(memory: &impl FrameMemory, shared: MachineAddr, port: Port) -> bool {
    let place = Place::of(shared, port);
    memory.load_u64(place.pending) & place.bit != 0
}

/// Says whether the guest has `port` masked.
pub(super) fn is_masked(memory: &impl FrameMemory, shared: MachineAddr, port: Port) -> bool {
    let place = Place::of(shared, port);
    memory.load_u64(place.mask) & place.bit != 0
}

/// Tells a processor to look at every word: what a newly registered `vcpu_info` starts with.
pub(super) fn select_all(memory: &impl FrameMemory, info: MachineAddr) {
    memory.store_u64(MachineAddr::new(info.raw() + PENDING_SEL), u64::MAX);
}

/// A processor without a `vcpu_info` is told nothing here: registering one selects every word.
#[inline(always)]
fn select(memory: &impl FrameMemory, info: Option<MachineAddr>, selector: u64) -> bool {
    let Some(info) = info else {
        return false;
    };
    let at = MachineAddr::new(info.raw() + PENDING_SEL);
    memory.fetch_or_u64(at, selector) & selector == 0 && mark_upcall(memory, info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMemory;

    const SHARED: MachineAddr = MachineAddr::new(0x4000_0000);
    const INFO: MachineAddr = MachineAddr::new(0x4000_1040);
    const PORT: Port = Port(70);

    #[test]
    fn a_masked_port_raises_nothing_until_it_is_unmasked() {
        let memory = FakeMemory::default();
        memory.store_u64(MachineAddr::new(SHARED.raw() + MASK + 8), 1 << 6);
        let raised = set_pending(&memory, SHARED, Some(INFO), PORT);
        assert!(raised.newly && !raised.upcall);
        assert_eq!(memory.load_u64(MachineAddr::new(SHARED.raw() + PENDING + 8)), 1 << 6);
        assert!(unmask(&memory, SHARED, Some(INFO), PORT));
        assert_eq!(memory.load_u64(MachineAddr::new(INFO.raw() + PENDING_SEL)), 1 << 1);
        assert_eq!(memory.load_u8(INFO), 1);
        assert!(!unmask(&memory, SHARED, Some(INFO), PORT), "it is unmasked already");
    }

    #[test]
    fn an_upcall_is_raised_once() {
        let memory = FakeMemory::default();
        assert!(set_pending(&memory, SHARED, Some(INFO), PORT).upcall);
        assert!(!set_pending(&memory, SHARED, Some(INFO), PORT).newly);
        let next = set_pending(&memory, SHARED, Some(INFO), Port(71));
        assert!(next.newly && !next.upcall);
        clear_pending(&memory, SHARED, PORT);
        assert!(!is_pending(&memory, SHARED, PORT));
        assert!(is_pending(&memory, SHARED, Port(71)));
    }
}
