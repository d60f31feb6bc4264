//! Log lines about domains: how many one may cause, so that no guest fills Dom0's disk.
//!
//! The hypervisor limits its own lines in the same way (`hypervisor/src/domain/complaints.rs`).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use crate::daemon::Log;

/// Lines about one domain in one period.
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(5);

/// What each domain has caused of late.
#[derive(Debug, Default)]
pub struct Complaints {
    domains: BTreeMap<u16, Caused>,
    /// Some domain's lines were left out and nobody has said so yet.
    left_out: bool,
}

#[derive(Clone, Copy, Debug)]
struct Caused {
    since: Duration,
    written: u32,
    left_out: u32,
}

impl Complaints {
    /// Writes a line about `domain`, unless it caused too many of late. `now` is the time since the
    /// daemon's start.
    pub fn line(&mut self, log: &Log, domain: u16, now: Duration, text: impl Display) {
        self.settle(log, now);
        if self.allow(domain, now) {
            log.line(text);
        }
    }

    /// Says what was left out in the periods that are over. Cheap when nothing was.
    pub fn settle(&mut self, log: &Log, now: Duration) {
        if !self.left_out {
            return;
        }
        for (domain, lines) in self.left_out_until(now) {
            log.line(format_args!("domain {domain}: {lines} more lines were left out"));
        }
    }

    /// Returns how long until [`Complaints::settle`] has something to say, if it will. A daemon that
    /// has nothing else to do waits so long.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        if !self.left_out {
            return None;
        }
        let silenced = self.domains.values().filter(|caused| caused.left_out > 0);
        let ends = silenced.map(|caused| caused.since.saturating_add(PERIOD));
        ends.min().map(|end| end.saturating_sub(now))
    }

    /// Says whether another line about `domain` may be written, and counts it.
    fn allow(&mut self, domain: u16, now: Duration) -> bool {
        let fresh = Caused { since: now, written: 0, left_out: 0 };
        let caused = self.domains.entry(domain).or_insert(fresh);
        if caused.left_out == 0 && now.saturating_sub(caused.since) >= PERIOD {
            *caused = fresh;
        }
        if caused.written < LINES {
            caused.written += 1;
            return true;
        }
        caused.left_out = caused.left_out.saturating_add(1);
        self.left_out = true;
        false
    }

    /// Ends the periods that are over; returns the domains whose lines were left out, and how many.
    fn left_out_until(&mut self, now: Duration) -> Vec<(u16, u32)> {
        let over = |caused: &Caused| now.saturating_sub(caused.since) >= PERIOD;
        let found = self.domains.iter().filter(|(_, caused)| over(caused) && caused.left_out > 0);
        let found = found.map(|(domain, caused)| (*domain, caused.left_out)).collect();
        // Those of domains that are gone go with them.
        self.domains.retain(|_, caused| !over(caused));
        self.left_out = self.domains.values().any(|caused| caused.left_out > 0);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_so_many_lines_in_a_period_and_others_have_their_own() {
        let mut complaints = Complaints::default();
        let at = |millis| Duration::from_millis(millis);
        let allowed = (0..100).filter(|millis| complaints.allow(1, at(*millis))).count();
        assert_eq!(allowed, 20);
        assert!(complaints.allow(2, at(100)));
        assert_eq!(complaints.left_out_until(at(4_999)), []);
        assert_eq!(complaints.left_out_until(at(5_000)), [(1, 80)]);
        assert_eq!(complaints.left_out_until(at(20_000)), [], "that is said once");
        assert!(complaints.allow(1, at(20_000)));
    }

    #[test]
    fn a_domain_that_never_stops_never_writes_more() {
        let mut complaints = Complaints::default();
        let mut written = 0;
        for millis in 0..60_000 {
            let now = Duration::from_millis(millis);
            written += complaints.left_out_until(now).len();
            written += usize::from(complaints.allow(7, now));
        }
        // Twelve periods, each with its lines and one about those that were left out.
        assert!((12 * 20..=12 * 21).contains(&written), "{written}");
    }

    #[test]
    fn what_was_left_out_is_said_when_the_period_ends() {
        let mut complaints = Complaints::default();
        let at = |millis| Duration::from_millis(millis);
        let line = |complaints: &mut Complaints, millis| complaints.allow(1, at(millis));
        (0..20).for_each(|_| assert!(line(&mut complaints, 100)));
        assert_eq!(complaints.due(at(100)), None);
        assert!(!line(&mut complaints, 200));
        assert_eq!(complaints.due(at(300)), Some(at(4_800)));
        assert_eq!(complaints.due(at(6_000)), Some(Duration::ZERO));
        assert_eq!(complaints.left_out_until(at(6_000)), [(1, 1)]);
        assert_eq!(complaints.due(at(6_000)), None);
    }

    #[test]
    fn nothing_is_kept_of_domains_that_are_quiet() {
        let mut complaints = Complaints::default();
        for domain in 0..1000 {
            complaints.allow(domain, Duration::ZERO);
        }
        complaints.left_out_until(PERIOD);
        assert!(complaints.domains.is_empty());
    }
}
