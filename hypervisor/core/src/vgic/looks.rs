//! When a processor looks for interrupts that its controller did not signal.
//!
//! A guest's end of a hardware interrupt deactivates the physical one, with no exit. If the interrupt is
//! pending again by then, the controller signals it (IHI 0048B, 3.2.4). QEMU's GICv2 does not: it looks
//! again only when a line changes or a register of the physical controller is written. A guest that
//! sleeps, or spins until its timer interrupts it, would then wait for ever.
//!
//! So, on such a controller, the hypervisor writes a register before it sleeps, and a timer of its own
//! interrupts a guest that stays in for long: its line changes, and the controller looks.

use crate::time::Nanos;

/// When one processor looks: on a controller that signals all by itself, never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Looks {
    overlooks: bool,
    next: Nanos,
}

impl Looks {
    /// How late an interrupt may be that came while its guest ended the one before: a tick of Linux's.
    pub const PERIOD: Nanos = Nanos::from_millis(4);

    /// Starts with no guest; `overlooks` says whether the controller overlooks what it should signal.
    pub const fn new(overlooks: bool) -> Self {
        Self { overlooks, next: Nanos::NEVER }
    }

    /// Returns when the processor is to be interrupted at the latest.
    pub const fn next(&self) -> Nanos {
        self.next
    }

    /// Says whether the controller must be made to look before the processor sleeps.
    pub const fn needed_before_sleep(&self) -> bool {
        self.overlooks
    }

    /// Notes that a guest runs from `now` on.
    ///
    /// A look that is due already stays as it is, also across a sleep: most guests sleep sooner than
    /// that, and each change would be one of the timer's.
    pub fn guest_runs(&mut self, now: Nanos) {
        if self.overlooks && self.next == Nanos::NEVER {
            self.next = now + Self::PERIOD;
        }
    }

    /// Notes that the timer interrupted, which was a look; `running` says whether a guest goes on.
    pub fn interrupted(&mut self, now: Nanos, running: bool) {
        if self.next <= now {
            self.next = Nanos::NEVER;
            if running {
                self.guest_runs(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Nanos = Nanos::from_millis(1_000);
    const STEP: Nanos = Nanos::from_micros(100);

    /// A controller with one level-sensitive interrupt, the virtual timer's.
    struct Controller {
        overlooks: bool,
        line: bool,
        active: bool,
        signalled: bool,
    }

    impl Controller {
        fn new(overlooks: bool) -> Self {
            Self { overlooks, line: false, active: false, signalled: false }
        }

        /// Looks, as after a write to a physical register or a change of any line.
        fn look(&mut self) {
            self.signalled = self.line && !self.active;
        }

        fn set_line(&mut self, line: bool) {
            if self.line != line {
                self.line = line;
                self.look();
            }
        }

        fn acknowledge(&mut self) {
            self.active = true;
            self.look();
        }

        /// The guest's end, at the virtual interface.
        fn end(&mut self) {
            self.active = false;
            if !self.overlooks {
                self.look();
            }
        }

        /// Has a guest take an interrupt and end it only when the next is pending.
        fn end_late(&mut self) {
            self.set_line(true);
            self.acknowledge();
            self.set_line(false);
            self.set_line(true);
            self.end();
        }
    }

    /// Lets a guest run from `start` on that makes no exit; returns when it gets its interrupt.
    fn spin(controller: &mut Controller, looks: &mut Looks, start: Nanos) -> Option<Nanos> {
        let mut now = start;
        looks.guest_runs(now);
        controller.end_late();
        while now < start + Nanos::from_millis(100) {
            if controller.signalled {
                return Some(now);
            }
            now = now + STEP;
            if looks.next() <= now {
                controller.look();
                looks.interrupted(now, true);
            }
        }
        None
    }

    #[test]
    fn a_guest_that_makes_no_exit_gets_each_timer_that_expired_before_it_ended_the_last() {
        let (mut controller, mut looks) = (Controller::new(true), Looks::new(true));
        let mut start = START;
        for _ in 0..3 {
            let taken = spin(&mut controller, &mut looks, start).unwrap();
            assert!(taken - start <= Looks::PERIOD, "{start:?} {taken:?}");
            start = taken;
        }
        // The model has the fault that this is about.
        assert_eq!(spin(&mut Controller::new(true), &mut Looks::new(false), START), None);
    }

    #[test]
    fn a_processor_that_sleeps_sees_the_timer_that_expired_before_the_guest_ended_the_last() {
        for overlooks in [true, false] {
            let mut controller = Controller::new(overlooks);
            let looks = Looks::new(overlooks);
            controller.end_late();
            if looks.needed_before_sleep() {
                controller.look();
            }
            assert!(controller.signalled, "overlooks: {overlooks}");
        }
    }

    #[test]
    fn a_controller_that_overlooks_nothing_costs_no_interrupt() {
        let mut looks = Looks::new(false);
        looks.guest_runs(START);
        looks.interrupted(START, true);
        assert_eq!(looks.next(), Nanos::NEVER);
        assert!(!looks.needed_before_sleep());
    }

    #[test]
    fn a_look_stays_due_while_guests_come_and_go_and_ends_with_them() {
        let mut looks = Looks::new(true);
        assert_eq!(looks.next(), Nanos::NEVER);
        looks.guest_runs(START);
        let due = START + Looks::PERIOD;
        looks.guest_runs(START + STEP);
        assert_eq!(looks.next(), due);
        // Another deadline came first.
        looks.interrupted(START + STEP, true);
        assert_eq!(looks.next(), due);
        looks.interrupted(due + STEP, true);
        assert_eq!(looks.next(), due + STEP + Looks::PERIOD);
        looks.interrupted(looks.next(), false);
        assert_eq!(looks.next(), Nanos::NEVER);
    }
}
