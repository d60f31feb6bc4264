//! Rings of requests and responses (`public/io/ring.h`), both halves, against a liar at the other side.
//!
//! A ring is one or more shared pages. The other side may write any of it at any time, so
//!
//! - its producer index is read once, and believed only if it lies between what was there before and what can be there at all;
//!   otherwise the ring is broken, which it says from then on ([`RingError`]);
//! - a slot is copied out once and never looked at again;
//! - nothing this side wrote there is read back: what was asked is remembered elsewhere (see [`Slots`](crate::slots::Slots)).
//!
//! Nothing here waits or notifies: [`FrontRing::publish`] and [`BackRing::publish`] say whether the other side wants an event.

mod handshake;

use crate::page::SharedPages;
use core::fmt;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};
use hypercall_abi::io::ring::{ENTRIES_OFFSET, RingHeader, entries};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What the other side of a ring did that no honest one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// Its producer index says that there is more than can be, which is also what an index that went back looks like.
    Index {
        /// How far this side has consumed.
        consumed: u32,
        /// What the other side says it produced.
        produced: u32,
        /// The most it can have produced beyond `consumed`.
        limit: u32,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Index { consumed, produced, limit } = self;
        write!(
            formatter,
            "the other side's ring index is {produced}, which is not within {limit} of {consumed}"
        )
    }
}

impl core::error::Error for RingError {}

/// There is no free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What both halves have: the pages, and how to reach the slots.
struct Shared<Q, R> {
    pages: SharedPages,
    size: u32,
    broken: Option<RingError>,
    entries: PhantomData<fn() -> (Q, R)>,
}

/// A slot has room for a request and for a response.
const fn slot_size<Q, R>() -> usize {
    if size_of::<Q>() > size_of::<R>() { size_of::<Q>() } else { size_of::<R>() }
}

impl<Q, R> Shared<Q, R> {
    fn new(pages: SharedPages) -> Self {
        let size = u32::try_from(entries(pages.len(), slot_size::<Q, R>()));
        let size = size.expect("a ring has a few pages");
        Self { pages, size, broken: None, entries: PhantomData }
    }

    fn word(&self, offset: usize) -> &'static AtomicU32 {
        self.pages.word32(offset)
    }

    /// Returns the byte offset of the slot of an index, which may be any number.
    fn place(&self, index: u32) -> usize {
        let slot = (index & (self.size - 1)) as usize;
        ENTRIES_OFFSET + slot * slot_size::<Q, R>()
    }

    fn load<T: FromBytes + IntoBytes>(&self, index: u32) -> T {
        let mut copy = T::new_zeroed();
        self.pages.read(self.place(index), copy.as_mut_bytes());
        copy
    }

    fn store<T: IntoBytes + Immutable>(&self, index: u32, value: &T) {
        self.pages.write(self.place(index), value.as_bytes());
    }

    /// Reads a producer index of the other side; returns how much is there beyond `consumed`.
    fn produced(&mut self, offset: usize, consumed: u32, limit: u32) -> Result<u32, RingError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let produced = self.word(offset).load(Ordering::Acquire);
        let there = produced.wrapping_sub(consumed);
        if there > limit {
            let error = RingError::Index { consumed, produced, limit };
            self.broken = Some(error);
            return Err(error);
        }
        Ok(there)
    }

    /// Stores this side's producer index; returns whether the other side wants to be told.
    fn publish(&self, producer: usize, event: usize, before: u32, now: u32) -> bool {
        handshake::publish(self.word(producer), self.word(event), before, now)
    }

    /// Wishes for an event as soon as there is more than `consumed`.
    fn wish(&self, producer: usize, event: usize, consumed: u32) {
        let _ = handshake::rearm(self.word(producer), self.word(event), consumed);
    }
}

const REQUESTS: usize = offset_of!(RingHeader, req_prod);
const REQUEST_EVENT: usize = offset_of!(RingHeader, req_event);
const RESPONSES: usize = offset_of!(RingHeader, rsp_prod);
const RESPONSE_EVENT: usize = offset_of!(RingHeader, rsp_event);

/// The half that asks: it puts requests `Q` in and takes responses `R` out.
pub struct FrontRing<Q, R> {
    shared: Shared<Q, R>,
    /// Requests written, and how many of them the other side may see.
    written: u32,
    published: u32,
    /// Responses taken.
    taken: u32,
}

impl<Q: IntoBytes + Immutable, R: FromBytes + IntoBytes> FrontRing<Q, R> {
    /// Makes an empty ring of zeroed or old pages.
    pub fn new(pages: SharedPages) -> Self {
        let shared = Shared::new(pages);
        shared.word(REQUESTS).store(0, Ordering::Relaxed);
        shared.word(RESPONSES).store(0, Ordering::Relaxed);
        shared.word(REQUEST_EVENT).store(1, Ordering::Relaxed);
        shared.word(RESPONSE_EVENT).store(1, Ordering::Release);
        Self { shared, written: 0, published: 0, taken: 0 }
    }

    /// Returns the ring's pages, to be granted and given back.
    pub fn pages(&self) -> SharedPages {
        self.shared.pages
    }

    /// Returns how many slots there are.
    pub fn size(&self) -> u32 {
        self.shared.size
    }

    /// Returns how many requests can be put in before a response must be taken.
    pub fn free(&self) -> u32 {
        self.shared.size - self.written.wrapping_sub(self.taken)
    }

    /// Returns how many requests have no response yet.
    pub fn outstanding(&self) -> u32 {
        self.written.wrapping_sub(self.taken)
    }

    /// Puts a request in, which the other side sees after [`publish`](Self::publish).
    pub fn push(&mut self, request: &Q) -> Result<(), Full> {
        if self.free() == 0 {
            return Err(Full);
        }
        self.shared.store(self.written, request);
        self.written = self.written.wrapping_add(1);
        Ok(())
    }

    /// Lets the other side see what was put in; returns whether it must be told.
    #[must_use = "the other side sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        let before = self.published;
        self.published = self.written;
        self.shared.publish(REQUESTS, REQUEST_EVENT, before, self.published)
    }

    /// Takes the next response, if there is one.
    pub fn take(&mut self) -> Result<Option<R>, RingError> {
        if self.available()? == 0 {
            return Ok(None);
        }
        let response = self.shared.load(self.taken);
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(response))
    }

    /// Returns how many responses wait.
    pub fn available(&mut self) -> Result<u32, RingError> {
        let limit = self.published.wrapping_sub(self.taken);
        self.shared.produced(RESPONSES, self.taken, limit)
    }

    /// Wishes for an event at the next response; returns whether one is there already.
    pub fn rearm(&mut self) -> Result<bool, RingError> {
        self.shared.wish(RESPONSES, RESPONSE_EVENT, self.taken);
        Ok(self.available()? != 0)
    }
}

/// The half that answers: it takes requests `Q` out and puts responses `R` in.
pub struct BackRing<Q, R> {
    shared: Shared<Q, R>,
    /// Requests taken.
    taken: u32,
    /// Responses written, and how many of them the other side may see.
    written: u32,
    published: u32,
}

impl<Q: FromBytes + IntoBytes, R: IntoBytes + Immutable> BackRing<Q, R> {
    /// Takes up a ring that its front end has just made.
    pub fn new(pages: SharedPages) -> Self {
        Self { shared: Shared::new(pages), taken: 0, written: 0, published: 0 }
    }

    /// Takes up a ring in use, at the responses its last back end published; requests it had taken and not answered come again.
    pub fn resume(pages: SharedPages) -> Self {
        let shared = Shared::new(pages);
        let at = shared.word(RESPONSES).load(Ordering::Acquire);
        Self { shared, taken: at, written: at, published: at }
    }

    /// Returns the ring's pages.
    pub fn pages(&self) -> SharedPages {
        self.shared.pages
    }

    /// Returns how many slots there are.
    pub fn size(&self) -> u32 {
        self.shared.size
    }

    /// Returns how many requests were taken and have no response yet.
    pub fn outstanding(&self) -> u32 {
        self.taken.wrapping_sub(self.written)
    }

    /// Returns how many requests wait.
    pub fn available(&mut self) -> Result<u32, RingError> {
        // A request stands in a slot that no response still needs.
        let limit = self.shared.size - self.outstanding();
        self.shared.produced(REQUESTS, self.taken, limit)
    }

    /// Takes the next request, if there is one: a copy, which the other side cannot change any more.
    pub fn take(&mut self) -> Result<Option<Q>, RingError> {
        if self.available()? == 0 {
            return Ok(None);
        }
        let request = self.shared.load(self.taken);
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(request))
    }

    /// Puts a response in, which the other side sees after [`publish`](Self::publish); there must be a request without one.
    pub fn push(&mut self, response: &R) -> Result<(), Full> {
        if self.outstanding() == 0 {
            return Err(Full);
        }
        self.shared.store(self.written, response);
        self.written = self.written.wrapping_add(1);
        Ok(())
    }

    /// Lets the other side see the responses; returns whether it must be told.
    #[must_use = "the other side sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        let before = self.published;
        self.published = self.written;
        self.shared.publish(RESPONSES, RESPONSE_EVENT, before, self.published)
    }

    /// Wishes for an event at the next request; returns whether one is there already.
    pub fn rearm(&mut self) -> Result<bool, RingError> {
        self.shared.wish(REQUESTS, REQUEST_EVENT, self.taken);
        Ok(self.available()? != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Front = FrontRing<[u8; 12], [u8; 4]>;
    type Back = BackRing<[u8; 12], [u8; 4]>;

    fn pair() -> (Front, Back, SharedPages) {
        let pages = SharedPages::allocate(1);
        let front = Front::new(pages);
        (front, Back::new(pages), pages)
    }

    fn produced(pages: SharedPages, offset: usize, value: u32) {
        pages.word32(offset).store(value, Ordering::SeqCst);
    }

    #[test]
    fn a_ring_of_several_pages_has_more_slots() {
        assert_eq!(Front::new(SharedPages::allocate(1)).size(), 256);
        assert_eq!(Front::new(SharedPages::allocate(4)).size(), 1024);
        assert_eq!(FrontRing::<[u8; 112], [u8; 16]>::new(SharedPages::allocate(1)).size(), 32);
    }

    #[test]
    fn requests_and_responses_come_through_in_order_round_and_round() {
        let (mut front, mut back, _) = pair();
        for round in 0..if cfg!(miri) { 300 } else { 1000u32 } {
            let mut request = [7; 12];
            request[..4].copy_from_slice(&round.to_ne_bytes());
            front.push(&request).unwrap();
            assert!(front.publish());
            assert_eq!(back.take(), Ok(Some(request)));
            assert_eq!(back.take(), Ok(None));
            back.push(&round.to_ne_bytes()).unwrap();
            assert!(back.publish());
            assert_eq!(front.take(), Ok(Some(round.to_ne_bytes())));
            assert_eq!((front.rearm(), back.rearm()), (Ok(false), Ok(false)));
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_until_a_response_is_taken() {
        let (mut front, mut back, _) = pair();
        for _ in 0..256 {
            front.push(&[1; 12]).unwrap();
        }
        assert_eq!(front.push(&[1; 12]), Err(Full));
        assert!(front.publish());
        back.take().unwrap().unwrap();
        back.push(&[2; 4]).unwrap();
        assert_eq!(front.push(&[1; 12]), Err(Full));
        assert!(back.publish());
        front.take().unwrap().unwrap();
        assert_eq!(front.push(&[1; 12]), Ok(()));
    }

    #[test]
    fn nobody_is_told_who_did_not_ask() {
        let (mut front, mut back, _) = pair();
        front.push(&[1; 12]).unwrap();
        assert!(front.publish());
        front.push(&[1; 12]).unwrap();
        assert!(!front.publish(), "the back end has not rearmed");
        assert_eq!(back.rearm(), Ok(true));
        while back.take().unwrap().is_some() {}
        assert_eq!(back.rearm(), Ok(false));
        front.push(&[1; 12]).unwrap();
        assert!(front.publish());
    }

    #[test]
    fn a_response_nobody_asked_for_breaks_the_ring() {
        let (mut front, _, pages) = pair();
        front.push(&[1; 12]).unwrap();
        let _ = front.publish();
        produced(pages, RESPONSES, 2);
        let error = RingError::Index { consumed: 0, produced: 2, limit: 1 };
        assert_eq!(front.take(), Err(error));
        // It stays broken even when the index looks right again.
        produced(pages, RESPONSES, 1);
        assert_eq!(front.take(), Err(error));
    }

    #[test]
    fn a_response_to_what_was_not_published_breaks_the_ring() {
        let (mut front, _, pages) = pair();
        front.push(&[1; 12]).unwrap();
        produced(pages, RESPONSES, 1);
        assert!(front.take().is_err());
    }

    #[test]
    fn an_index_that_goes_back_breaks_the_ring() {
        let (mut front, mut back, pages) = pair();
        front.push(&[1; 12]).unwrap();
        let _ = front.publish();
        back.take().unwrap().unwrap();
        back.push(&[1; 4]).unwrap();
        let _ = back.publish();
        front.take().unwrap().unwrap();
        produced(pages, RESPONSES, 0);
        assert!(front.take().is_err());
        produced(pages, REQUESTS, 0);
        assert!(back.take().is_err());
    }

    #[test]
    fn more_requests_than_slots_break_the_ring() {
        let (_, mut back, pages) = pair();
        produced(pages, REQUESTS, 256);
        assert_eq!(back.available(), Ok(256));
        produced(pages, REQUESTS, 257);
        assert!(back.available().is_err());
    }

    #[test]
    fn a_request_in_the_slot_of_a_missing_response_breaks_the_ring() {
        let (_, mut back, pages) = pair();
        produced(pages, REQUESTS, 10);
        for _ in 0..10 {
            back.take().unwrap().unwrap();
        }
        produced(pages, REQUESTS, 257);
        assert!(back.take().is_err());
    }

    #[test]
    fn a_request_that_changes_after_it_was_taken_is_the_same_copy() {
        let (mut front, mut back, pages) = pair();
        front.push(&[1; 12]).unwrap();
        let _ = front.publish();
        let request = back.take().unwrap().unwrap();
        pages.write(ENTRIES_OFFSET, &[9; 12]);
        assert_eq!(request, [1; 12]);
    }

    #[test]
    fn a_response_without_a_request_is_not_written() {
        let (_, mut back, _) = pair();
        assert_eq!(back.push(&[1; 4]), Err(Full));
    }

    #[test]
    fn a_back_end_that_takes_over_starts_where_the_last_one_published() {
        let (mut front, mut back, pages) = pair();
        for number in 0..3 {
            front.push(&[number; 12]).unwrap();
        }
        let _ = front.publish();
        back.take().unwrap().unwrap();
        back.push(&[0; 4]).unwrap();
        let _ = back.publish();
        back.take().unwrap().unwrap();
        let mut next = Back::resume(pages);
        assert_eq!(next.take(), Ok(Some([1; 12])));
        assert_eq!(next.take(), Ok(Some([2; 12])));
    }

    proptest! {
        /// Whatever the other side writes, a half takes no more than it asked for, and never panics.
        #[test]
        fn no_index_makes_a_half_take_more_than_there_can_be(
            indices in proptest::collection::vec(any::<u32>(), 1..20),
            small in proptest::collection::vec(0u32..600, 1..20),
            asked in 0u32..256,
        ) {
            let (mut front, mut back, pages) = pair();
            for _ in 0..asked {
                front.push(&[1; 12]).unwrap();
            }
            let _ = front.publish();
            let (mut responses, mut requests) = (0, 0);
            for index in indices.iter().chain(&small) {
                produced(pages, RESPONSES, *index);
                produced(pages, REQUESTS, *index);
                produced(pages, REQUEST_EVENT, index.wrapping_mul(7));
                while let Ok(Some(_)) = front.take() {
                    responses += 1;
                }
                while let Ok(Some(_)) = back.take() {
                    requests += 1;
                }
                let _ = (front.rearm(), back.rearm(), front.publish(), back.publish());
            }
            prop_assert!(responses <= asked);
            prop_assert!(requests <= 256);
        }
    }
}
