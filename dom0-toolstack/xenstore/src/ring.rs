//! A domain's ring: two streams of bytes in one shared page (`docs/misc/xenstore-ring.txt`).
//!
//! The other side may write anything at any time. Indices are read once and checked; what they
//! cover is copied.

use std::ops::Deref;
use std::sync::atomic::{Ordering, fence};

use xen_sys::SharedPages;

/// Bytes of each stream.
pub const RING_SIZE: u32 = 1024;
const REQUESTS: usize = 0;
const RESPONSES: usize = 1024;
const REQUEST_CONSUMER: usize = 2048;
const REQUEST_PRODUCER: usize = 2052;
const RESPONSE_CONSUMER: usize = 2056;
const RESPONSE_PRODUCER: usize = 2060;
const FEATURES: usize = 2064;
const CONNECTION: usize = 2068;
const ERROR: usize = 2072;

/// Reconnecting, telling errors, and watches with a depth.
const OFFERED_FEATURES: u32 = 0b111;
const RECONNECT: u32 = 1;

/// Why a domain's connection was given up, as its ring says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RingError {
    /// The event channel does not work.
    Communication,
    /// The indices cover more than the ring holds.
    BadIndices,
    /// A message is too long.
    Protocol,
}

impl RingError {
    const fn number(self) -> u32 {
        match self {
            Self::Communication => 1,
            Self::BadIndices => 2,
            Self::Protocol => 3,
        }
    }
}

/// The server's side of a ring.
#[derive(Debug)]
pub struct Ring<P> {
    page: P,
}

impl<P: Deref<Target = SharedPages>> Ring<P> {
    /// Takes a ring as it is and says what the server offers.
    pub fn new(page: P) -> Self {
        page.store_u32(FEATURES, OFFERED_FEATURES);
        Self { page }
    }

    /// Empties both streams.
    pub fn reset(&self) {
        for index in [REQUEST_CONSUMER, REQUEST_PRODUCER, RESPONSE_CONSUMER, RESPONSE_PRODUCER] {
            self.page.store_u32(index, 0);
        }
        self.page.store_u32(ERROR, 0);
    }

    /// Returns whether the domain asked to start afresh; the answer is [`Ring::reconnected`].
    pub fn wants_reconnect(&self) -> bool {
        self.page.load_u32(CONNECTION) == RECONNECT
    }

    /// Says that both sides start afresh.
    pub fn reconnected(&self) {
        self.page.store_u32(CONNECTION, 0);
    }

    /// Says why the server gave the connection up.
    pub fn fail(&self, error: RingError) {
        self.page.store_u32(ERROR, error.number());
    }

    /// Returns the domain's index of requests as it was last told which were taken.
    pub fn requests(&self) -> u32 {
        self.page.load_u32(REQUEST_CONSUMER)
    }

    /// Returns the index of responses up to which they were put in.
    pub fn responses(&self) -> u32 {
        self.page.load_u32(RESPONSE_PRODUCER)
    }

    /// Returns whether the server gave the connection up.
    pub fn has_failed(&self) -> bool {
        self.page.load_u32(ERROR) != 0
    }

    /// Copies up to `most` bytes of requests from the index `from` on, and takes none.
    ///
    /// # Errors
    ///
    /// [`RingError::BadIndices`].
    pub fn peek(&self, from: u32, most: usize) -> Result<Vec<u8>, RingError> {
        let count = covered(from, self.page.load_u32(REQUEST_PRODUCER))?;
        let (first, second) = split(from, count.min(u32::try_from(most).unwrap_or(u32::MAX)));
        let mut bytes = vec![0; first + second];
        let (head, tail) = bytes.split_at_mut(first);
        self.page.read(REQUESTS + offset(from), head);
        self.page.read(REQUESTS, tail);
        Ok(bytes)
    }

    /// Takes the requests up to an index: the domain may overwrite them from now on.
    pub fn take(&self, until: u32) {
        self.page.store_u32(REQUEST_CONSUMER, until);
        // The domain puts requests in and then looks at what was taken; whoever looks for requests
        // after this does it the other way round, so that one of the two sees the other.
        fence(Ordering::SeqCst);
    }

    /// Returns whether there are requests from the index `from` on.
    pub fn has_requests(&self, from: u32) -> bool {
        self.page.load_u32(REQUEST_PRODUCER) != from
    }

    /// Puts as many of `bytes` as there is room for among the responses and returns how many.
    ///
    /// # Errors
    ///
    /// [`RingError::BadIndices`].
    pub fn write(&self, bytes: &[u8]) -> Result<usize, RingError> {
        let producer = self.page.load_u32(RESPONSE_PRODUCER);
        let room = RING_SIZE - covered(self.page.load_u32(RESPONSE_CONSUMER), producer)?;
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(room);
        let (first, second) = split(producer, count);
        let (head, tail) = bytes.split_at_checked(first).unwrap_or_default();
        self.page.write(RESPONSES + offset(producer), head);
        self.page.write(RESPONSES, tail.get(..second).unwrap_or_default());
        self.page.store_u32(RESPONSE_PRODUCER, producer.wrapping_add(count));
        // The domain sends an event only where it finds the stream full: whoever waits for room looks
        // once more after this.
        fence(Ordering::SeqCst);
        Ok(first + second)
    }
}

fn covered(consumer: u32, producer: u32) -> Result<u32, RingError> {
    let count = producer.wrapping_sub(consumer);
    if count > RING_SIZE { Err(RingError::BadIndices) } else { Ok(count) }
}

/// Returns how many of `count` bytes lie before the end of the ring and how many at its start.
fn split(index: u32, count: u32) -> (usize, usize) {
    let before_end = (RING_SIZE - index % RING_SIZE).min(count);
    (size(before_end), size(count - before_end))
}

fn offset(index: u32) -> usize {
    size(index % RING_SIZE)
}

fn size(count: u32) -> usize {
    usize::try_from(count).expect("at most 1024")
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    fn page() -> Rc<SharedPages> {
        Rc::new(SharedPages::anonymous(4096).unwrap())
    }

    /// The domain's side: puts bytes among the requests, as a well-behaved kernel does.
    fn put(page: &SharedPages, bytes: &[u8]) {
        for byte in bytes {
            let producer = page.load_u32(REQUEST_PRODUCER);
            page.write(offset(producer), &[*byte]);
            page.store_u32(REQUEST_PRODUCER, producer.wrapping_add(1));
        }
    }

    fn take(page: &SharedPages) -> Vec<u8> {
        let mut taken = Vec::new();
        while page.load_u32(RESPONSE_CONSUMER) != page.load_u32(RESPONSE_PRODUCER) {
            let consumer = page.load_u32(RESPONSE_CONSUMER);
            let mut byte = [0];
            page.read(RESPONSES + offset(consumer), &mut byte);
            taken.extend(byte);
            page.store_u32(RESPONSE_CONSUMER, consumer.wrapping_add(1));
        }
        taken
    }

    #[test]
    fn indices_that_cover_more_than_the_ring_are_refused() {
        let page = page();
        let ring = Ring::new(page.clone());
        for (consumer, producer) in [(0, 1025), (1, 0), (0, u32::MAX), (5000, 0)] {
            page.store_u32(REQUEST_CONSUMER, consumer);
            page.store_u32(REQUEST_PRODUCER, producer);
            assert_eq!(
                ring.peek(consumer, 16),
                Err(RingError::BadIndices),
                "{consumer} {producer}"
            );
            page.store_u32(RESPONSE_CONSUMER, consumer);
            page.store_u32(RESPONSE_PRODUCER, producer);
            assert_eq!(ring.write(b"x"), Err(RingError::BadIndices), "{consumer} {producer}");
        }
        ring.fail(RingError::BadIndices);
        assert_eq!(page.load_u32(ERROR), 2);
        ring.reset();
        assert_eq!(page.load_u32(ERROR), 0);
        assert_eq!(ring.peek(0, 16), Ok(Vec::new()));
    }

    /// Tries every place in the ring, every length, and every distance of the indices near its size.
    #[test]
    fn every_index_and_every_length_stay_within_the_ring() {
        let ring = RING_SIZE;
        for start in 0..ring {
            for count in 0..=ring {
                let (first, second) = split(start, count);
                assert_eq!(first + second, count as usize);
                assert!(offset(start) + first <= size(ring) && second <= size(ring));
            }
        }
        for consumer in [0, 1, ring, u32::MAX - ring, u32::MAX] {
            for distance in (0..3 * ring).chain([u32::MAX - 1, u32::MAX]) {
                let covered = covered(consumer, consumer.wrapping_add(distance));
                assert_eq!(covered.ok(), (distance <= ring).then_some(distance));
            }
        }
    }

    #[test]
    fn a_full_ring_takes_no_more() {
        let page = page();
        let ring = Ring::new(page.clone());
        assert_eq!(ring.write(&[7; 1000]), Ok(1000));
        assert_eq!(ring.write(&[8; 1000]), Ok(24));
        assert_eq!(ring.write(&[9]), Ok(0));
        assert_eq!(take(&page).len(), 1024);
        assert_eq!(ring.write(&[9]), Ok(1));
    }

    #[test]
    fn a_domain_can_ask_to_start_afresh() {
        let page = page();
        let ring = Ring::new(page.clone());
        assert_eq!(page.load_u32(FEATURES) & 3, 3);
        assert!(!ring.wants_reconnect());
        page.store_u32(CONNECTION, 1);
        assert!(ring.wants_reconnect());
        ring.reconnected();
        assert!(!ring.wants_reconnect());
    }

    proptest! {
        #[test]
        fn bytes_arrive_in_order_from_any_start(
            start in any::<u32>(),
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1024), 1..10),
        ) {
            let page = page();
            let ring = Ring::new(page.clone());
            for index in [REQUEST_CONSUMER, REQUEST_PRODUCER, RESPONSE_CONSUMER, RESPONSE_PRODUCER] {
                page.store_u32(index, start);
            }
            for piece in pieces {
                put(&page, &piece);
                let half = ring.peek(ring.requests(), piece.len() / 2).unwrap();
                prop_assert_eq!(&half, &piece[..piece.len() / 2]);
                prop_assert_eq!(&ring.peek(ring.requests(), 4096).unwrap(), &piece);
                ring.take(ring.requests().wrapping_add(u32::try_from(piece.len()).unwrap()));
                prop_assert_eq!(ring.write(&piece), Ok(piece.len()));
                prop_assert_eq!(&take(&page), &piece);
            }
        }

        #[test]
        fn no_indices_make_it_panic(words in any::<[u32; 4]>(), bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let page = page();
            let ring = Ring::new(page.clone());
            for (index, word) in [REQUEST_CONSUMER, REQUEST_PRODUCER, RESPONSE_CONSUMER, RESPONSE_PRODUCER].into_iter().zip(words) {
                page.store_u32(index, word);
            }
            if let Ok(read) = ring.peek(ring.requests(), 4096) {
                prop_assert!(read.len() <= 1024);
            }
            if let Ok(count) = ring.write(&bytes) {
                prop_assert!(count <= 1024);
            }
        }
    }
}
