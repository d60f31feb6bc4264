//! Rings of bytes: the console's, xenstore's, 9pfs's. Both halves, against a liar at the other side.
//!
//! Each direction has a producer index and a consumer index, which run freely through 32 bits. Only one of the two is written here;
//! the other is read once each time and believed only if the distance is possible. What this side wrote itself is never read back.

use crate::page::SharedPages;
use core::sync::atomic::Ordering;

pub use crate::ring::RingError;

/// Where a ring of bytes stands: its bytes and its two indices.
#[derive(Clone, Copy)]
pub struct Layout {
    /// The pages with the bytes.
    pub data: SharedPages,
    /// Offset of the first byte.
    pub start: usize,
    /// How many bytes, a power of two.
    pub size: u32,
    /// The pages with the indices.
    pub indices: SharedPages,
    /// Offset of the producer's index.
    pub producer: usize,
    /// Offset of the consumer's index.
    pub consumer: usize,
}

impl Layout {
    /// Returns the run of bytes from an index on that does not wrap, at most `len`.
    fn run(&self, index: u32, len: usize) -> (usize, usize) {
        let at = (index & (self.size - 1)) as usize;
        (self.start + at, len.min(self.size as usize - at))
    }

    fn distance(&self, produced: u32, consumed: u32) -> Result<u32, RingError> {
        let there = produced.wrapping_sub(consumed);
        if there > self.size {
            return Err(RingError::Index { consumed, produced, limit: self.size });
        }
        Ok(there)
    }
}

/// The half that puts bytes in.
pub struct Writer {
    layout: Layout,
    produced: u32,
    seen: u32,
    broken: Option<RingError>,
}

impl Writer {
    /// Goes on at the index that is there.
    pub fn new(layout: Layout) -> Self {
        assert!(layout.size.is_power_of_two(), "a ring's size is a power of two");
        let produced = layout.indices.word32(layout.producer).load(Ordering::Acquire);
        Self { layout, produced, seen: produced.wrapping_sub(layout.size), broken: None }
    }

    /// Returns how many bytes there is room for.
    pub fn room(&mut self) -> Result<usize, RingError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let consumed = self.layout.indices.word32(self.layout.consumer).load(Ordering::Acquire);
        let waiting = self.layout.distance(self.produced, consumed);
        // What was consumed stays consumed.
        let moved_back =
            self.produced.wrapping_sub(self.seen) < self.produced.wrapping_sub(consumed);
        match waiting {
            Ok(waiting) if !moved_back => {
                self.seen = consumed;
                Ok((self.layout.size - waiting) as usize)
            }
            _ => {
                let limit = self.produced.wrapping_sub(self.seen);
                let error = RingError::Index { consumed, produced: self.produced, limit };
                self.broken = Some(error);
                Err(error)
            }
        }
    }

    /// Returns whether the other side has taken everything.
    pub fn is_empty(&mut self) -> Result<bool, RingError> {
        Ok(self.room()? == self.layout.size as usize)
    }

    /// Puts in as many bytes as there is room for; returns how many. The other side should be told if it is not 0.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, RingError> {
        let len = bytes.len().min(self.room()?);
        let (now, _) = bytes.split_at(len);
        let (place, run) = self.layout.run(self.produced, len);
        let (first, second) = now.split_at(run);
        self.layout.data.write(place, first);
        self.layout.data.write(self.layout.start, second);
        // No more than the ring's size, which is a u32.
        self.produced = self.produced.wrapping_add(u32::try_from(len).unwrap_or(u32::MAX));
        self.layout.indices.word32(self.layout.producer).store(self.produced, Ordering::Release);
        Ok(len)
    }
}

/// The half that takes bytes out.
pub struct Reader {
    layout: Layout,
    consumed: u32,
    seen: u32,
    broken: Option<RingError>,
}

impl Reader {
    /// Goes on at the index that is there.
    pub fn new(layout: Layout) -> Self {
        assert!(layout.size.is_power_of_two(), "a ring's size is a power of two");
        let consumed = layout.indices.word32(layout.consumer).load(Ordering::Acquire);
        Self { layout, consumed, seen: consumed, broken: None }
    }

    /// Returns how many bytes wait.
    pub fn available(&mut self) -> Result<usize, RingError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let produced = self.layout.indices.word32(self.layout.producer).load(Ordering::Acquire);
        let there = self.layout.distance(produced, self.consumed);
        match there {
            // What was produced stays produced.
            Ok(there) if there >= self.seen.wrapping_sub(self.consumed) => {
                self.seen = produced;
                Ok(there as usize)
            }
            _ => {
                let limit = self.layout.size;
                let error = RingError::Index { consumed: self.consumed, produced, limit };
                self.broken = Some(error);
                Err(error)
            }
        }
    }

    /// Copies bytes out without taking them, from `skip` bytes on; returns how many.
    pub fn peek(&mut self, skip: usize, to: &mut [u8]) -> Result<usize, RingError> {
        let len = to.len().min(self.available()?.saturating_sub(skip));
        let from = self.consumed.wrapping_add(u32::try_from(skip).unwrap_or(u32::MAX));
        let (now, _) = to.split_at_mut(len);
        let (place, run) = self.layout.run(from, len);
        let (first, second) = now.split_at_mut(run);
        self.layout.data.read(place, first);
        self.layout.data.read(self.layout.start, second);
        Ok(len)
    }

    /// Takes bytes out; returns how many. The other side should be told if it is not 0.
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize, RingError> {
        let len = self.peek(0, to)?;
        self.skip(len);
        Ok(len)
    }

    /// Takes out `len` bytes that were seen by [`peek`](Self::peek).
    pub fn skip(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.consumed = self.consumed.wrapping_add(len.min(self.seen.wrapping_sub(self.consumed)));
        self.layout.indices.word32(self.layout.consumer).store(self.consumed, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const SIZE: u32 = 64;
    const PRODUCER: usize = 2048;
    const CONSUMER: usize = 2052;

    fn layout() -> Layout {
        let page = SharedPages::allocate(1);
        Layout {
            data: page,
            start: 256,
            size: SIZE,
            indices: page,
            producer: PRODUCER,
            consumer: CONSUMER,
        }
    }

    fn set(layout: Layout, offset: usize, value: u32) {
        layout.indices.word32(offset).store(value, Ordering::SeqCst);
    }

    #[test]
    fn bytes_come_through_across_the_end_and_past_the_largest_index() {
        let layout = layout();
        for offset in [PRODUCER, CONSUMER] {
            set(layout, offset, u32::MAX - 100);
        }
        let (mut writer, mut reader) = (Writer::new(layout), Reader::new(layout));
        let mut next = 0u8;
        let mut expected = 0u8;
        for round in 0..if cfg!(miri) { 60 } else { 200 } {
            let bytes: Vec<u8> =
                (0..round % 50).map(|index: u8| next.wrapping_add(index)).collect();
            let written = writer.write(&bytes).unwrap();
            next = next.wrapping_add(u8::try_from(written).unwrap());
            let mut back = vec![0; usize::from(round % 37)];
            let read = reader.read(&mut back).unwrap();
            for byte in &back[..read] {
                assert_eq!(*byte, expected);
                expected = expected.wrapping_add(1);
            }
        }
    }

    #[test]
    fn a_full_ring_takes_what_fits() {
        let mut writer = Writer::new(layout());
        assert_eq!(writer.write(&[1; 100]), Ok(64));
        assert_eq!(writer.write(&[1; 100]), Ok(0));
    }

    #[test]
    fn a_producer_too_far_ahead_is_an_error_for_good() {
        let layout = layout();
        let mut reader = Reader::new(layout);
        set(layout, PRODUCER, SIZE + 1);
        assert!(reader.available().is_err());
        set(layout, PRODUCER, 1);
        assert!(reader.read(&mut [0; 4]).is_err());
    }

    #[test]
    fn a_producer_that_takes_bytes_back_is_an_error() {
        let layout = layout();
        let mut reader = Reader::new(layout);
        set(layout, PRODUCER, 10);
        assert_eq!(reader.available(), Ok(10));
        set(layout, PRODUCER, 9);
        assert!(reader.available().is_err());
    }

    #[test]
    fn a_consumer_that_is_ahead_or_goes_back_is_an_error() {
        let layout = layout();
        let mut writer = Writer::new(layout);
        set(layout, CONSUMER, 1);
        assert!(writer.room().is_err(), "it consumed what was not there");
        set(layout, CONSUMER, 0);
        let mut writer = Writer::new(layout);
        writer.write(&[1; 20]).unwrap();
        set(layout, CONSUMER, 20);
        assert_eq!(writer.room(), Ok(64));
        set(layout, CONSUMER, 10);
        assert!(writer.room().is_err());
    }

    proptest! {
        #[test]
        fn no_index_makes_a_half_reach_past_the_ring(values in proptest::collection::vec(any::<u32>(), 1..40)) {
            let layout = layout();
            let (mut writer, mut reader) = (Writer::new(layout), Reader::new(layout));
            for value in values {
                let value = if value % 3 == 0 { value % 200 } else { value };
                set(layout, PRODUCER, value);
                set(layout, CONSUMER, value.wrapping_sub(value % 70));
                let _ = writer.write(&[1; 80]);
                let mut bytes = [0; 80];
                if let Ok(len) = reader.read(&mut bytes) {
                    prop_assert!(len <= 64);
                }
                let _ = reader.peek(1000, &mut bytes);
            }
        }
    }
}
