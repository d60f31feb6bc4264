//! A conversation with the store: requests go out, answers and watch events come in, each to whom it belongs.
//!
//! It decides and does not wait: [`Connection::pump`] moves what can be moved and says whether the other side must be told.

use super::StoreError;
use super::message::{Assembler, Message, encode, text, texts};
use crate::byte_ring::{Reader, Writer};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::Waker;
use hypercall_abi::io::xs_wire::{XS_ERROR, XS_WATCH_EVENT};

/// Events of one watch that are kept for who does not look; more are one event with the watched path.
const KEPT_EVENTS: usize = 64;

/// One of the two ends of a store's ring: the guest's.
pub struct Connection {
    writer: Writer,
    reader: Reader,
    assembler: Assembler,
    /// Bytes that had no room in the ring.
    out: Vec<u8>,
    next_id: u32,
    /// Requests without an answer (`None`), and answers nobody took.
    answers: BTreeMap<u32, Option<Result<Vec<u8>, StoreError>>>,
    watches: BTreeMap<u32, Watched>,
    next_token: u32,
    broken: Option<StoreError>,
}

struct Watched {
    path: String,
    events: VecDeque<String>,
    waker: Option<Waker>,
}

/// What [`Connection::pump`] did.
#[derive(Default)]
#[must_use = "the other side waits to be told"]
pub struct Pumped {
    /// Bytes were put in or taken out: tell the other side.
    pub notify: bool,
    /// Tasks whose watches fired.
    pub wake: Vec<Waker>,
}

impl Connection {
    /// Starts a conversation on a pair of rings.
    pub fn new(writer: Writer, reader: Reader) -> Self {
        Self {
            writer,
            reader,
            assembler: Assembler::default(),
            out: Vec::new(),
            next_id: 1,
            answers: BTreeMap::new(),
            watches: BTreeMap::new(),
            next_token: 1,
            broken: None,
        }
    }

    /// Queues a request; its answer comes by [`answer`](Self::answer) with the number that is returned.
    pub fn ask(&mut self, kind: u32, transaction: u32, parts: &[&[u8]]) -> Result<u32, StoreError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let id = self.next_id;
        encode(&mut self.out, kind, id, transaction, parts)?;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.answers.insert(id, None);
        Ok(id)
    }

    /// Takes the answer to a request, if it has come.
    pub fn answer(&mut self, id: u32) -> Option<Result<Vec<u8>, StoreError>> {
        match self.answers.get(&id) {
            Some(Some(_)) => self.answers.remove(&id).flatten(),
            Some(None) => self.broken.map(Err),
            None => Some(Err(StoreError::BadMessage)),
        }
    }

    /// Moves bytes both ways. After an error from the ring or a message that makes no sense the conversation is over.
    pub fn pump(&mut self) -> Pumped {
        let mut pumped = Pumped::default();
        if self.broken.is_none()
            && let Err(error) = self.try_pump(&mut pumped)
        {
            self.broken = Some(error);
            pumped.wake.extend(self.watches.values_mut().filter_map(|watch| watch.waker.take()));
        }
        pumped
    }

    fn try_pump(&mut self, pumped: &mut Pumped) -> Result<(), StoreError> {
        if !self.out.is_empty() {
            let written = self.writer.write(&self.out)?;
            self.out.drain(..written);
            pumped.notify |= written > 0;
        }
        while let Some(message) = self.assembler.pull(&mut self.reader, &mut pumped.notify)? {
            if message.kind == XS_WATCH_EVENT {
                self.fired(&message.payload, pumped)?;
            } else {
                self.answered(message)?;
            }
        }
        Ok(())
    }

    fn answered(&mut self, message: Message) -> Result<(), StoreError> {
        // An answer to what was not asked, or a second one, is no answer.
        let Some(slot @ None) = self.answers.get_mut(&message.id) else {
            return Err(StoreError::BadMessage);
        };
        *slot = Some(if message.kind == XS_ERROR {
            Err(StoreError::refused(&message.payload))
        } else {
            Ok(message.payload)
        });
        Ok(())
    }

    fn fired(&mut self, payload: &[u8], pumped: &mut Pumped) -> Result<(), StoreError> {
        let words = texts(payload)?;
        let [path, token, ..] = words.as_slice() else { return Err(StoreError::BadMessage) };
        // An event may still come after the watch was taken away.
        let watch = token.parse().ok().and_then(|token: u32| self.watches.get_mut(&token));
        let Some(watch) = watch else { return Ok(()) };
        if watch.events.len() >= KEPT_EVENTS {
            watch.events.clear();
            watch.events.push_back(watch.path.clone());
        } else {
            watch.events.push_back(path.clone());
        }
        pumped.wake.extend(watch.waker.take());
        Ok(())
    }

    /// Makes room for the events of a new watch; returns its token.
    pub fn add_watch(&mut self, path: &str) -> u32 {
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        let watched = Watched { path: path.to_string(), events: VecDeque::new(), waker: None };
        self.watches.insert(token, watched);
        token
    }

    /// Forgets a watch.
    pub fn remove_watch(&mut self, token: u32) {
        self.watches.remove(&token);
    }

    /// Returns the watches' paths by their tokens.
    pub fn watches(&self) -> impl Iterator<Item = (u32, &str)> {
        self.watches.iter().map(|(token, watch)| (*token, watch.path.as_str()))
    }

    /// Takes the path of a watch's next event, or the error that ended the conversation.
    pub fn event(&mut self, token: u32) -> Option<Result<String, StoreError>> {
        let event = self.watches.get_mut(&token).and_then(|watch| watch.events.pop_front());
        event.map(Ok).or(self.broken.map(Err))
    }

    /// Wakes a task when a watch fires.
    pub fn set_waker(&mut self, token: u32, waker: &Waker) {
        if let Some(watch) = self.watches.get_mut(&token) {
            watch.waker = Some(waker.clone());
        }
    }

    /// Goes on with a new pair of rings, after the store or this domain was restarted.
    ///
    /// What was asked fails with [`StoreError::Lost`]; the watches are kept but have to be asked for again.
    pub fn restart(&mut self, writer: Writer, reader: Reader) {
        self.writer = writer;
        self.reader = reader;
        self.assembler = Assembler::default();
        self.out.clear();
        self.broken = None;
        for answer in self.answers.values_mut().filter(|answer| answer.is_none()) {
            *answer = Some(Err(StoreError::Lost));
        }
    }
}

impl StoreError {
    fn refused(payload: &[u8]) -> Self {
        match text(payload).as_deref() {
            Ok("ENOENT") => Self::NoEntry,
            Ok("EACCES" | "EPERM") => Self::Denied,
            Ok("EAGAIN") => Self::Again,
            Ok("EEXIST") => Self::Exists,
            Ok("ENOSPC" | "E2BIG" | "EQUOTA") => Self::Quota,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::SharedPages;
    use crate::xenstore::rings;
    use hypercall_abi::io::xs_wire::{XS_READ, XS_WATCH};
    use proptest::prelude::*;
    use std::sync::atomic::Ordering;

    /// The guest's connection and the store's ends of the same rings.
    fn pair() -> (Connection, Writer, Reader, SharedPages) {
        let page = SharedPages::allocate(1);
        let [requests, responses] = rings(page);
        let connection = Connection::new(Writer::new(requests), Reader::new(responses));
        (connection, Writer::new(responses), Reader::new(requests), page)
    }

    fn send(store: &mut Writer, kind: u32, id: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, kind, id, 0, &[payload]).unwrap();
        assert_eq!(store.write(&bytes), Ok(bytes.len()));
    }

    #[test]
    fn an_answer_comes_to_who_asked() {
        let (mut guest, mut store, mut requests, _) = pair();
        let one = guest.ask(XS_READ, 0, &[b"a\0"]).unwrap();
        let two = guest.ask(XS_READ, 0, &[b"b\0"]).unwrap();
        assert!(guest.pump().notify);
        let mut assembler = Assembler::default();
        let mut taken = false;
        let message = assembler.pull(&mut requests, &mut taken).unwrap().unwrap();
        assert_eq!((message.id, message.payload.as_slice()), (one, b"a\0".as_slice()));
        send(&mut store, XS_READ, two, b"second");
        send(&mut store, XS_READ, one, b"first");
        assert_eq!(guest.answer(one), None);
        assert!(guest.pump().notify);
        assert_eq!(guest.answer(one), Some(Ok(b"first".to_vec())));
        assert_eq!(guest.answer(two), Some(Ok(b"second".to_vec())));
        assert_eq!(guest.answer(two), Some(Err(StoreError::BadMessage)), "it was taken");
    }

    #[test]
    fn errors_come_as_what_they_mean() {
        let (mut guest, mut store, _, _) = pair();
        for (name, error) in [
            ("ENOENT", StoreError::NoEntry),
            ("EACCES", StoreError::Denied),
            ("E?", StoreError::Refused),
        ] {
            let id = guest.ask(XS_READ, 0, &[b"a\0"]).unwrap();
            let _ = guest.pump();
            send(&mut store, XS_ERROR, id, format!("{name}\0").as_bytes());
            let _ = guest.pump();
            assert_eq!(guest.answer(id), Some(Err(error)));
        }
    }

    #[test]
    fn a_long_answer_comes_in_pieces() {
        let (mut guest, mut store, _, _) = pair();
        let id = guest.ask(XS_READ, 0, &[b"a\0"]).unwrap();
        let _ = guest.pump();
        let mut bytes = Vec::new();
        encode(&mut bytes, XS_READ, id, 0, &[&[7; 4096]]).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let written = store.write(rest).unwrap();
            rest = &rest[written..];
            assert_eq!(guest.answer(id), None);
            let _ = guest.pump();
        }
        assert_eq!(guest.answer(id), Some(Ok(vec![7; 4096])));
    }

    #[test]
    fn a_request_longer_than_the_ring_goes_out_in_pieces() {
        let (mut guest, _, mut requests, _) = pair();
        guest.ask(XS_READ, 0, &[&[3; 3000]]).unwrap();
        assert_eq!(guest.ask(XS_READ, 0, &[&[3; 4097]]), Err(StoreError::TooLong));
        let mut all = 0;
        for _ in 0..10 {
            let _ = guest.pump();
            all += requests.read(&mut [0; 4096]).unwrap();
        }
        assert_eq!(all, 3016);
    }

    #[test]
    fn a_watch_event_comes_to_its_watch_and_others_are_dropped() {
        let (mut guest, mut store, _, _) = pair();
        let token = guest.add_watch("device");
        guest.ask(XS_WATCH, 0, &[b"device\0", b"1\0"]).unwrap();
        send(&mut store, XS_WATCH_EVENT, 0, b"device/vbd\x001\0");
        send(&mut store, XS_WATCH_EVENT, 0, b"other\x0077\0");
        let _ = guest.pump();
        assert_eq!(guest.event(token), Some(Ok("device/vbd".to_string())));
        assert_eq!(guest.event(token), None);
    }

    #[test]
    fn events_nobody_takes_do_not_pile_up() {
        let (mut guest, mut store, _, _) = pair();
        let token = guest.add_watch("d");
        for _ in 0..1000 {
            send(&mut store, XS_WATCH_EVENT, 0, b"d/x\x001\0");
            let _ = guest.pump();
        }
        let mut count = 0;
        while guest.event(token).is_some() {
            count += 1;
        }
        assert!(count <= KEPT_EVENTS);
    }

    #[test]
    fn a_message_too_long_or_an_answer_to_nothing_ends_the_conversation() {
        let (mut guest, mut store, _, _) = pair();
        let id = guest.ask(XS_READ, 0, &[b"a\0"]).unwrap();
        store.write(&[6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 16, 0, 0]).unwrap();
        let _ = guest.pump();
        assert_eq!(guest.answer(id), Some(Err(StoreError::BadMessage)));
        assert_eq!(guest.ask(XS_READ, 0, &[]), Err(StoreError::BadMessage));
        let (mut guest, mut store, _, _) = pair();
        send(&mut store, XS_READ, 99, b"unasked");
        let _ = guest.pump();
        assert_eq!(guest.ask(XS_READ, 0, &[]), Err(StoreError::BadMessage));
    }

    #[test]
    fn after_a_restart_what_was_asked_is_lost_and_new_requests_work() {
        let (mut guest, _, _, _) = pair();
        let id = guest.ask(XS_READ, 0, &[b"a\0"]).unwrap();
        let page = SharedPages::allocate(1);
        let [requests, responses] = rings(page);
        guest.restart(Writer::new(requests), Reader::new(responses));
        assert_eq!(guest.answer(id), Some(Err(StoreError::Lost)));
        let id = guest.ask(XS_READ, 0, &[b"a\0"]).unwrap();
        send(&mut Writer::new(responses), XS_READ, id, b"yes");
        let _ = guest.pump();
        assert_eq!(guest.answer(id), Some(Ok(b"yes".to_vec())));
    }

    proptest! {
        /// A store that writes anything and moves its indices anywhere gets errors, at worst.
        #[test]
        #[cfg_attr(miri, ignore = "making so many bytes takes minutes; tests/fuzz.rs has cheaper ones")]
        fn no_bytes_from_the_store_are_believed(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            moves in proptest::collection::vec((0usize..4, any::<u32>()), 0..6),
            small in any::<bool>(),
        ) {
            let (mut guest, mut store, mut requests, page) = pair();
            let token = guest.add_watch("x");
            let id = guest.ask(XS_READ, 0, &[b"a\0"]).unwrap();
            for part in bytes.chunks(300) {
                let mut part = part.to_vec();
                if small && part.len() > 16 {
                    // A believable header, so that the rest is looked at.
                    part[..16].copy_from_slice(&[15, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0]);
                }
                let _ = store.write(&part);
                let _ = guest.pump();
                let _ = requests.read(&mut [0; 64]);
                let _ = (guest.answer(id), guest.event(token));
            }
            for (index, value) in moves {
                page.word32(2048 + index * 4).store(value, Ordering::SeqCst);
                let _ = guest.pump();
            }
        }
    }
}
