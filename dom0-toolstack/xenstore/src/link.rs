//! One domain's connection: messages out of its ring and bytes into it, so that a daemon killed at
//! any moment can be followed by another.
//!
//! Requests are looked at in the ring and handled; what that did is written down, how far the ring
//! was read included ([`Link::record`]); then the domain is told that they were taken
//! ([`Link::settle`]) and the replies, which were written down too, are put in. How many of those
//! were put in the ring itself says. So whenever a daemon is killed each request is handled once and
//! each reply arrives once.

use std::ops::Deref;

use xen_sys::SharedPages;

use crate::record::Record;
use crate::ring::{Ring, RingError};
use crate::server::RingState;
use crate::wire::{Decoder, Message};

/// The server's end of a domain's connection.
#[derive(Debug)]
pub struct Link<P> {
    ring: Ring<P>,
    decoder: Decoder,
    /// Index up to which requests are in `decoder`.
    taken: u32,
    /// Given up until the domain reconnects or is introduced again.
    ignored: bool,
}

/// What a domain's ring held.
#[derive(Debug, Eq, PartialEq)]
pub enum Input {
    /// A message.
    Message(Message),
    /// No whole message.
    Nothing,
    /// The domain wants to start afresh: its watches, transactions and output are void.
    Reset,
    /// The domain broke the rules and is ignored from now on.
    Broken(RingError),
}

impl<P: Deref<Target = SharedPages>> Link<P> {
    /// Takes a ring as it is.
    pub fn new(ring: Ring<P>) -> Self {
        let (taken, ignored) = (ring.requests(), ring.has_failed());
        Self { ring, decoder: Decoder::default(), taken, ignored }
    }

    /// Goes on with a ring that an earlier daemon used; returns what that had not sent.
    pub fn resume(ring: Ring<P>, state: &RingState) -> (Self, Vec<u8>) {
        let unsent = state.unsent(ring.responses()).map(<[u8]>::to_vec);
        let mut link = Self::new(ring);
        link.decoder.extend(&state.partial);
        link.taken = state.requests;
        // Whoever goes on with a ring looks for requests first.
        let _more = link.settle();
        if unsent.is_none() {
            // Only the domain itself can have moved what the ring says was sent.
            link.give_up(RingError::BadIndices);
        }
        (link, unsent.unwrap_or_default())
    }

    /// Returns the next message, whose bytes the domain may not overwrite before [`Link::settle`].
    pub fn next_message(&mut self) -> Input {
        if self.ring.wants_reconnect() {
            return Input::Reset;
        }
        if self.ignored {
            return Input::Nothing;
        }
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => return Input::Message(message),
                Ok(None) => {}
                Err(_too_long) => return self.give_up(RingError::Protocol),
            }
            // No more than this message, so that what is left is never more than a part of one.
            match self.ring.peek(self.taken, self.decoder.missing()) {
                Ok(bytes) if bytes.is_empty() => return Input::Nothing,
                Ok(bytes) => {
                    self.decoder.extend(&bytes);
                    let count = u32::try_from(bytes.len()).unwrap_or_default();
                    self.taken = self.taken.wrapping_add(count);
                }
                Err(error) => return self.give_up(error),
            }
        }
    }

    /// Returns how far the ring was used, to be written down.
    pub fn record(&self, domain: u16) -> Record<'_> {
        Record::Ring {
            domain,
            requests: self.taken,
            responses: self.ring.responses(),
            partial: self.decoder.rest().into(),
        }
    }

    /// Returns whether the domain was told of all that was taken.
    pub fn is_settled(&self) -> bool {
        self.ring.requests() == self.taken
    }

    /// Tells the domain which requests were taken, now that what they did is written down.
    ///
    /// Returns whether there are more. Where they came before this, no event told of them: Linux
    /// sends one only for requests that it puts in a ring where all before were taken.
    #[must_use = "requests may have come without an event"]
    pub fn settle(&self) -> bool {
        self.ring.take(self.taken);
        !self.ignored && self.ring.has_requests(self.taken)
    }

    /// Puts as many of `bytes` as there is room for in the ring.
    ///
    /// # Errors
    ///
    /// The domain broke the rules and is ignored from now on.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, RingError> {
        if self.ignored {
            return Ok(0);
        }
        let sent = self.ring.write(bytes);
        if let Err(error) = sent {
            self.give_up(error);
        }
        sent
    }

    /// Starts afresh, as the domain asked for or because it was introduced again.
    pub fn restart(&mut self) {
        self.decoder.clear();
        self.ring.reset();
        self.taken = 0;
        self.ignored = false;
        if self.ring.wants_reconnect() {
            self.ring.reconnected();
        }
    }

    fn give_up(&mut self, error: RingError) -> Input {
        self.ring.fail(error);
        self.ignored = true;
        Input::Broken(error)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::record::{self, Frame, VERSION};
    use crate::server::{ConnectionId, Server, restore};
    use crate::wire::Kind;

    const REQUEST_PRODUCER: usize = 2052;
    const RESPONSE_CONSUMER: usize = 2056;
    const RESPONSE_PRODUCER: usize = 2060;

    /// A daemon with one domain, its own; what it wrote down stays when it is killed.
    struct Daemon {
        server: Server,
        id: ConnectionId,
        link: Link<Rc<SharedPages>>,
        file: Vec<u8>,
    }

    /// Where in its turn a daemon is killed.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Kill {
        No,
        Handled,
        Written,
        Settled,
        HalfSent,
    }

    impl Daemon {
        fn start(page: &Rc<SharedPages>) -> Self {
            let mut server = Server::default();
            let id = server.connect_domain(0);
            let link = Link::new(Ring::new(page.clone()));
            let mut daemon = Self { server, id, link, file: Vec::new() };
            daemon.save();
            daemon
        }

        fn save(&mut self) {
            let mut records = Vec::new();
            Record::Header { version: VERSION, boot: "".into(), epoch: 0 }.encode(&mut records);
            self.link.record(0).encode(&mut records);
            let mut frame = Frame::default();
            self.server.snapshot(records, &[]).take(&mut frame, usize::MAX);
            self.file = frame.seal().to_vec();
            self.server.keep_journal();
        }

        /// The daemon that comes after this one was killed.
        fn next(self, page: &Rc<SharedPages>) -> Self {
            let restored = restore(record::read(&self.file).0).unwrap();
            let mut server = restored.server;
            let id = server.connection_of(0).unwrap();
            let (link, unsent) = Link::resume(Ring::new(page.clone()), &restored.rings[&0]);
            server.resume_output(id, unsent);
            let mut daemon = Self { server, id, link, file: Vec::new() };
            daemon.save();
            daemon
        }

        /// Handles one message; says whether it lived to the end.
        fn turn(&mut self, kill: Kill) -> bool {
            if let Input::Message(message) = self.link.next_message() {
                self.server.handle(self.id, &message);
            }
            if kill == Kill::Handled {
                return false;
            }
            if !self.link.is_settled() {
                self.server.note(&self.link.record(0));
            }
            let journal = self.server.journal().unwrap();
            self.file.extend(journal.seal());
            journal.clear();
            if kill == Kill::Written {
                return false;
            }
            let _more = self.link.settle();
            if kill == Kill::Settled {
                return false;
            }
            while !self.server.output(self.id).is_empty() {
                let bytes = self.server.output(self.id).to_vec();
                if kill == Kill::HalfSent {
                    self.link.send(&bytes[..bytes.len() / 2]).unwrap();
                    return false;
                }
                match self.link.send(&bytes).unwrap() {
                    0 => return true,
                    count => self.server.sent(self.id, count),
                }
            }
            true
        }
    }

    /// The kernel's end of the ring.
    #[derive(Default)]
    struct Kernel {
        waiting: Vec<u8>,
        decoder: Decoder,
        replies: Vec<Message>,
    }

    impl Kernel {
        fn turn(&mut self, page: &SharedPages) {
            let producer = page.load_u32(REQUEST_PRODUCER);
            let room = 1024 - producer.wrapping_sub(page.load_u32(2048));
            let count = self.waiting.len().min(usize::try_from(room).unwrap());
            for (step, byte) in self.waiting.drain(..count).enumerate() {
                let place = producer.wrapping_add(u32::try_from(step).unwrap());
                page.write(usize::try_from(place % 1024).unwrap(), &[byte]);
            }
            page.store_u32(REQUEST_PRODUCER, producer.wrapping_add(u32::try_from(count).unwrap()));
            let mut consumer = page.load_u32(RESPONSE_CONSUMER);
            while consumer != page.load_u32(RESPONSE_PRODUCER) {
                let mut byte = [0];
                page.read(1024 + usize::try_from(consumer % 1024).unwrap(), &mut byte);
                self.decoder.extend(&byte);
                consumer = consumer.wrapping_add(1);
            }
            page.store_u32(RESPONSE_CONSUMER, consumer);
            while let Some(message) = self.decoder.next_message().unwrap() {
                self.replies.push(message);
            }
        }
    }

    fn request(number: usize, length: usize) -> Message {
        let number = u32::try_from(number).unwrap();
        let mut payload = format!("/n{}\0", number % 5).into_bytes();
        let kind = if number % 3 == 2 { Kind::Read } else { Kind::Write };
        if kind == Kind::Write {
            payload.extend(vec![b'x'; length]);
        }
        Message { kind: kind.number(), request_id: number, transaction_id: 0, payload }
    }

    proptest! {
        #[test]
        fn each_request_is_answered_once_however_often_the_daemon_is_killed(
            start in any::<u32>(),
            lengths in prop::collection::vec(0..3000_usize, 1..20),
            kills in prop::collection::vec(prop::sample::select(vec![
                Kill::No, Kill::No, Kill::No, Kill::Handled, Kill::Written, Kill::Settled, Kill::HalfSent,
            ]), 0..100),
        ) {
            let page = Rc::new(SharedPages::anonymous(4096).unwrap());
            for index in [2048, REQUEST_PRODUCER, RESPONSE_CONSUMER, RESPONSE_PRODUCER] {
                page.store_u32(index, start);
            }
            // One that is never killed says what must come.
            let undisturbed = Rc::new(SharedPages::anonymous(4096).unwrap());
            let (mut kernel, mut expected) = (Kernel::default(), Kernel::default());
            for (number, length) in lengths.iter().enumerate() {
                let bytes = request(number, *length).encode().unwrap();
                kernel.waiting.extend(&bytes);
                expected.waiting.extend(&bytes);
            }
            let mut daemon = Daemon::start(&undisturbed);
            while expected.replies.len() < lengths.len() {
                expected.turn(&undisturbed);
                prop_assert!(daemon.turn(Kill::No));
            }
            let mut daemon = Daemon::start(&page);
            let mut kills = kills.into_iter();
            while kernel.replies.len() < lengths.len() || kills.len() > 0 {
                kernel.turn(&page);
                if !daemon.turn(kills.next().unwrap_or(Kill::No)) {
                    daemon = daemon.next(&page);
                }
            }
            prop_assert_eq!(kernel.replies, expected.replies);
        }
    }

    #[test]
    fn requests_that_come_while_others_are_settled_are_not_missed() {
        let page = Rc::new(SharedPages::anonymous(4096).unwrap());
        let mut link = Link::new(Ring::new(page.clone()));
        let mut kernel = Kernel::default();
        // As Linux sends a message: its header, and then what it says.
        let message = request(0, 3).encode().unwrap();
        let (header, text) = message.split_at(16);
        kernel.waiting.extend(header);
        kernel.turn(&page);
        assert_eq!(link.next_message(), Input::Nothing);
        kernel.waiting.extend(text);
        kernel.turn(&page);
        assert!(link.settle());
        assert!(matches!(link.next_message(), Input::Message(_)));
        assert!(!link.settle());
    }

    #[test]
    fn a_domain_that_moves_its_indices_is_ignored_until_it_starts_afresh() {
        let page = Rc::new(SharedPages::anonymous(4096).unwrap());
        page.store_u32(RESPONSE_PRODUCER, 77);
        let (mut link, unsent) = Link::resume(Ring::new(page.clone()), &RingState::default());
        assert_eq!((unsent, link.send(b"x")), (Vec::new(), Ok(0)));
        assert_eq!(link.next_message(), Input::Nothing);
        page.store_u32(2068, 1);
        assert_eq!(link.next_message(), Input::Reset);
        link.restart();
        assert_eq!((link.next_message(), link.send(b"x")), (Input::Nothing, Ok(1)));
    }
}
