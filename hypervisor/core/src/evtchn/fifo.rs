//! The FIFO ABI: one word per port, linked by the hypervisor into queues of events, sixteen
//! priorities for each virtual processor (`public/event_channel.h`, "FIFO ABI").
//!
//! # Why this is sound against a guest that runs meanwhile
//!
//! All of a domain's events are queued under the lock of its port table, so there is one producer.
//! The consumer is the guest: it runs at the same time, and may write anything.
//!
//! * *What the guest writes is never followed.* The hypervisor reads from an event word only its
//!   PENDING, MASKED and LINKED bits. It keeps the tail of each queue itself and never reads LINK or a
//!   head. A bad guest breaks its own queues, and nothing else.
//! * *No event is lost.* One atomic operation sets PENDING and reads MASKED and LINKED. If the word
//!   was masked, the guest's unmasking (clear MASKED, then look at PENDING) comes after it and sees
//!   PENDING. If it was linked, the guest has not consumed it yet, and consuming is: clear LINKED,
//!   then look at PENDING.
//! * *A link is not lost either.* The tail's LINK is set by a compare-and-swap that requires LINKED.
//!   When it succeeds, the guest, whose own consuming of the tail is a compare-and-swap on the same
//!   word, follows the link. When the tail is not linked any more, the guest has emptied the queue, and
//!   the event becomes its head.
//! * *It ends.* A guest that keeps the protocol makes the swap fail at most four times once BUSY is
//!   set, because it must not unmask a busy word. After that the guest is at fault and loses the
//!   event.

use super::{Raised, mark_upcall, slots::QueueId, slots::Slot};
use crate::{
    addr::{MachineAddr, Mfn},
    ids::{Port, VcpuId},
    memory::FrameMemory,
};
use alloc::vec::Vec;

/// Ports the ABI can name: LINK has 17 bits.
pub(super) const PORTS: u32 = 1 << LINK_BITS;
/// The width of the LINK field (`EVTCHN_FIFO_LINK_BITS`).
pub const LINK_BITS: u8 = 17;
/// The least urgent priority (`EVTCHN_FIFO_PRIORITY_MIN`).
pub(super) const LEAST_PRIORITY: u8 = 15;
/// Bytes of a control block: the ready word, padding, one head per priority.
pub(super) const CONTROL_BLOCK_SIZE: u32 = 72;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;
const LINK: u32 = PORTS - 1;

const PRIORITIES: usize = 16;
const HEADS: u64 = 8;
const WORDS_PER_FRAME: u32 = 1024;
pub(super) const MAX_FRAMES: usize = 128;
/// How often a swap on a busy word may fail; see above.
const BUSY_TRIES: u32 = 4;

/// The FIFO state of a domain.
#[derive(Debug)]
pub(super) struct Fifo {
    words: Vec<Mfn>,
    queues: Vec<Queues>,
}

/// The queues of one virtual processor.
#[derive(Clone, Debug, Default)]
struct Queues {
    control: Option<MachineAddr>,
    /// The last event put in each queue; 0 if there was none.
    tails: [u32; PRIORITIES],
}

impl Fifo {
    /// Starts with an empty event array and without control blocks, for `vcpus` processors.
    ///
    /// Nothing is allocated later.
    pub(super) fn new(vcpus: usize) -> Self {
        let words = Vec::with_capacity(MAX_FRAMES);
        Self { words, queues: alloc::vec![Queues::default(); vcpus] }
    }

    /// Returns how many bytes [`Fifo::new`] allocates.
    pub(super) const fn bytes(vcpus: usize) -> usize {
        MAX_FRAMES * size_of::<Mfn>() + vcpus * size_of::<Queues>()
    }

    /// Says whether `vcpu` has its control block.
    pub(super) fn has_control(&self, vcpu: VcpuId) -> bool {
        self.queues.get(vcpu.index()).is_some_and(|queues| queues.control.is_some())
    }

    /// Uses the control block at `control` for `vcpu`.
    pub(super) fn set_control(&mut self, vcpu: VcpuId, control: MachineAddr) {
        if let Some(queues) = self.queues.get_mut(vcpu.index()) {
            queues.control = Some(control);
        }
    }

    /// Says whether the event array may grow.
    pub(super) fn may_grow(&self) -> bool {
        self.words.len() < MAX_FRAMES
    }

    /// Adds a frame of event words; returns the ports it holds.
    pub(super) fn grow(&mut self, frame: Mfn) -> core::ops::Range<u32> {
        let first = u32::try_from(self.words.len()).unwrap_or(PORTS) * WORDS_PER_FRAME;
        self.words.push(frame);
        first..first + WORDS_PER_FRAME
    }

    /// Hands out the frames of the guest's that are in use, event words first, and starts anew.
    pub(super) fn take_frames(&mut self, mut out: impl FnMut(Mfn)) {
        self.words.drain(..).for_each(&mut out);
        for queues in &mut self.queues {
            if let Some(control) = core::mem::take(queues).control {
                out(control.frame());
            }
        }
    }

    /// Sets `port` pending and, if it is neither masked nor linked, puts it in its queue.
    pub(super) fn set_pending(
        &mut self,
        memory: &impl FrameMemory,
        info: Option<MachineAddr>,
        port: Port,
        slot: &mut Slot,
    ) -> Raised {
        let Some(word) = self.word(port) else {
            slot.pending = true;
            return Raised { newly: false, upcall: false };
        };
        // Without a control block the event is dropped: the guest must not unmask before it has one.
        if !self.has_control(slot.vcpu) {
            return Raised { newly: false, upcall: false };
        }
        let old = memory.fetch_or_u32(word, PENDING);
        let newly = old & PENDING == 0;
        let queued = old & (MASKED | LINKED) != 0;
        Raised { newly, upcall: !queued && self.link(memory, info, port, slot, word) }
    }

    /// Puts `port` in its queue unless it is in one; says whether the upcall must be raised.
    #[inline(never)]
    fn link(
        &mut self,
        memory: &impl FrameMemory,
        info: Option<MachineAddr>,
        port: Port,
        slot: &mut Slot,
        word: MachineAddr,
    ) -> bool {
        if memory.fetch_or_u32(word, LINKED) & LINKED != 0 {
            return false;
        }
        // An event that was its old queue's tail has been consumed, so that queue is empty: what
        // comes there next must not be linked to this word, which goes elsewhere.
        if let Some(tail) = self.tail(slot.queue)
            && *tail == port.number()
        {
            *tail = 0;
        }
        slot.queue = QueueId { vcpu: slot.vcpu, priority: slot.priority };
        self.enqueue(memory, slot.queue, port) && info.is_some_and(|info| mark_upcall(memory, info))
    }

    /// Clears the mask of `port`; says whether it is pending and must be set so again.
    pub(super) fn unmask(&self, memory: &impl FrameMemory, port: Port) -> bool {
        self.word(port).is_some_and(|word| memory.fetch_and_u32(word, !MASKED) & PENDING != 0)
    }

    /// Takes the pending bit of `port` back. The guest unlinks the word and ignores it.
    pub(super) fn clear_pending(&self, memory: &impl FrameMemory, port: Port) {
        if let Some(word) = self.word(port) {
            memory.fetch_and_u32(word, !PENDING);
        }
    }

    /// Says whether `port` is pending.
    pub(super) fn is_pending(&self, memory: &impl FrameMemory, port: Port) -> bool {
        self.word(port).is_some_and(|word| memory.load_u32(word) & PENDING != 0)
    }

    /// Says whether the guest has `port` masked.
    pub(super) fn is_masked(&self, memory: &impl FrameMemory, port: Port) -> bool {
        self.word(port).is_some_and(|word| memory.load_u32(word) & MASKED != 0)
    }

    /// Says whether `port` stands in a queue, so that its number must not be given out anew.
    pub(super) fn is_busy(&self, memory: &impl FrameMemory, port: Port) -> bool {
        self.word(port).is_some_and(|word| memory.load_u32(word) & LINKED != 0)
    }

    /// Puts `port`, whose LINKED bit was just set, at the end of `queue`; says whether the queue
    /// became ready by it.
    fn enqueue(&mut self, memory: &impl FrameMemory, queue: QueueId, port: Port) -> bool {
        let Some(control) = self.queues.get(queue.vcpu.index()).and_then(|queues| queues.control)
        else {
            return false;
        };
        let Some(tail) = self.tail(queue) else {
            return false;
        };
        let last = core::mem::replace(tail, port.number());
        if last != 0
            && let Some(word) = self.word(Port(last))
            && set_link(memory, word, port)
        {
            return false;
        }
        let head = control.raw() + HEADS + u64::from(queue.priority) * 4;
        memory.store_u32(MachineAddr::new(head), port.number());
        let ready = 1 << queue.priority;
        memory.fetch_or_u32(control, ready) & ready == 0
    }

    fn tail(&mut self, queue: QueueId) -> Option<&mut u32> {
        self.queues.get_mut(queue.vcpu.index())?.tails.get_mut(usize::from(queue.priority))
    }

    fn word(&self, port: Port) -> Option<MachineAddr> {
        let number = port.number();
        let frame = self.words.get((number / WORDS_PER_FRAME) as usize)?;
        let offset = u64::from(number % WORDS_PER_FRAME) * 4;
        Some(MachineAddr::new(frame.base().raw() + offset))
    }
}

/// Links `next` behind `word` if that is still linked itself; says whether the guest will come by.
fn set_link(memory: &impl FrameMemory, word: MachineAddr, next: Port) -> bool {
    let mut old = memory.load_u32(word);
    match try_link(memory, word, &mut old, next) {
        Link::Done => return true,
        Link::Unlinked => return false,
        Link::Changed => (),
    }
    old = memory.fetch_or_u32(word, BUSY) | BUSY;
    for _ in 0..BUSY_TRIES {
        match try_link(memory, word, &mut old, next) {
            Link::Done => return true,
            Link::Unlinked => {
                memory.fetch_and_u32(word, !BUSY);
                return false;
            }
            Link::Changed => (),
        }
    }
    memory.fetch_and_u32(word, !BUSY);
    true
}

enum Link {
    Done,
    Unlinked,
    Changed,
}

fn try_link(memory: &impl FrameMemory, word: MachineAddr, old: &mut u32, next: Port) -> Link {
    if *old & LINKED == 0 {
        return Link::Unlinked;
    }
    let new = (*old & !(BUSY | LINK)) | next.number();
    match memory.compare_exchange_u32(word, *old, new) {
        Ok(_) => Link::Done,
        Err(now) => {
            *old = now;
            Link::Changed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evtchn::slots::Slots, fake::FakeMemory};

    const WORDS: MachineAddr = MachineAddr::new(0x5000_0000);
    const CONTROL: MachineAddr = MachineAddr::new(0x5000_1100);
    const INFO: MachineAddr = MachineAddr::new(0x5000_2000);

    fn slot() -> Slot {
        let mut slots = Slots::with_room(64);
        slots.reach(Port(1)).unwrap();
        slots.take(Port(1), super::super::slots::Binding::Ipi, VcpuId(0));
        *slots.get(Port(1)).unwrap()
    }

    fn fifo() -> Fifo {
        let mut fifo = Fifo::new(1);
        fifo.set_control(VcpuId(0), CONTROL);
        assert_eq!(fifo.grow(WORDS.frame()), 0..1024);
        fifo
    }

    fn at(port: u32) -> MachineAddr {
        MachineAddr::new(WORDS.raw() + u64::from(port) * 4)
    }

    fn head(memory: &FakeMemory, priority: u64) -> u32 {
        memory.load_u32(MachineAddr::new(CONTROL.raw() + HEADS + priority * 4))
    }

    fn raise(fifo: &mut Fifo, memory: &FakeMemory, port: u32, slot: &mut Slot) -> Raised {
        fifo.set_pending(memory, Some(INFO), Port(port), slot)
    }

    #[test]
    fn the_second_event_is_linked_to_the_first() {
        let memory = FakeMemory::default();
        let (mut fifo, mut first, mut second) = (fifo(), slot(), slot());
        assert!(raise(&mut fifo, &memory, 5, &mut first).upcall);
        assert!(!raise(&mut fifo, &memory, 9, &mut second).upcall, "the queue was ready");
        assert_eq!(head(&memory, 7), 5);
        assert_eq!(memory.load_u32(CONTROL), 1 << 7);
        assert_eq!(memory.load_u32(at(5)), PENDING | LINKED | 9);
        assert_eq!(memory.load_u32(at(9)), PENDING | LINKED);
    }

    #[test]
    fn an_emptied_queue_gets_a_new_head() {
        let memory = FakeMemory::default();
        let (mut fifo, mut first, mut second) = (fifo(), slot(), slot());
        assert!(raise(&mut fifo, &memory, 5, &mut first).upcall);
        memory.store_u32(at(5), 0);
        memory.store_u32(CONTROL, 0);
        memory.swap_u8(INFO, 0);
        assert!(raise(&mut fifo, &memory, 9, &mut second).upcall);
        assert_eq!(head(&memory, 7), 9);
        assert_eq!(memory.load_u32(at(5)), 0, "the old tail is left alone");
    }

    #[test]
    fn an_event_that_changes_its_priority_leaves_no_tail_behind() {
        let memory = FakeMemory::default();
        let (mut fifo, mut moving, mut other) = (fifo(), slot(), slot());
        assert!(raise(&mut fifo, &memory, 5, &mut moving).newly);
        memory.store_u32(at(5), 0);
        moving.priority = 0;
        assert!(raise(&mut fifo, &memory, 5, &mut moving).newly);
        assert_eq!(head(&memory, 0), 5);
        assert!(raise(&mut fifo, &memory, 9, &mut other).newly);
        assert_eq!(head(&memory, 7), 9, "not linked to 5, which is in the other queue");
        assert_eq!(memory.load_u32(at(5)) & LINK, 0);
    }

    #[test]
    fn a_masked_event_is_pending_but_in_no_queue() {
        let memory = FakeMemory::default();
        let (mut fifo, mut slot) = (fifo(), slot());
        memory.store_u32(at(5), MASKED);
        let raised = raise(&mut fifo, &memory, 5, &mut slot);
        assert!(raised.newly && !raised.upcall);
        assert_eq!(memory.load_u32(at(5)), MASKED | PENDING);
        assert!(fifo.unmask(&memory, Port(5)));
        assert!(raise(&mut fifo, &memory, 5, &mut slot).upcall);
    }

    #[test]
    fn without_a_word_the_event_waits_and_without_a_control_block_it_is_dropped() {
        let memory = FakeMemory::default();
        let (mut fifo, mut far) = (fifo(), slot());
        assert!(!raise(&mut fifo, &memory, 1024, &mut far).newly);
        assert!(far.pending);
        let mut bare = Fifo::new(1);
        bare.grow(WORDS.frame());
        assert!(!raise(&mut bare, &memory, 5, &mut slot()).newly);
        assert_eq!(memory.load_u32(at(5)), 0);
    }
}
