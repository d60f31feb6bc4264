//! A console's ring, into whose page its guest writes anything, and what waits for its readers.

use std::rc::Rc;
use xen_sys::SharedPages;

#[path = "../../../dom0-toolstack/xenconsoled/src/output.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "the rest is the daemon's"))]
mod output;
#[path = "../../../dom0-toolstack/xenconsoled/src/ring.rs"]
mod ring;

/// What is kept for a reader, at most, and what a ring adds to that.
const LIMIT: usize = 5000;
const RING: usize = 2048;

/// Takes eight bytes for a step: what is done, where, and with what.
pub fn run(steps: &[u8]) {
    let page = Rc::new(SharedPages::anonymous(4096).expect("there is memory"));
    let ring = ring::Ring::new(Rc::clone(&page));
    let mut output = output::Output::new(Some(LIMIT), steps.len().is_multiple_of(2));
    for [what, place, value @ .., low, high] in steps.as_chunks::<8>().0 {
        let count = usize::from(u16::from_le_bytes([*low, *high]));
        let word = 3072 + usize::from(place % 4) * 4;
        let value = u32::from_le_bytes(*value);
        match what % 6 {
            0 => page.store_u32(word, value),
            1 => page.store_u32(word, page.load_u32(word).wrapping_add(value % 2050)),
            2 => page.fill(*place, usize::from(*place) * 4, 512),
            3 => {
                let room = ring.room();
                assert!(room <= 1024 && ring.put_input(&vec![*place; count]) == room.min(count));
            }
            4 => {
                if output.has_room() {
                    let taken = ring.take_output();
                    assert!(taken.len() <= RING);
                    output.push(&taken);
                }
                assert!(output.next().len() <= LIMIT + RING);
            }
            _ => output.taken(count.min(output.next().len())),
        }
    }
}
