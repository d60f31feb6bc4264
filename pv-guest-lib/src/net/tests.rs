//! Both halves against each other, and each against a liar.

use super::back::{Delivery, FromFront, GrantedMemory, Refused, ToFront};
use super::receive::Receive;
use super::transmit::{SendError, Transmit};
use super::*;
use crate::page::{PAGE_SIZE, SharedPages};
use crate::ring::{BackRing, FrontRing};
use hypercall_abi::io::netif::{
    NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, NETTXF_EXTRA_INFO, NETTXF_MORE_DATA, NetifRxRequest,
    NetifRxResponse, NetifTxRequest, NetifTxResponse, XEN_NETIF_EXTRA_FLAG_MORE,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Granted pages by entry, as the hypervisor knows them.
#[derive(Default)]
struct Memory(BTreeMap<u32, SharedPage>);

impl Memory {
    fn buffers(&mut self, first: u32, count: u32) -> Vec<Buffer> {
        let buffers = (first..first + count)
            .map(|reference| Buffer { reference, page: SharedPage::allocate() });
        buffers.inspect(|buffer| self.0.extend([(buffer.reference, buffer.page)])).collect()
    }
}

impl GrantedMemory for Memory {
    fn read(&mut self, reference: u32, offset: u16, to: &mut [u8]) -> Result<(), Refused> {
        let page = self.0.get(&reference).ok_or(Refused)?;
        page.pages().read(usize::from(offset), to);
        Ok(())
    }

    fn write(&mut self, reference: u32, from: &[u8]) -> Result<(), Refused> {
        self.0.get(&reference).ok_or(Refused)?.pages().write(0, from);
        Ok(())
    }
}

/// Frames of a property; miri goes through each of their bytes many times.
const FRAMES: usize = if cfg!(miri) { 3 } else { 20 };
const SEGMENTS: Segments = Segments { size: 1448, kind: SegmentKind::TcpV4 };

fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect()
}

fn offload(number: u8) -> Offload {
    let checksum = [Checksum::Present, Checksum::Validated, Checksum::Blank];
    Offload {
        checksum: checksum[usize::from(number % 3)],
        segments: (number / 3 % 2 == 1).then_some(SEGMENTS),
    }
}

fn transmit(count: u32) -> (Transmit, FromFront, Memory) {
    let mut memory = Memory::default();
    let pages = SharedPages::allocate(1);
    let front = Transmit::new(pages, memory.buffers(100, count));
    (front, FromFront::new(pages), memory)
}

fn receive(count: u32) -> (Receive, ToFront, Memory) {
    let mut memory = Memory::default();
    let pages = SharedPages::allocate(1);
    let mut front = Receive::new(pages, memory.buffers(500, count));
    assert!(front.publish());
    (front, ToFront::new(pages), memory)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 48 }))]

    #[test]
    fn frames_that_are_sent_arrive_whole_and_in_order(
        frames in proptest::collection::vec((14usize..=MAX_FRAME, any::<u8>()), 1..FRAMES),
    ) {
        let (mut front, mut back, mut memory) = transmit(64);
        let mut got = Vec::new();
        for (len, seed) in frames {
            let sent = frame(len, seed);
            prop_assert!(front.has_room(len));
            front.send(&sent, offload(seed)).unwrap();
            let _ = front.publish();
            prop_assert_eq!(back.take(&mut memory, &mut got), Ok(Some(offload(seed))));
            prop_assert_eq!(&got, &sent);
            let _ = back.publish();
            let parts = u32::try_from(len.div_ceil(PAGE_SIZE)).unwrap();
            prop_assert_eq!(front.settle().unwrap().sent, parts);
            prop_assert_eq!(front.outstanding(), 0);
        }
    }

    #[test]
    fn frames_that_are_delivered_arrive_whole_and_in_order(
        frames in proptest::collection::vec((14usize..=MAX_FRAME, any::<u8>()), 1..FRAMES),
    ) {
        let (mut front, mut back, mut memory) = receive(64);
        let mut got = Vec::new();
        for (len, seed) in frames {
            let sent = frame(len, seed);
            prop_assert_eq!(back.deliver(&mut memory, &sent, offload(seed)), Ok(Delivery::Done));
            let _ = back.publish();
            prop_assert_eq!(front.take(&mut got), Ok(Some(offload(seed))));
            prop_assert_eq!(&got, &sent);
            let _ = front.publish();
        }
        prop_assert_eq!(front.take(&mut got), Ok(None));
    }

    /// Whatever stands in the ring's page: an error or a frame, and no more frames than there are slots.
    #[test]
    #[cfg_attr(miri, ignore = "making so many bytes takes minutes; tests/fuzz.rs has cheaper ones")]
    fn a_front_end_survives_any_bytes(noise in proptest::collection::vec(any::<u8>(), 4096)) {
        let mut memory = Memory::default();
        let (tx, rx) = (SharedPages::allocate(1), SharedPages::allocate(1));
        let mut transmit = Transmit::new(tx, memory.buffers(1, 8));
        let mut receive = Receive::new(rx, memory.buffers(100, 64));
        let _ = receive.publish();
        transmit.send(&frame(9000, 1), offload(5)).unwrap();
        let _ = transmit.publish();
        for pages in [tx, rx] {
            pages.write(64, &noise[64..]);
            pages.word32(8).store(u32::from(noise[0] % 80), core::sync::atomic::Ordering::SeqCst);
        }
        let mut got = Vec::new();
        let mut frames = 0;
        while let Ok(Some(_)) = receive.take(&mut got) {
            prop_assert!((MIN_FRAME..=MAX_FRAME).contains(&got.len()));
            frames += 1;
            prop_assert!(frames <= 64);
        }
        let _ = transmit.settle();
    }

    #[test]
    #[cfg_attr(miri, ignore = "making so many bytes takes minutes; tests/fuzz.rs has cheaper ones")]
    fn a_back_end_survives_any_bytes(noise in proptest::collection::vec(any::<u8>(), 4096), count in 0u32..300) {
        let mut memory = Memory::default();
        memory.buffers(0, 256);
        let (tx, rx) = (SharedPages::allocate(1), SharedPages::allocate(1));
        for pages in [tx, rx] {
            pages.write(64, &noise[64..]);
            pages.word32(0).store(count, core::sync::atomic::Ordering::SeqCst);
        }
        let mut from = FromFront::new(tx);
        let mut got = Vec::new();
        for _ in 0..300 {
            match from.take(&mut memory, &mut got) {
                Ok(Some(_)) => prop_assert!((MIN_FRAME..=MAX_FRAME).contains(&got.len())),
                Ok(None) | Err(_) => break,
            }
        }
        let mut to = ToFront::new(rx);
        for _ in 0..300 {
            if !matches!(to.deliver(&mut memory, &frame(5000, 3), offload(4)), Ok(Delivery::Done)) {
                break;
            }
        }
    }
}

#[test]
fn a_full_ring_or_no_buffers_refuse_a_frame_and_lose_nothing() {
    let (mut front, mut back, mut memory) = transmit(4);
    for _ in 0..4 {
        front.send(&frame(60, 1), Offload::default()).unwrap();
    }
    assert_eq!(front.send(&frame(60, 1), Offload::default()), Err(SendError::Full));
    assert!(!front.has_room(60));
    assert!(front.publish());
    let mut got = Vec::new();
    for _ in 0..4 {
        back.take(&mut memory, &mut got).unwrap().unwrap();
    }
    let _ = back.publish();
    front.settle().unwrap();
    front.send(&frame(3 * 4096, 1), Offload::default()).unwrap();
    assert_eq!(front.send(&frame(5000, 1), Offload::default()), Err(SendError::Full));
}

#[test]
fn a_frame_that_is_too_short_or_too_long_is_refused() {
    let (mut front, _, _) = transmit(64);
    for len in [0, 13, MAX_FRAME + 1] {
        assert_eq!(front.send(&vec![0; len], Offload::default()), Err(SendError::Size));
    }
}

#[test]
fn a_page_that_cannot_be_reached_loses_its_frame_only() {
    let (mut front, mut back, mut memory) = transmit(64);
    let all = core::mem::take(&mut memory);
    front.send(&frame(5000, 1), offload(5)).unwrap();
    let _ = front.publish();
    let mut got = Vec::new();
    assert_eq!(back.take(&mut memory, &mut got), Ok(None));
    assert_eq!(back.dropped(), 1);
    let _ = back.publish();
    assert_eq!(front.settle().unwrap().dropped, 2);
    memory = all;
    front.send(&frame(60, 1), Offload::default()).unwrap();
    let _ = front.publish();
    assert!(back.take(&mut memory, &mut got).unwrap().is_some());

    let (mut front, mut back, mut memory) = receive(8);
    memory.0.remove(&507);
    for _ in 0..8 {
        assert_eq!(back.deliver(&mut memory, &frame(60, 1), offload(0)), Ok(Delivery::Done));
    }
    let _ = back.publish();
    let mut frames = 0;
    while front.take(&mut got).unwrap().is_some() {
        frames += 1;
    }
    assert_eq!((frames, front.dropped()), (7, 1));
}

#[test]
fn a_frame_waits_while_the_front_end_offers_too_few_buffers() {
    let (mut front, mut back, mut memory) = receive(2);
    assert_eq!(back.deliver(&mut memory, &frame(9000, 1), offload(0)), Ok(Delivery::NoRoom));
    assert_eq!(back.deliver(&mut memory, &frame(8000, 1), offload(0)), Ok(Delivery::Done));
    assert_eq!(back.deliver(&mut memory, &frame(60, 1), offload(0)), Ok(Delivery::NoRoom));
    let _ = back.publish();
    let mut got = Vec::new();
    front.take(&mut got).unwrap().unwrap();
    let _ = front.publish();
    assert_eq!(back.deliver(&mut memory, &frame(60, 1), offload(0)), Ok(Delivery::Done));
}

/// A front end's transmit ring with one frame of two parts sent, and what a lying back end writes with.
fn sent() -> (Transmit, BackRing<TransmitSlot, [u8; 4]>) {
    let mut memory = Memory::default();
    let pages = SharedPages::allocate(1);
    let mut front = Transmit::new(pages, memory.buffers(1, 8));
    front.send(&frame(5000, 1), offload(3)).unwrap();
    let _ = front.publish();
    let mut back = BackRing::new(pages);
    while back.take().unwrap().is_some() {}
    (front, back)
}

fn lies_of_sent(answers: &[(u16, i16)]) -> Result<(), NetError> {
    let (mut front, mut back) = sent();
    for (id, status) in answers {
        let answer = NetifTxResponse { id: *id, status: *status };
        back.push(answer.as_bytes().try_into().unwrap()).unwrap();
    }
    let _ = back.publish();
    front.settle().map(drop)
}

fn lied<T>(result: Result<T, NetError>) -> bool {
    matches!(result, Err(NetError::Lied(_)))
}

#[test]
fn answers_to_what_was_not_sent_are_lies() {
    assert_eq!(lies_of_sent(&[(0, 0), (0, 1), (1, 0)]), Ok(()));
    assert!(lied(lies_of_sent(&[(0, 0), (0, 0)])), "the same frame twice");
    assert!(lied(lies_of_sent(&[(5, 0)])), "a buffer that was not sent");
    assert!(lied(lies_of_sent(&[(8, 0)])), "a number out of range");
    assert!(lied(lies_of_sent(&[(u16::MAX, 0)])));
    assert!(lied(lies_of_sent(&[(0, 1), (0, 1)])), "more extra information than was sent");
    assert!(lied(lies_of_sent(&[(0, 7)])), "an unknown status");
    assert!(lied(lies_of_sent(&[(0, -3)])));
}

#[test]
fn an_index_beyond_what_was_sent_is_a_lie() {
    let mut memory = Memory::default();
    let pages = SharedPages::allocate(1);
    let mut front = Transmit::new(pages, memory.buffers(1, 8));
    pages.word32(8).store(1, core::sync::atomic::Ordering::SeqCst);
    assert!(matches!(front.settle(), Err(NetError::Ring(_))));
}

/// What a front end makes of received slots, its eight buffers being offered in the order of their numbers.
fn received(slots: &[ReceiveSlot]) -> Result<Vec<usize>, NetError> {
    let mut memory = Memory::default();
    let pages = SharedPages::allocate(1);
    let mut front = Receive::new(pages, memory.buffers(1, 8));
    let _ = front.publish();
    let mut back = BackRing::<NetifRxRequest, ReceiveSlot>::new(pages);
    let mut ids = Vec::new();
    while let Some(request) = back.take().unwrap() {
        ids.push(request.id);
    }
    assert_eq!(ids, (0..8).collect::<Vec<u16>>());
    for slot in slots {
        back.push(slot).unwrap();
    }
    let _ = back.publish();
    let mut got = Vec::new();
    let mut sizes = Vec::new();
    while front.take(&mut got)?.is_some() {
        sizes.push(got.len());
    }
    Ok(sizes)
}

fn filled(id: u16, offset: u16, flags: u16, status: i16) -> ReceiveSlot {
    slot(&NetifRxResponse { id, offset, flags, status })
}

fn cut(size: u16, kind: u8, flags: u8) -> ReceiveSlot {
    slot(&NetifExtraInfo { flags, ..Segments { size, ..SEGMENTS }.extra() }).map_kind(kind)
}

trait MapKind {
    fn map_kind(self, kind: u8) -> Self;
}

impl MapKind for ReceiveSlot {
    fn map_kind(mut self, kind: u8) -> Self {
        self[4] = kind;
        self
    }
}

#[test]
fn what_an_honest_back_end_fills_in_is_taken() {
    let honest = [
        filled(0, 2, 0, 60),
        filled(1, 0, NETRXF_MORE_DATA | NETRXF_EXTRA_INFO, 4096),
        cut(1448, 1, 0),
        filled(3, 0, 0, 100),
        filled(4, 0, NETRXF_MORE_DATA, 100),
        filled(5, 0, 0, -1),
        filled(6, 4000, 0, 96),
    ];
    assert_eq!(received(&honest), Ok(vec![60, 4196, 96]));
}

#[test]
fn buffers_filled_out_of_turn_are_lies() {
    assert!(lied(received(&[filled(1, 0, 0, 60)])));
    assert!(lied(received(&[filled(0, 0, 0, 60), filled(0, 0, 0, 60)])));
    assert!(lied(received(&[filled(999, 0, 0, 60)])));
}

#[test]
fn parts_that_leave_their_page_are_lies() {
    assert!(lied(received(&[filled(0, 1, 0, 4096)])));
    assert!(lied(received(&[filled(0, u16::MAX, 0, 1)])));
    assert!(lied(received(&[filled(0, 4096, 0, i16::MAX)])));
}

#[test]
fn a_frame_without_end_is_a_lie() {
    let mut memory = Memory::default();
    let pages = SharedPages::allocate(1);
    let mut front = Receive::new(pages, memory.buffers(1, 64));
    let _ = front.publish();
    let mut back = BackRing::<NetifRxRequest, ReceiveSlot>::new(pages);
    for _ in 0..MAX_SLOTS + 1 {
        let request = back.take().unwrap().unwrap();
        back.push(&filled(request.id, 0, NETRXF_MORE_DATA, 0)).unwrap();
    }
    let _ = back.publish();
    assert!(lied(front.take(&mut Vec::new())));
}

#[test]
fn extra_information_that_makes_no_sense_is_a_lie() {
    let first = filled(0, 0, NETRXF_EXTRA_INFO, 60);
    assert!(lied(received(&[first, cut(1448, 9, 0)])), "an unknown way of cutting");
    assert!(lied(received(&[first, cut(0, 1, 0)])), "to be cut into nothing");
    let unknown = slot(&NetifExtraInfo { kind: 77, ..Default::default() });
    assert!(lied(received(&[first, unknown])), "an unknown kind");
    let more = XEN_NETIF_EXTRA_FLAG_MORE;
    let endless = [first, cut(1, 1, more), cut(1, 1, more), cut(1, 1, more), cut(1, 1, more)];
    assert_eq!(received(&endless), Ok(vec![]));
    assert!(lied(received(&[&endless[..], &[cut(1, 1, more)]].concat())), "without end");
    let late = [filled(0, 0, NETRXF_MORE_DATA, 60), filled(1, 0, NETRXF_EXTRA_INFO, 60)];
    assert!(lied(received(&late)), "in the middle of a frame");
}

#[test]
fn a_frame_shorter_than_its_header_is_dropped() {
    assert_eq!(
        received(&[filled(0, 0, 0, 13), filled(1, 0, 0, 0), filled(2, 0, 0, 14)]),
        Ok(vec![14])
    );
}

/// What a back end makes of slots a front end sent.
fn taken(slots: &[TransmitSlot]) -> Result<Option<usize>, NetError> {
    let mut memory = Memory::default();
    // The one that `request` names.
    memory.buffers(1, 1);
    let pages = SharedPages::allocate(1);
    let mut front = FrontRing::<TransmitSlot, [u8; 4]>::new(pages);
    slots.iter().for_each(|slot| front.push(slot).unwrap());
    let _ = front.publish();
    let mut got = Vec::new();
    Ok(FromFront::new(pages).take(&mut memory, &mut got)?.map(|_| got.len()))
}

fn request(offset: u16, flags: u16, size: u16) -> TransmitSlot {
    slot(&NetifTxRequest { gref: 1, offset, flags, id: 0, size })
}

#[test]
fn a_front_end_that_lies_about_its_frames_is_found_out() {
    const MORE: u16 = NETTXF_MORE_DATA;
    assert_eq!(taken(&[request(0, MORE, 100), request(0, 0, 40)]), Ok(Some(100)));
    assert!(lied(taken(&[request(0, 0, 13)])), "too short");
    assert!(lied(taken(&[request(4000, 0, 97)])), "over the page's end");
    assert!(lied(taken(&[request(u16::MAX, 0, 60)])));
    assert!(lied(taken(&[request(0, 0, 4097)])));
    assert!(
        lied(taken(&[request(0, MORE, 9000), request(0, 0, 40)])),
        "the first part is too long"
    );
    assert!(lied(taken(&[request(0, MORE, 100), request(0, 0, 100)])), "nothing is left for it");
    assert!(lied(taken(&[request(0, MORE, 100), request(0, 0, 101)])));
    assert!(lied(taken(&[request(0, MORE, 100)])), "a part is missing");
    assert!(lied(taken(&[request(0, NETTXF_EXTRA_INFO, 100)])), "extra information is missing");
    assert!(lied(taken(&[request(0, NETTXF_EXTRA_INFO, 100), [9; 12]])), "of an unknown kind");
    let many: Vec<_> = std::iter::once(request(0, MORE, 4000))
        .chain((0..MAX_SLOTS).map(|_| request(0, MORE, 1)))
        .collect();
    assert!(lied(taken(&many)), "too many parts");
}

#[test]
fn an_answer_of_extra_information_is_told_from_a_frames() {
    let (mut front, mut back, mut memory) = transmit(8);
    front.send(&frame(60, 1), offload(3)).unwrap();
    front.send(&frame(60, 1), offload(0)).unwrap();
    let _ = front.publish();
    let mut got = Vec::new();
    while back.take(&mut memory, &mut got).unwrap().is_some() {}
    let _ = back.publish();
    assert_eq!(front.settle().unwrap().sent, 2);
    assert_eq!(front.outstanding(), 0);
}
