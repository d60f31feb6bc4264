//! Caps: a budget of processor time that a domain gets anew each period.

use crate::time::Nanos;

/// How often a budget is refilled (credit2's `bdgt_replenish` period is the same).
const PERIOD: Nanos = Nanos::from_millis(10);

/// What a capped domain may still use; without a cap, everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Cap {
    /// Time per period; none is no cap.
    quota: Option<Nanos>,
    left: Nanos,
    /// What was used beyond the last budget; the next is smaller by it.
    debt: Nanos,
    refill_at: Nanos,
}

impl Cap {
    /// Allows `percent` of one processor from `now` on; 0 is no limit.
    pub(super) fn set(&mut self, percent: u16, now: Nanos) {
        let quota = Nanos(PERIOD.0 / 100 * u64::from(percent));
        self.quota = (percent != 0).then_some(quota);
        self.left = quota;
        self.debt = Nanos(0);
        self.refill_at = now + PERIOD;
    }

    /// Takes `ran`, used up to `now`, from the budget.
    pub(super) fn spend(&mut self, ran: Nanos, now: Nanos) {
        if self.quota.is_none() {
            return;
        }
        self.debt = self.debt + (ran - self.left);
        self.left = self.left - ran;
        self.refill(now);
    }

    /// Says whether nothing is left at `now`.
    pub(super) fn is_spent(&mut self, now: Nanos) -> bool {
        self.refill(now);
        self.quota.is_some() && self.left == Nanos(0)
    }

    /// Returns when one that runs from `now` on has used up the budget.
    pub(super) fn lasts_until(&mut self, now: Nanos) -> Nanos {
        self.refill(now);
        if self.quota.is_some() { now + self.left } else { Nanos::NEVER }
    }

    /// Returns when the next budget comes, if there is a cap.
    pub(super) fn refill_at(&self) -> Option<Nanos> {
        self.quota.map(|_| self.refill_at)
    }

    fn refill(&mut self, now: Nanos) {
        let Some(quota) = self.quota else { return };
        if now < self.refill_at {
            return;
        }
        let periods = (now - self.refill_at).0 / PERIOD.0 + 1;
        let income = Nanos(quota.0.saturating_mul(periods));
        self.left = (income - self.debt).min(quota);
        self.debt = self.debt - income;
        self.refill_at = self.refill_at + Nanos(PERIOD.0.saturating_mul(periods));
    }
}
