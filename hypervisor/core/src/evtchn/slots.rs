//! Storage of a domain's ports: one list, whose memory is allocated with the table.
//!
//! A guest so never makes the hypervisor allocate by opening ports. Dom0's limit is higher than what
//! is worth setting aside for it: past that its list grows, and growing may fail.

use crate::ids::{DomId, Port, VcpuId};
use alloc::vec::Vec;

use super::EvtchnError;
use super::virq::Virq;

const BUCKET: usize = u64::BITS as usize;

/// What is at a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Binding {
    /// Nothing.
    Closed,
    /// It waits for `remote` to bind to it.
    Unbound { remote: DomId },
    /// It is one end of a channel.
    Interdomain { remote: DomId, port: Port },
    /// The hypervisor raises it.
    Virq(Virq),
    /// The domain raises it itself.
    Ipi,
}

/// A queue of the FIFO ABI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct QueueId {
    pub(super) vcpu: VcpuId,
    pub(super) priority: u8,
}

/// One port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) binding: Binding,
    /// The processor to tell.
    pub(super) vcpu: VcpuId,
    /// FIFO: the priority new events get.
    pub(super) priority: u8,
    /// FIFO: an event came while the array had no word for the port.
    pub(super) pending: bool,
    /// The hypervisor listens here; the guest may neither send on it nor close it.
    pub(super) hypervisor: bool,
    /// FIFO: the queue the event was last put in.
    pub(super) queue: QueueId,
}

impl Slot {
    /// The priority of a port nobody chose one for (`EVTCHN_FIFO_PRIORITY_DEFAULT`).
    pub(super) const DEFAULT_PRIORITY: u8 = 7;

    const CLOSED: Self = Self {
        binding: Binding::Closed,
        vcpu: VcpuId(0),
        priority: Self::DEFAULT_PRIORITY,
        pending: false,
        hypervisor: false,
        queue: QueueId { vcpu: VcpuId(0), priority: 0 },
    };

    /// Says whether the guest may use the port.
    pub(super) fn is_usable(&self) -> bool {
        !self.hypervisor && self.binding != Binding::Closed
    }
}

/// How many ports whose words are still linked a search passes over before it gives up.
///
/// The words are the guest's: it can keep all of them linked.
const BUSY_LOOKS: u32 = 1024;

/// Ports that are made room for at once, at least.
const MORE: usize = 2048;

/// The ports of a domain, by number.
///
/// [`Slots::with_room`] allocates for a number of ports; only [`Slots::widen`] allocates later.
#[derive(Debug)]
pub(super) struct Slots {
    /// As many as the highest port taken so far asks for; a multiple of [`BUCKET`].
    slots: Vec<Slot>,
    /// One bit a port, set if it is taken.
    taken: Vec<u64>,
    /// No word of `taken` before this one has a free port.
    first_vacant: usize,
    /// Where the next search begins, if the last one gave up.
    resume: Option<usize>,
    open: u32,
}

impl Slots {
    /// Allocates for `ports` ports.
    pub(super) fn with_room(ports: u32) -> Self {
        let words = (ports as usize).div_ceil(BUCKET);
        Self {
            slots: Vec::with_capacity(words * BUCKET),
            taken: Vec::with_capacity(words),
            first_vacant: 0,
            resume: None,
            open: 0,
        }
    }

    /// Returns how many bytes [`Slots::with_room`] allocates.
    pub(super) const fn bytes(ports: u32) -> usize {
        (ports as usize).div_ceil(BUCKET) * (BUCKET * size_of::<Slot>() + size_of::<u64>())
    }

    /// Says how many ports are open.
    pub(super) const fn open(&self) -> u32 {
        self.open
    }

    /// Says how many port numbers there are slots for so far.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    #[inline(always)]
    pub(super) fn get(&self, port: Port) -> Option<&Slot> {
        self.slots.get(port.index())
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, port: Port) -> Option<&mut Slot> {
        self.slots.get_mut(port.index())
    }

    /// Finds the lowest free port up to `last` that is not `busy`.
    ///
    /// Gives up after [`BUSY_LOOKS`] busy ones; the next search goes on from there.
    pub(super) fn vacant(&mut self, last: u32, busy: impl Fn(Port) -> bool) -> Option<Port> {
        let mut index = self.resume.take().unwrap_or(self.first_vacant);
        let mut looks = BUSY_LOOKS;
        loop {
            let base = u32::try_from(index * BUCKET).ok()?;
            if base > last {
                return None;
            }
            let taken = match self.taken.get(index) {
                Some(taken) => *taken,
                // Port 0 is nobody's.
                None => u64::from(index == 0),
            };
            if taken == u64::MAX && index == self.first_vacant {
                self.first_vacant += 1;
            }
            let mut free = !taken;
            while free != 0 {
                let port = Port(base + free.trailing_zeros());
                if port.number() > last {
                    return None;
                }
                if !busy(port) {
                    return Some(port);
                }
                looks = looks.saturating_sub(1);
                free &= free - 1;
            }
            index += 1;
            if looks == 0 {
                self.resume = Some(index);
                return None;
            }
        }
    }

    /// Says whether opening one more port, up to `last`, may find no room.
    pub(super) fn is_tight(&self, last: u32) -> bool {
        let all = (last as usize / BUCKET + 1) * BUCKET;
        let most = self.slots.len() + BUSY_LOOKS as usize + 2 * BUCKET;
        self.slots.capacity() < most.min(all)
    }

    /// Allocates for more ports, up to `last`.
    pub(super) fn widen(&mut self, last: u32) -> Result<(), EvtchnError> {
        let all = last as usize / BUCKET + 1;
        let wanted = (self.slots.capacity().max(MORE) / BUCKET * 2).min(all);
        let words = wanted.saturating_sub(self.taken.len());
        let slots = (wanted * BUCKET).saturating_sub(self.slots.len());
        self.taken.try_reserve_exact(words).map_err(|_| EvtchnError::NoMemory)?;
        self.slots.try_reserve_exact(slots).map_err(|_| EvtchnError::NoMemory)
    }

    /// Makes slots up to `port`, which [`Self::vacant`] found, out of the room there is.
    pub(super) fn reach(&mut self, port: Port) -> Result<(), EvtchnError> {
        if port.index() < self.slots.len() {
            return Ok(());
        }
        let words = port.index() / BUCKET + 1;
        if words > self.taken.capacity() || words * BUCKET > self.slots.capacity() {
            return Err(EvtchnError::NoMemory);
        }
        // Port 0 is nobody's.
        let first = u64::from(self.taken.is_empty());
        self.taken.resize(words, 0);
        if let Some(word) = self.taken.first_mut() {
            *word |= first;
        }
        self.slots.resize(words * BUCKET, Slot::CLOSED);
        Ok(())
    }

    /// Takes `port`, which [`Self::reach`] has made a slot for.
    pub(super) fn take(&mut self, port: Port, binding: Binding, vcpu: VcpuId) {
        let Some(slot) = self.slots.get_mut(port.index()) else {
            return;
        };
        slot.binding = binding;
        slot.vcpu = vcpu;
        slot.priority = Slot::DEFAULT_PRIORITY;
        if let Some(taken) = self.taken.get_mut(port.index() / BUCKET) {
            *taken |= 1 << (port.index() % BUCKET);
        }
        self.open += 1;
    }

    /// Closes `port`. Its queue is remembered: its word may still be linked there.
    pub(super) fn release(&mut self, port: Port) {
        let Some(slot) = self.slots.get_mut(port.index()) else {
            return;
        };
        *slot = Slot { queue: slot.queue, ..Slot::CLOSED };
        let index = port.index() / BUCKET;
        if let Some(taken) = self.taken.get_mut(index) {
            *taken &= !(1 << (port.index() % BUCKET));
        }
        self.first_vacant = self.first_vacant.min(index);
        self.open -= 1;
    }

    /// Returns the first taken port from `from` on.
    pub(super) fn next_taken(&self, from: u32) -> Option<Port> {
        let (first, bit) = (Port(from).index() / BUCKET, from % u64::BITS);
        let words = self.taken.iter().enumerate().skip(first);
        words
            .map(|(index, word)| (index, if index == first { *word >> bit << bit } else { *word }))
            // Port 0 is marked as taken and is nobody's.
            .map(|(index, word)| (index, if index == 0 { word & !1 } else { word }))
            .find(|(_, word)| *word != 0)
            .and_then(|(index, word)| {
                u32::try_from(index * BUCKET).ok().map(|base| Port(base + word.trailing_zeros()))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(slots: &mut Slots, last: u32) -> Option<u32> {
        let port = slots.vacant(last, |_| false)?;
        slots.reach(port).unwrap();
        slots.take(port, Binding::Ipi, VcpuId(0));
        Some(port.number())
    }

    #[test]
    fn ports_are_numbered_from_one_and_the_lowest_free_one_is_taken() {
        let mut slots = Slots::with_room(256);
        assert_eq!(slots.len(), 0, "no slot is written before it is needed");
        for expected in 1..200 {
            assert_eq!(take(&mut slots, 131_071), Some(expected));
        }
        slots.release(Port(150));
        slots.release(Port(3));
        assert_eq!(take(&mut slots, 131_071), Some(3));
        assert_eq!(take(&mut slots, 131_071), Some(150));
        assert_eq!(take(&mut slots, 131_071), Some(200));
        assert_eq!(slots.open(), 200);
    }

    #[test]
    fn the_limit_is_the_last_port() {
        let mut slots = Slots::with_room(64);
        assert_eq!((0..4).map_while(|_| take(&mut slots, 2)).count(), 2);
    }

    #[test]
    fn a_busy_port_is_passed_over() {
        let mut slots = Slots::with_room(64);
        assert_eq!(slots.vacant(100, |port| port.number() < 70), Some(Port(70)));
    }

    #[test]
    fn a_search_among_busy_ports_gives_up_and_goes_on_the_next_time() {
        let mut slots = Slots::with_room(64);
        let looks = core::cell::Cell::new(0);
        let busy = |port: Port| {
            looks.set(looks.get() + 1);
            port.number() < 1500
        };
        assert_eq!(slots.vacant(131_071, busy), None);
        assert!(looks.get() <= 1024 + BUCKET, "{} words were read", looks.get());
        assert_eq!(slots.vacant(131_071, busy), Some(Port(1500)));
        assert_eq!(slots.vacant(131_071, |_| false), Some(Port(1)), "then the lowest again");
    }

    #[test]
    fn taken_ports_are_found_in_order() {
        let mut slots = Slots::with_room(256);
        for _ in 0..200 {
            take(&mut slots, 131_071);
        }
        for port in 1..=200 {
            if ![1, 64, 65, 199].contains(&port) {
                slots.release(Port(port));
            }
        }
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(port) = slots.next_taken(from) {
            found.push(port.number());
            from = port.number() + 1;
        }
        assert_eq!(found, [1, 64, 65, 199]);
        assert_eq!(slots.next_taken(u32::MAX), None);
    }

    #[test]
    fn a_list_without_room_is_refused_until_it_is_widened() {
        let mut slots = Slots::with_room(64);
        assert!(slots.is_tight(131_071) && !slots.is_tight(63));
        assert_eq!(slots.reach(Port(64)), Err(EvtchnError::NoMemory));
        slots.widen(131_071).unwrap();
        assert!(!slots.is_tight(131_071));
        assert_eq!(slots.reach(Port(64)), Ok(()));
        while slots.is_tight(131_071) || slots.len() < 131_000 {
            slots.widen(131_071).unwrap();
            slots.reach(Port(slots.len())).unwrap();
        }
        assert_eq!(slots.reach(Port(131_072)), Err(EvtchnError::NoMemory), "there are no more");
    }

    #[test]
    fn ports_within_the_room_allocate_nothing() {
        let mut slots = Slots::with_room(1024);
        let places = (slots.slots.as_ptr(), slots.taken.as_ptr());
        while take(&mut slots, 1023).is_some() {}
        assert_eq!(slots.open(), 1023);
        assert_eq!((slots.slots.as_ptr(), slots.taken.as_ptr()), places);
    }
}
