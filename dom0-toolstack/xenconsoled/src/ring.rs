//! A console's ring: one page shared with the guest (`public/io/console.h`).
//!
//! The guest may write anything at any time. Indices are read once; such as make no sense count
//! as "nothing there" and "no room".

use std::ops::Deref;

use xen_sys::SharedPages;

const INPUT: usize = 0;
const INPUT_SIZE: u32 = 1024;
const OUTPUT: usize = 1024;
const OUTPUT_SIZE: u32 = 2048;
const INPUT_CONSUMER: usize = 3072;
const INPUT_PRODUCER: usize = 3076;
const OUTPUT_CONSUMER: usize = 3080;
const OUTPUT_PRODUCER: usize = 3084;

/// Dom0's side of a console ring.
#[derive(Debug)]
pub(crate) struct Ring<P> {
    page: P,
}

impl<P: Deref<Target = SharedPages>> Ring<P> {
    /// Takes a ring as it is.
    pub(crate) fn new(page: P) -> Self {
        Self { page }
    }

    /// Takes what the guest has written.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        let consumer = self.page.load_u32(OUTPUT_CONSUMER);
        let producer = self.page.load_u32(OUTPUT_PRODUCER);
        let count = producer.wrapping_sub(consumer);
        if count == 0 || count > OUTPUT_SIZE {
            return Vec::new();
        }
        let start = consumer % OUTPUT_SIZE;
        let first = size(count.min(OUTPUT_SIZE - start));
        let mut bytes = vec![0; size(count)];
        let (head, tail) = bytes.split_at_mut(first);
        self.page.read(OUTPUT + size(start), head);
        self.page.read(OUTPUT, tail);
        self.page.store_u32(OUTPUT_CONSUMER, producer);
        bytes
    }

    /// Returns how many bytes of input the guest can take now.
    pub(crate) fn room(&self) -> usize {
        let consumer = self.page.load_u32(INPUT_CONSUMER);
        let used = self.page.load_u32(INPUT_PRODUCER).wrapping_sub(consumer);
        size(INPUT_SIZE.saturating_sub(used))
    }

    /// Gives the guest input, no more than [`Ring::room`] had room for; returns how much of it
    /// went in.
    pub(crate) fn put_input(&self, bytes: &[u8]) -> usize {
        let producer = self.page.load_u32(INPUT_PRODUCER);
        let fitting = bytes.len().min(self.room());
        let bytes = bytes.get(..fitting).unwrap_or_default();
        let start = producer % INPUT_SIZE;
        let before_end = size(INPUT_SIZE - start).min(fitting);
        let (head, tail) = bytes.split_at_checked(before_end).unwrap_or_default();
        self.page.write(INPUT + size(start), head);
        self.page.write(INPUT, tail);
        let count = u32::try_from(fitting).unwrap_or_default();
        self.page.store_u32(INPUT_PRODUCER, producer.wrapping_add(count));
        fitting
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).expect("at most 2048")
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    fn page() -> Rc<SharedPages> {
        Rc::new(SharedPages::anonymous(4096).unwrap())
    }

    #[test]
    fn indices_that_make_no_sense_are_nothing_and_no_room() {
        let page = page();
        let ring = Ring::new(page.clone());
        page.store_u32(OUTPUT_PRODUCER, 2049);
        assert_eq!(ring.take_output(), b"");
        assert_eq!(page.load_u32(OUTPUT_CONSUMER), 0);
        page.store_u32(INPUT_CONSUMER, 1);
        assert_eq!(ring.room(), 0);
        assert_eq!(ring.put_input(b"x"), 0);
        page.store_u32(INPUT_CONSUMER, 0);
        page.store_u32(INPUT_PRODUCER, 1025);
        assert_eq!(ring.put_input(b"x"), 0);
    }

    proptest! {
        #[test]
        fn output_arrives_in_order_from_any_start(start in any::<u32>(), text in prop::collection::vec(any::<u8>(), 0..=2048)) {
            let page = page();
            let ring = Ring::new(page.clone());
            page.store_u32(OUTPUT_CONSUMER, start);
            for (index, byte) in text.iter().enumerate() {
                let place = start.wrapping_add(u32::try_from(index).unwrap());
                page.write(OUTPUT + size(place % OUTPUT_SIZE), &[*byte]);
            }
            page.store_u32(OUTPUT_PRODUCER, start.wrapping_add(u32::try_from(text.len()).unwrap()));
            prop_assert_eq!(ring.take_output(), text);
            prop_assert_eq!(ring.take_output(), b"");
        }

        #[test]
        fn input_goes_in_as_far_as_there_is_room(start in any::<u32>(), text in prop::collection::vec(any::<u8>(), 0..1500)) {
            let page = page();
            let ring = Ring::new(page.clone());
            page.store_u32(INPUT_CONSUMER, start);
            page.store_u32(INPUT_PRODUCER, start);
            let taken = ring.put_input(&text);
            prop_assert_eq!(taken, text.len().min(1024));
            prop_assert_eq!(ring.room(), 1024 - taken);
            for (index, byte) in text.iter().take(taken).enumerate() {
                let place = start.wrapping_add(u32::try_from(index).unwrap());
                let mut found = [0];
                page.read(INPUT + size(place % INPUT_SIZE), &mut found);
                prop_assert_eq!(found[0], *byte);
            }
        }
    }
}
