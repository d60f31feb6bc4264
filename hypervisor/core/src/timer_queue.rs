//! Deadlines of one processor, in order; the run loop programs the EL2 timer for the next.

use crate::ids::VcpuRef;
use crate::time::Nanos;
use alloc::vec::Vec;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TimerKind {
    /// The virtual timer of a virtual processor that is not loaded.
    Virtual,
    /// The emulated physical timer of a virtual processor.
    Physical,
    /// The end of a `SCHEDOP_poll`.
    Poll,
    /// A watchdog of the domain (`SCHEDOP_watchdog`), by number; the processor is the one that set it.
    Watchdog(u8),
}

/// A deadline's name: at most one of each is queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timer {
    /// Whose it is.
    pub who: VcpuRef,
    /// What it is for.
    pub kind: TimerKind,
}

/// The queue, the next to expire last. Few are ever queued, so a sorted list does.
#[derive(Clone, Debug, Default)]
pub struct TimerQueue {
    entries: Vec<(Nanos, Timer)>,
}

impl TimerQueue {
    /// Deadlines that a virtual processor has at most: its two timers, its poll and both watchdogs of
    /// its domain.
    pub const PER_VCPU: usize = 5;

    /// Makes room for the deadlines of `vcpus` virtual processors, those in the queue included; says
    /// whether there was memory for it. Setting them allocates nothing then.
    pub fn make_room(&mut self, vcpus: usize) -> bool {
        let wanted = vcpus.saturating_mul(Self::PER_VCPU);
        self.entries.try_reserve(wanted.saturating_sub(self.entries.len())).is_ok()
    }

    /// Queues `timer`, instead of where it was before; [`Nanos::NEVER`] only takes it out.
    pub fn set(&mut self, timer: Timer, deadline: Nanos) {
        self.cancel(timer);
        if deadline == Nanos::NEVER {
            return;
        }
        let place = self.entries.partition_point(|(other, _)| *other > deadline);
        self.entries.insert(place, (deadline, timer));
    }

    /// Takes `timer` out, if it is queued.
    pub fn cancel(&mut self, timer: Timer) {
        self.entries.retain(|(_, other)| *other != timer);
    }

    /// Takes out all that belongs to `who`.
    pub fn cancel_all(&mut self, who: VcpuRef) {
        self.entries.retain(|(_, other)| other.who != who);
    }

    /// Takes out the first timer whose deadline has come.
    pub fn expired(&mut self, now: Nanos) -> Option<Timer> {
        self.entries.pop_if(|(deadline, _)| *deadline <= now).map(|(_, timer)| timer)
    }

    /// Returns all that is queued, the next to expire last.
    pub fn queued(&self) -> &[(Nanos, Timer)] {
        &self.entries
    }

    /// Returns the next deadline, or [`Nanos::NEVER`].
    pub fn next(&self) -> Nanos {
        self.entries.last().map_or(Nanos::NEVER, |(deadline, _)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{DomId, VcpuId};

    fn timer(vcpu: u32, kind: TimerKind) -> Timer {
        Timer { who: VcpuRef { dom: DomId(1), vcpu: VcpuId(vcpu) }, kind }
    }

    #[test]
    fn timers_expire_in_order_and_not_before_their_time() {
        let mut queue = TimerQueue::default();
        let (first, second) = (timer(0, TimerKind::Poll), timer(1, TimerKind::Virtual));
        queue.set(second, Nanos(20));
        queue.set(first, Nanos(10));
        assert_eq!(queue.next(), Nanos(10));
        assert_eq!(queue.expired(Nanos(9)), None);
        assert_eq!(queue.expired(Nanos(25)), Some(first));
        assert_eq!(queue.expired(Nanos(25)), Some(second));
        assert_eq!(queue.next(), Nanos::NEVER);
    }

    #[test]
    fn room_that_was_made_is_enough_for_every_deadline() {
        let mut queue = TimerQueue::default();
        assert!(queue.make_room(3));
        let place = queue.entries.as_ptr();
        let watchdogs = [0, 1].map(TimerKind::Watchdog);
        let kinds = [TimerKind::Virtual, TimerKind::Physical, TimerKind::Poll];
        let all = || kinds.into_iter().chain(watchdogs);
        assert_eq!(all().count(), TimerQueue::PER_VCPU);
        for vcpu in 0..3 {
            all().for_each(|kind| queue.set(timer(vcpu, kind), Nanos(10)));
        }
        assert_eq!(queue.queued().len(), 15);
        assert_eq!(queue.entries.as_ptr(), place);
    }

    #[test]
    fn setting_again_moves_and_never_cancels() {
        let mut queue = TimerQueue::default();
        let one = timer(0, TimerKind::Watchdog(0));
        queue.set(one, Nanos(10));
        queue.set(one, Nanos(30));
        assert_eq!(queue.next(), Nanos(30));
        queue.set(one, Nanos::NEVER);
        assert_eq!(queue.next(), Nanos::NEVER);
    }
}
