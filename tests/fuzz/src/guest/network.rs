//! Both halves of both rings of a network interface, while somebody else writes anything anywhere in their pages.

use pv_guest_lib::net::back::{FromFront, GrantedMemory, Refused, ToFront};
use pv_guest_lib::net::receive::Receive;
use pv_guest_lib::net::transmit::Transmit;
use pv_guest_lib::net::{Buffer, MAX_FRAME, MIN_FRAME, Offload};
use pv_guest_lib::page::SharedPages;
use std::sync::atomic::Ordering;

/// Buffers of either ring, and the first entry of the second's.
const BUFFERS: u32 = 16;

/// Granted pages, the first with entry 0.
struct Memory(SharedPages);

impl GrantedMemory for Memory {
    fn read(&mut self, reference: u32, offset: u16, to: &mut [u8]) -> Result<(), Refused> {
        let page = self.page(reference)?;
        page.read(usize::from(offset), to);
        Ok(())
    }

    fn write(&mut self, reference: u32, from: &[u8]) -> Result<(), Refused> {
        self.page(reference)?.write(0, from);
        Ok(())
    }
}

impl Memory {
    fn page(&self, reference: u32) -> Result<SharedPages, Refused> {
        let page = usize::try_from(reference).ok().and_then(|number| self.0.iter().nth(number));
        page.map(|page| page.pages()).ok_or(Refused)
    }

    fn buffers(&self, first: u32) -> Vec<Buffer> {
        let pages = self.0.iter().skip(first as usize).take(BUFFERS as usize);
        (first..).zip(pages).map(|(reference, page)| Buffer { reference, page }).collect()
    }
}

/// Takes eight bytes for a step: what is done, where, and with what.
pub fn run(steps: &[u8]) {
    let pages = SharedPages::allocate(2);
    let buffers = SharedPages::allocate(2 * BUFFERS as usize);
    let mut memory = Memory(buffers);
    let [tx, rx] = [0, 1].map(|number| pages.page(number).pages());
    let mut transmit = Transmit::new(tx, memory.buffers(0));
    let mut receive = Receive::new(rx, memory.buffers(BUFFERS));
    let (mut from, mut to) = (FromFront::new(tx), ToFront::new(rx));
    let mut frame = Vec::new();
    for [what, place, value @ .., low, high] in steps.as_chunks::<8>().0 {
        let size = usize::from(u16::from_ne_bytes([*low, *high]));
        let value = u32::from_ne_bytes(*value);
        // The indices, and the first slots behind them.
        let word = usize::from(*place) * 4 % 192;
        match what % 10 {
            0 => tx.word32(word).store(value, Ordering::SeqCst),
            1 => rx.word32(word).store(value, Ordering::SeqCst),
            // Small numbers are more often believable.
            2 => tx.word32(word).store(value % 32, Ordering::SeqCst),
            3 => rx.word32(word).store(value % 32, Ordering::SeqCst),
            4 => {
                let _ =
                    (transmit.send(&vec![*place; size], Offload::default()), transmit.publish());
            }
            5 => drop((transmit.settle(), transmit.rearm())),
            6 => drop((receive.publish(), receive.rearm())),
            7 => {
                if let Ok(Some(_)) = receive.take(&mut frame) {
                    assert!((MIN_FRAME..=MAX_FRAME).contains(&frame.len()));
                }
            }
            8 => {
                if let Ok(Some(_)) = from.take(&mut memory, &mut frame) {
                    assert!((MIN_FRAME..=MAX_FRAME).contains(&frame.len()));
                }
                let _ = (from.publish(), from.rearm());
            }
            _ => {
                let _ = to.deliver(&mut memory, &vec![*place; size], Offload::default());
                let _ = (to.publish(), to.rearm());
            }
        }
        assert!(transmit.outstanding() <= 256);
    }
    pages.recycle();
    buffers.recycle();
}
