//! What a guest wrote and nobody has read yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes kept where the toolstack sets no limit.
const DEFAULT_LIMIT: usize = 1 << 20;
/// Events handled at once in each period; a guest that sends more waits for the next.
const EVENTS: u32 = 30;
const PERIOD: Duration = Duration::from_millis(200);

/// A console's output on its way to the terminal.
#[derive(Debug)]
pub(crate) struct Output {
    bytes: VecDeque<u8>,
    limit: usize,
    discard: bool,
}

impl Output {
    /// Keeps up to `limit` bytes; what comes then pushes out the oldest if `discard`, else waits
    /// in the guest.
    pub(crate) fn new(limit: Option<usize>, discard: bool) -> Self {
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(DEFAULT_LIMIT);
        Self { bytes: VecDeque::new(), limit, discard }
    }

    /// Returns whether more may be taken from the guest.
    pub(crate) fn has_room(&self) -> bool {
        self.discard || self.bytes.len() < self.limit
    }

    /// Returns whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds what the guest wrote.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        if self.discard {
            let over = self.bytes.len().saturating_sub(self.limit);
            self.bytes.drain(..over);
        }
    }

    /// Returns the oldest bytes.
    pub(crate) fn next(&self) -> &[u8] {
        let (first, second) = self.bytes.as_slices();
        if first.is_empty() { second } else { first }
    }

    /// Drops the oldest bytes, which were read.
    pub(crate) fn taken(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }
}

/// How many events of one guest are handled, so that none keeps the daemon to itself.
#[derive(Debug)]
pub(crate) struct EventRate {
    count: u32,
    period_ends: Instant,
}

impl EventRate {
    /// Starts a period.
    pub(crate) fn new(now: Instant) -> Self {
        Self { count: 0, period_ends: now + PERIOD }
    }

    /// Notes an event; returns until when the guest's next one has to wait.
    pub(crate) fn event(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.period_ends {
            *self = Self::new(now);
        }
        self.count += 1;
        (self.count >= EVENTS).then_some(self.period_ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_pushes_out_the_oldest() {
        let mut output = Output::new(Some(4), true);
        output.push(b"abc");
        output.push(b"def");
        assert!(output.has_room());
        let mut read = Vec::new();
        while !output.is_empty() {
            let next = output.next().to_vec();
            output.taken(next.len());
            read.extend(next);
        }
        assert_eq!(read, b"cdef");
    }

    #[test]
    fn what_must_be_kept_stops_the_guest() {
        let mut output = Output::new(Some(4), false);
        output.push(b"abcdef");
        assert!(!output.has_room());
        output.taken(3);
        assert!(output.has_room());
        assert_eq!(output.next(), b"def");
    }

    #[test]
    fn a_guest_that_sends_too_many_events_waits_for_the_next_period() {
        let now = Instant::now();
        let mut rate = EventRate::new(now);
        for _ in 0..29 {
            assert_eq!(rate.event(now), None);
        }
        assert_eq!(rate.event(now), Some(now + PERIOD));
        assert_eq!(rate.event(now + PERIOD), None);
    }
}
