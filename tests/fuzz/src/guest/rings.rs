//! Both halves of a request ring and of a byte ring, while somebody else writes anything anywhere in their pages.

use pv_guest_lib::byte_ring::{Layout, Reader, Writer};
use pv_guest_lib::page::SharedPages;
use pv_guest_lib::ring::{BackRing, FrontRing};
use std::sync::atomic::Ordering;

/// Takes eight bytes for a step: what is done, where, and with what.
pub fn run(steps: &[u8]) {
    let pages = SharedPages::allocate(2);
    let ring = pages.page(0).pages();
    let mut front = FrontRing::<[u8; 12], [u8; 8]>::new(ring);
    let mut back = BackRing::<[u8; 12], [u8; 8]>::new(ring);
    let indices = pages.page(1).pages();
    let layout =
        Layout { data: indices, start: 1024, size: 1024, indices, producer: 0, consumer: 4 };
    let (mut writer, mut reader) = (Writer::new(layout), Reader::new(layout));
    let (mut asked, mut answered) = (0u32, 0u32);
    for [what, place, value @ .., _, _] in steps.as_chunks::<8>().0 {
        let len = usize::from(value[0]) * 8;
        let word = usize::from(*place) * 4;
        let value = u32::from_ne_bytes(*value);
        match what % 8 {
            0 => pages.word32(word % 64).store(value, Ordering::SeqCst),
            1 => pages.word32(4096 + word).store(value, Ordering::SeqCst),
            2 => asked += u32::from(front.push(&[*place; 12]).is_ok()),
            3 => drop(front.publish()),
            4 => answered += u32::from(matches!(front.take(), Ok(Some(_)))),
            5 => {
                let _ = (back.take(), back.push(&[1; 8]), back.publish(), back.rearm());
            }
            6 => drop(writer.write(&vec![*place; len])),
            _ => {
                let mut bytes = vec![0; len];
                let _ = reader.peek(usize::from(*place), &mut bytes);
                assert!(reader.read(&mut bytes).unwrap_or(0) <= 1024);
            }
        }
        assert!(answered <= asked);
        assert!(back.outstanding() <= back.size());
    }
    pages.recycle();
}
