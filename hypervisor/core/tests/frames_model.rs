//! `Frames` against a model that keeps one record a frame.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use hv_core::{
    addr::Mfn,
    frames::{Contents, Frames, FramesError, Owner, Put},
    ids::DomId,
};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use std::collections::BTreeMap;

const BANKS: [(u64, u64); 3] = [(0x3_ff00, 0x300), (0x10_0003, 0x1fd), (0x20_0000, 0x400)];
const DOMS: u16 = 3;
const LIMIT: u64 = 0x500;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Used {
    dom: u16,
    held: bool,
    others: u32,
}

#[derive(Clone, Debug)]
enum Step {
    Alloc { dom: u16, order: u8, below: Option<u64> },
    Exactly { dom: u16, frame: u64, count: u64 },
    Get { frame: u64, dom: u16 },
    Put { frame: u64 },
    Release { frame: u64, count: u64 },
    Hypervisor { order: u8 },
    FreeHypervisor,
    Scrub { order: u8 },
    Claim { dom: u16, total: u64 },
    Pool { dom: u16, size: u64 },
    Table { dom: u16 },
    FreeTable { dom: u16 },
    Grant { dom: u16 },
}

/// Frames set aside for each domain's grant table at first.
const GRANTS: u64 = 20;

/// Frames that are set aside for a domain, and those that came from there.
#[derive(Clone, Debug, Default)]
struct Aside {
    pool: u64,
    tables: Vec<Mfn>,
    grants: Vec<Mfn>,
}

impl Aside {
    fn left(&self) -> u64 {
        self.pool.saturating_sub(self.tables.len() as u64) + self.left_for_grants()
    }

    fn left_for_grants(&self) -> u64 {
        GRANTS.saturating_sub(self.grants.len() as u64)
    }
}

fn frame() -> impl Strategy<Value = u64> {
    prop_oneof![
        0x3_ff00..0x4_0200_u64,
        0x10_0003..0x10_0200_u64,
        0x20_0000..0x20_0400_u64,
        any::<u64>()
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let below =
        prop_oneof![Just(None), Just(Some(1 << 18)), Just(Some(1 << 20)), frame().prop_map(Some)];
    prop_oneof![
        4 => (0..DOMS, 0..10_u8, below).prop_map(|(dom, order, below)| Step::Alloc { dom, order, below }),
        1 => (0..DOMS, frame(), 1..300_u64).prop_map(|(dom, frame, count)| Step::Exactly { dom, frame, count }),
        4 => (frame(), 0..DOMS).prop_map(|(frame, dom)| Step::Get { frame, dom }),
        4 => frame().prop_map(|frame| Step::Put { frame }),
        3 => (frame(), 1..200_u64).prop_map(|(frame, count)| Step::Release { frame, count }),
        1 => (0..4_u8).prop_map(|order| Step::Hypervisor { order }),
        1 => Just(Step::FreeHypervisor),
        1 => (0..19_u8).prop_map(|order| Step::Scrub { order }),
        1 => (0..DOMS, 0..0x600_u64).prop_map(|(dom, total)| Step::Claim { dom, total }),
        1 => (0..DOMS, 0..0x400_u64).prop_map(|(dom, size)| Step::Pool { dom, size }),
        2 => (0..DOMS).prop_map(|dom| Step::Table { dom }),
        1 => (0..DOMS).prop_map(|dom| Step::FreeTable { dom }),
        2 => (0..DOMS).prop_map(|dom| Step::Grant { dom }),
    ]
}

fn managed(frame: u64) -> bool {
    BANKS.iter().any(|(base, len)| frame >= *base && frame - base < *len)
}

fn total() -> u64 {
    BANKS.iter().map(|(_, len)| len).sum()
}

fn new_frames() -> Frames {
    let mut frames = Frames::new(BANKS.map(|(base, len)| (Mfn::new(base), len)));
    frames.add(Mfn::new(0), u64::MAX);
    for dom in 0..DOMS {
        frames.open(DomId(dom), LIMIT, GRANTS).unwrap();
    }
    frames
}

proptest! {
    #[test]
    fn owners_holders_and_free_counts_agree_with_a_naive_record(steps in proptest::collection::vec(step(), 1..120)) {
        let mut frames = new_frames();
        let mut used: BTreeMap<u64, Used> = BTreeMap::new();
        let mut own: Vec<(u64, u8)> = Vec::new();
        let mut aside = [const { Aside { pool: 0, tables: Vec::new(), grants: Vec::new() } }; DOMS as usize];
        let owned = |used: &BTreeMap<u64, Used>, dom| used.values().filter(|frame| frame.dom == dom).count() as u64;
        for step in steps {
            match step {
                Step::Alloc { dom, order, below } => {
                    let before = owned(&used, dom);
                    match frames.alloc_for(DomId(dom), order, below.map(Mfn::new)) {
                        Ok(block) => {
                            let first = block.first.number();
                            prop_assert_eq!(first % block.count(), 0);
                            prop_assert!(below.is_none_or(|below| first + block.count() <= below));
                            for frame in first..first + block.count() {
                                prop_assert!(managed(frame));
                                let entry = Used { dom, held: true, others: 0 };
                                prop_assert_eq!(used.insert(frame, entry), None);
                            }
                        }
                        Err(FramesError::OverLimit) => prop_assert!(before + (1 << order) > LIMIT),
                        Err(error) => prop_assert_eq!(error, FramesError::NoMemory),
                    }
                }
                Step::Exactly { dom, frame, count } => {
                    let free = |frame: &u64| managed(*frame) && !used.contains_key(frame)
                        && !own.iter().any(|(first, order)| frame.checked_sub(*first).is_some_and(|past| past < 1 << order))
                        && !aside.iter().flat_map(|aside| aside.tables.iter().chain(&aside.grants)).any(|taken| taken.number() == *frame);
                    let all_free = frame.checked_add(count).is_some_and(|end| (frame..end).all(|frame| free(&frame)));
                    match frames.alloc_exactly(DomId(dom), Mfn::new(frame), count) {
                        Ok(()) => {
                            prop_assert!(all_free);
                            let entry = Used { dom, held: true, others: 0 };
                            used.extend((frame..frame + count).map(|frame| (frame, entry)));
                        }
                        Err(FramesError::OverLimit) => prop_assert!(owned(&used, dom) + count > LIMIT),
                        Err(error) => {
                            prop_assert_eq!(error, FramesError::NoMemory);
                            prop_assert!(!all_free || frames.claimed() > 0 || frames.set_aside() > 0);
                        }
                    }
                }
                Step::Get { frame, dom } => {
                    let allowed = used.get(&frame).is_some_and(|used| used.dom == dom && used.held);
                    prop_assert_eq!(frames.get(Mfn::new(frame), DomId(dom)).is_ok(), allowed);
                    if allowed {
                        used.entry(frame).and_modify(|used| used.others += 1);
                    }
                }
                Step::Put { frame } => {
                    if let Some(entry) = used.get_mut(&frame).filter(|used| used.others > 0) {
                        entry.others -= 1;
                        let last = entry.others == 0 && !entry.held;
                        let expected = if last { Put::Freed } else { Put::Kept };
                        prop_assert_eq!(frames.put(Mfn::new(frame)), expected);
                        if last {
                            used.remove(&frame);
                        }
                    }
                }
                Step::Release { frame, count } => {
                    let mut freed = false;
                    for frame in (frame..frame.saturating_add(count)).filter(|frame| managed(*frame)) {
                        let Some(entry) = used.get_mut(&frame) else { continue };
                        entry.held = false;
                        if entry.others == 0 {
                            used.remove(&frame);
                            freed = true;
                        }
                    }
                    let expected = if freed { Put::Freed } else { Put::Kept };
                    prop_assert_eq!(frames.release(Mfn::new(frame), count), expected);
                }
                Step::Hypervisor { order } => {
                    if let Ok(block) = frames.alloc_hypervisor(order) {
                        own.push((block.first.number(), order));
                    }
                }
                Step::FreeHypervisor => {
                    if let Some((first, order)) = own.pop() {
                        frames.free_hypervisor(Mfn::new(first), 1 << order);
                    }
                }
                Step::Scrub { order } => {
                    let dirty = frames.dirty();
                    if let Some(mut block) = frames.take_dirty(order) {
                        prop_assert!(block.order <= order);
                        let mut count = 0;
                        while let Some(frame) = block.next_to_scrub() {
                            prop_assert!(!used.contains_key(&frame.number()));
                            block.scrubbed += 1;
                            count += 1;
                        }
                        frames.scrubbed(block);
                        prop_assert_eq!(frames.dirty(), dirty - count);
                    } else {
                        prop_assert!(dirty == 0 || frames.available() < 1 << order);
                    }
                }
                Step::Pool { dom, size } => {
                    let aside = &mut aside[usize::from(dom)];
                    let more = size.saturating_sub(aside.pool.max(aside.tables.len() as u64));
                    let room = frames.available().saturating_sub(frames.claimed());
                    let set = frames.set_pool(DomId(dom), size);
                    prop_assert_eq!(set.is_ok(), more <= room);
                    if set.is_ok() {
                        aside.pool = size;
                    }
                }
                Step::Table { dom } => {
                    let aside = &mut aside[usize::from(dom)];
                    let sure = (aside.tables.len() as u64) < aside.pool;
                    match frames.alloc_table(DomId(dom)) {
                        Ok(block) => aside.tables.push(block.first),
                        Err(_) => prop_assert!(!sure && frames.available() == 0),
                    }
                }
                Step::FreeTable { dom } => {
                    if let Some(table) = aside[usize::from(dom)].tables.pop() {
                        frames.free_table(DomId(dom), table);
                    }
                }
                Step::Grant { dom } => {
                    let aside = &mut aside[usize::from(dom)];
                    let sure = aside.left_for_grants() > 0;
                    match frames.alloc_for_grants(DomId(dom)) {
                        Ok(block) => aside.grants.push(block.first),
                        Err(_) => prop_assert!(!sure && frames.available() == 0),
                    }
                }
                Step::Claim { dom, total } => {
                    let before = frames.claimed();
                    if frames.claim_total(DomId(dom), total).is_err() {
                        prop_assert_eq!(frames.claimed(), before);
                    } else if total > 0 {
                        // Later the hypervisor may need some of it for itself, its tables before all.
                        prop_assert!(frames.claimed() <= frames.free());
                    }
                }
            }
            let tables: usize = aside.iter().map(|aside| aside.tables.len() + aside.grants.len()).sum();
            let own_frames = own.iter().map(|(_, order)| 1 << order).sum::<u64>() + tables as u64;
            prop_assert_eq!(frames.set_aside(), aside.iter().map(Aside::left).sum::<u64>());
            prop_assert!(frames.set_aside() <= frames.free(), "what is set aside is there");
            prop_assert_eq!(frames.free(), total() - used.len() as u64 - own_frames);
            for dom in 0..DOMS {
                prop_assert_eq!(frames.account(DomId(dom)).unwrap().total, owned(&used, dom));
            }
            for (frame, used) in &used {
                prop_assert_eq!(frames.owner(Mfn::new(*frame)), Owner::Domain(DomId(used.dom)));
            }
        }
        // Whatever happened, letting go of everything makes the memory whole again.
        for (frame, used) in used {
            for _ in 0..used.others {
                let _kept_until_released = frames.put(Mfn::new(frame));
            }
            let _all_counted_below = frames.release(Mfn::new(frame), 1);
        }
        for (first, order) in own {
            frames.free_hypervisor(Mfn::new(first), 1 << order);
        }
        for (dom, aside) in (0..DOMS).map(DomId).zip(&aside) {
            aside.tables.iter().for_each(|table| frames.free_table(dom, *table));
            aside.grants.iter().for_each(|frame| frames.free_hypervisor(*frame, 1));
            let _kept_or_nothing_left = frames.condemn(dom);
            frames.close(dom);
        }
        prop_assert_eq!((frames.set_aside(), frames.claimed()), (0, 0));
        for dom in 0..DOMS {
            frames.open(DomId(dom), LIMIT, 0).unwrap();
        }
        while let Some(mut block) = frames.take_dirty(18) {
            block.scrubbed = block.count();
            frames.scrubbed(block);
        }
        for dom in 0..DOMS {
            prop_assert_eq!(frames.claim_total(DomId(dom), 0), Ok(()));
        }
        prop_assert_eq!(frames.free(), total());
        for base in [0x3_ff00, 0x4_0000, 0x4_0100, 0x10_0100, 0x20_0000, 0x20_0200] {
            let block = frames.alloc_exactly(DomId(0), Mfn::new(base), 0x100);
            prop_assert_eq!(block, Ok(()));
            let _freed = frames.release(Mfn::new(base), 0x100);
        }
    }
}

#[test]
fn high_memory_goes_first_and_low_memory_to_those_who_need_it() {
    let mut frames = new_frames();
    let high = frames.alloc_for(DomId(0), 0, None).unwrap();
    assert!(high.first.number() >= 1 << 20);
    let low = frames.alloc_for(DomId(0), 0, Some(Mfn::new(1 << 20))).unwrap();
    assert!(low.first.number() < 1 << 20);
    let lowest = frames.alloc_for(DomId(0), 0, Some(Mfn::new(0x3_ff01))).unwrap();
    assert_eq!(lowest.first, Mfn::new(0x3_ff00));
    assert_eq!(frames.alloc_for(DomId(0), 0, Some(Mfn::new(0x3_ff01))), Err(FramesError::NoMemory));
}

#[test]
fn memory_is_dirty_at_first_and_clean_once_scrubbed() {
    let mut frames = new_frames();
    let block = frames.alloc_for(DomId(0), 3, None).unwrap();
    assert_eq!(block.contents, Contents::Dirty);
    while let Some(mut block) = frames.take_dirty(4) {
        block.scrubbed = block.count();
        frames.scrubbed(block);
    }
    assert_eq!(frames.dirty(), 0);
    let clean = frames.alloc_for(DomId(0), 3, None).unwrap();
    assert_eq!(clean.contents, Contents::Clean);
    let _freed = frames.release(clean.first, clean.count());
    assert_eq!(frames.dirty(), 8, "what a domain had is dirty");
}

#[test]
fn a_dying_domain_is_gone_when_the_last_foreign_holder_lets_go() {
    let mut frames = new_frames();
    let block = frames.alloc_for(DomId(1), 1, None).unwrap();
    let shared = frames.alloc_shared(DomId(1)).unwrap();
    let second = block.first.checked_add(1).unwrap();
    frames.get(second, DomId(1)).unwrap();
    assert_eq!(frames.condemn(DomId(1)), Put::Kept);
    assert_eq!(frames.alloc_for(DomId(1), 0, None), Err(FramesError::NoDomain));
    assert_eq!(frames.release(shared.first, 1), Put::Freed);
    assert_eq!(frames.release(block.first, 2), Put::Freed);
    assert_eq!(frames.account(DomId(1)).unwrap().total, 1, "a zombie with one page");
    assert_eq!(frames.get(second, DomId(1)), Err(FramesError::NotOwned));
    assert_eq!(frames.put(second), Put::LastOf(DomId(1)));
    frames.close(DomId(1));
    assert_eq!(frames.free(), total());
}

#[test]
fn a_frame_released_twice_is_freed_once() {
    let mut frames = new_frames();
    let block = frames.alloc_for(DomId(1), 0, None).unwrap();
    assert_eq!(frames.release(block.first, 1), Put::Freed);
    assert_eq!(frames.release(block.first, 1), Put::Kept);
    assert_eq!(frames.put(block.first), Put::Kept);
    assert_eq!(frames.free(), total());
}

#[test]
fn a_claim_keeps_others_off_and_is_used_up_by_its_owner() {
    let mut frames = new_frames();
    let room = LIMIT;
    frames.claim_total(DomId(1), room).unwrap();
    assert_eq!(frames.claim_total(DomId(1), room), Err(FramesError::BadClaim));
    assert_eq!(frames.claim_total(DomId(2), LIMIT), Err(FramesError::NoMemory));
    let _block = frames.alloc_for(DomId(1), 8, None).unwrap();
    assert_eq!(frames.claimed(), room - 0x100);
    frames.claim_total(DomId(1), 0).unwrap();
    assert_eq!(frames.claimed(), 0);
    assert_eq!(frames.claim_total(DomId(1), 1), Err(FramesError::BadClaim), "it owns more");
}

#[test]
fn a_block_whose_scrubbing_was_interrupted_is_found_again_or_freed() {
    let mut frames = new_frames();
    let mut block = frames.alloc_for(DomId(1), 4, None).unwrap();
    block.scrubbed = 5;
    frames.park(DomId(1), block).unwrap();
    assert_eq!(frames.park(DomId(1), block), Err(block), "there is one place");
    assert_eq!(frames.unpark(DomId(1), 3), None);
    assert_eq!(frames.unpark(DomId(1), 4), Some(block));
    frames.park(DomId(1), block).unwrap();
    assert_eq!(frames.condemn(DomId(1)), Put::LastOf(DomId(1)));
    assert_eq!(frames.free(), total());
}

#[test]
fn a_lent_page_remembers_where_it_is_mapped() {
    let mut frames = new_frames();
    let page = frames.alloc_shared(DomId(1)).unwrap().first;
    let gfn = hv_core::addr::Gfn::new(0xf_ffff_ffff);
    assert_eq!(frames.set_shared_at(page, Some(gfn)), None);
    assert_eq!(frames.shared_at(page), Some(gfn));
    assert_eq!(frames.set_shared_at(page, None), Some(gfn));
    assert_eq!(frames.shared_at(page), None);
    assert_eq!(frames.owner(page), Owner::SharedWith(DomId(1)));
}

#[test]
fn giving_three_gibibytes_is_work_by_the_block() {
    let mut frames = Frames::new([(Mfn::new(0x4_0000), 0xc_0000)]);
    frames.add(Mfn::new(0x4_0000), 0xc_0000);
    frames.reserve(Mfn::new(0x4_0080), 0x380).unwrap();
    assert_eq!(frames.free(), 0xc_0000 - 0x380);
    assert_eq!(frames.lowest(0, None), Some(Mfn::new(0x4_0000)));
    assert_eq!(frames.lowest(18, None), Some(Mfn::new(0x8_0000)));
    assert_eq!(frames.lowest(9, Some(Mfn::new(0x4_0600))), Some(Mfn::new(0x4_0400)));
    assert_eq!(frames.reserve(Mfn::new(0x4_0000), 0x100), Err(FramesError::NoMemory));
    assert_eq!(frames.owner(Mfn::new(0x4_0080)), Owner::Nobody);
}
