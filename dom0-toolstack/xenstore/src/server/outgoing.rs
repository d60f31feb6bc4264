//! What a connection has not taken yet.
//!
//! Replies and watch events leave in the order they were made. An event equal to one that still
//! waits is dropped: its reader will look at the same path anyway.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::wire::{Kind, Message};

/// A message as it travels.
pub(crate) type Bytes = Arc<Vec<u8>>;

#[derive(Debug)]
struct Packet {
    bytes: Bytes,
    event: bool,
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    packets: VecDeque<Packet>,
    /// The events none of whose bytes have left.
    events: HashSet<Bytes>,
    sent: usize,
    bytes: usize,
    replies: usize,
}

impl Outgoing {
    /// Returns the bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes - self.sent
    }

    /// Returns the number of replies that wait.
    pub(crate) fn replies(&self) -> usize {
        self.replies
    }

    /// Adds a reply, whose payload is never over the limit, and returns it as it travels.
    pub(crate) fn push_reply(&mut self, message: &Message) -> Option<Bytes> {
        let bytes = Bytes::new(message.encode()?);
        Some(self.push(bytes, false))
    }

    /// Adds a watch event unless the same one waits already or it is too long to send; returns it
    /// as it travels.
    pub(crate) fn push_event(&mut self, payload: Vec<u8>) -> Option<Bytes> {
        let special = payload.starts_with(b"@");
        let message =
            Message { kind: Kind::WatchEvent.number(), request_id: 0, transaction_id: 0, payload };
        let bytes = Bytes::new(message.encode()?);
        let new = self.events.insert(bytes.clone());
        if !new && !special {
            return None;
        }
        Some(self.push(bytes, true))
    }

    /// Adds what waited in an earlier daemon.
    pub(crate) fn push_rest(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.push(Bytes::new(bytes), false);
        }
    }

    /// Returns the next bytes to send, none where nothing waits.
    pub(crate) fn next(&self) -> &[u8] {
        self.packets.front().and_then(|packet| packet.bytes.get(self.sent..)).unwrap_or_default()
    }

    /// Returns all bytes that wait.
    pub(crate) fn rest(&self) -> Vec<u8> {
        let mut rest = self.next().to_vec();
        for packet in self.packets.iter().skip(1) {
            rest.extend_from_slice(&packet.bytes);
        }
        rest
    }

    /// Notes that `count` of [`Outgoing::next`] left.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent += count;
        while let Some(packet) = self.packets.front() {
            // What has left in part says nothing of what changes from now on.
            if packet.event && self.sent > 0 {
                self.events.remove(&packet.bytes);
            }
            if self.sent < packet.bytes.len() {
                break;
            }
            self.sent -= packet.bytes.len();
            self.bytes -= packet.bytes.len();
            self.replies -= usize::from(!packet.event);
            self.packets.pop_front();
        }
    }

    fn push(&mut self, bytes: Bytes, event: bool) -> Bytes {
        self.bytes += bytes.len();
        self.replies += usize::from(!event);
        self.packets.push_back(Packet { bytes: bytes.clone(), event });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(payload: &[u8]) -> Message {
        Message {
            kind: Kind::Read.number(),
            request_id: 1,
            transaction_id: 0,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn an_event_that_waits_is_not_doubled_but_one_that_left_is_sent_again() {
        let mut outgoing = Outgoing::default();
        outgoing.push_event(b"/a\0t\0".to_vec());
        outgoing.push_event(b"/a\0t\0".to_vec());
        assert_eq!(outgoing.next().len(), outgoing.bytes());
        outgoing.sent(1);
        outgoing.push_event(b"/a\0t\0".to_vec());
        assert_eq!(outgoing.bytes(), 2 * (16 + 5) - 1);
        outgoing.push_event(b"@releaseDomain\0t\0".to_vec());
        let bytes = outgoing.bytes();
        outgoing.push_event(b"@releaseDomain\0t\0".to_vec());
        assert!(outgoing.bytes() > bytes);
    }

    #[test]
    fn replies_are_counted_until_their_last_byte_left() {
        let mut outgoing = Outgoing::default();
        outgoing.push_reply(&reply(b"abc"));
        outgoing.push_reply(&reply(b""));
        outgoing.sent(18);
        assert_eq!((outgoing.replies(), outgoing.bytes()), (2, 17));
        outgoing.sent(1);
        assert_eq!((outgoing.replies(), outgoing.bytes()), (1, 16));
        outgoing.sent(outgoing.next().len());
        assert_eq!((outgoing.replies(), outgoing.bytes(), outgoing.next()), (0, 0, &[][..]));
    }
}
