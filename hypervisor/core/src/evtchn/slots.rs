//! Storage of a domain's ports: buckets that are made when the first of their ports is taken, so
//! that a limit of 131,072 ports costs nothing until they are used.

use crate::ids::{DomId, Port, VcpuId};
use alloc::{boxed::Box, vec::Vec};

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

#[derive(Debug)]
struct Bucket {
    taken: u64,
    slots: [Slot; BUCKET],
}

/// The ports of a domain, by number.
#[derive(Debug, Default)]
pub(super) struct Slots {
    #[expect(clippy::vec_box, reason = "growing the list must not copy the buckets")]
    buckets: Vec<Box<Bucket>>,
    /// No bucket before this one has a free port.
    first_vacant: usize,
    open: u32,
}

impl Slots {
    /// Says how many ports are open.
    pub(super) const fn open(&self) -> u32 {
        self.open
    }

    /// Says how many port numbers stand in the buckets made so far.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.buckets.len() * BUCKET).unwrap_or(u32::MAX)
    }

    pub(super) fn get(&self, port: Port) -> Option<&Slot> {
        self.buckets.get(port.index() / BUCKET)?.slots.get(port.index() % BUCKET)
    }

    pub(super) fn get_mut(&mut self, port: Port) -> Option<&mut Slot> {
        self.buckets.get_mut(port.index() / BUCKET)?.slots.get_mut(port.index() % BUCKET)
    }

    /// Finds the lowest free port up to `last` that is not `busy`.
    pub(super) fn vacant(&mut self, last: u32, busy: impl Fn(Port) -> bool) -> Option<Port> {
        let mut index = self.first_vacant;
        loop {
            let base = u32::try_from(index * BUCKET).ok()?;
            if base > last {
                return None;
            }
            let taken = match self.buckets.get(index) {
                Some(bucket) => bucket.taken,
                // Port 0 is nobody's.
                None if index == 0 => 1,
                None => 0,
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
                free &= free - 1;
            }
            index += 1;
        }
    }

    /// Takes `port`, which [`Self::vacant`] found.
    pub(super) fn take(&mut self, port: Port, binding: Binding, vcpu: VcpuId) {
        let index = port.index() / BUCKET;
        while self.buckets.len() <= index {
            let taken = u64::from(self.buckets.is_empty());
            self.buckets.push(Box::new(Bucket { taken, slots: [Slot::CLOSED; BUCKET] }));
        }
        let Some(bucket) = self.buckets.get_mut(index) else {
            return;
        };
        bucket.taken |= 1 << (port.index() % BUCKET);
        self.open += 1;
        if let Some(slot) = bucket.slots.get_mut(port.index() % BUCKET) {
            slot.binding = binding;
            slot.vcpu = vcpu;
            slot.priority = Slot::DEFAULT_PRIORITY;
        }
    }

    /// Closes `port`. Its queue is remembered: its word may still be linked there.
    pub(super) fn release(&mut self, port: Port) {
        let index = port.index() / BUCKET;
        let Some(bucket) = self.buckets.get_mut(index) else {
            return;
        };
        let Some(slot) = bucket.slots.get_mut(port.index() % BUCKET) else {
            return;
        };
        *slot = Slot { queue: slot.queue, ..Slot::CLOSED };
        bucket.taken &= !(1 << (port.index() % BUCKET));
        self.first_vacant = self.first_vacant.min(index);
        self.open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(slots: &mut Slots, last: u32) -> Option<u32> {
        let port = slots.vacant(last, |_| false)?;
        slots.take(port, Binding::Ipi, VcpuId(0));
        Some(port.number())
    }

    #[test]
    fn ports_are_numbered_from_one_and_the_lowest_free_one_is_taken() {
        let mut slots = Slots::default();
        assert_eq!(slots.len(), 0, "nothing is made up front");
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
        let mut slots = Slots::default();
        assert_eq!((0..4).map_while(|_| take(&mut slots, 2)).count(), 2);
    }

    #[test]
    fn a_busy_port_is_passed_over() {
        let mut slots = Slots::default();
        assert_eq!(slots.vacant(100, |port| port.number() < 70), Some(Port(70)));
    }
}
