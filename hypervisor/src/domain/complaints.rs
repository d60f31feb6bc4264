//! How many lines about one guest get into the message buffer: a guest must not fill it at will.

use hv_core::time::Nanos;

/// Lines in one period.
const LINES: u32 = 20;
const PERIOD: Nanos = Nanos::from_millis(5_000);

/// What is left of a period's lines.
#[derive(Clone, Debug)]
pub struct Budget {
    left: u32,
    renewed: Nanos,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: LINES, renewed: Nanos(0) }
    }
}

impl Budget {
    /// Says whether another line may be printed at `now`, and counts it.
    pub fn allow(&mut self, now: Nanos) -> bool {
        if now - self.renewed >= PERIOD {
            *self = Self { left: LINES, renewed: now };
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_guest_is_silenced_until_the_next_period() {
        let mut budget = Budget::default();
        let allowed = (0..100).filter(|_| budget.allow(Nanos(1))).count();
        assert_eq!(allowed, 20);
        assert!(budget.allow(PERIOD + Nanos(1)));
    }
}
