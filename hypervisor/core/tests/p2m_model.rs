//! `P2m` against a map of single frames.

use hv_core::{
    addr::{Gfn, Mfn},
    fake::FakeMemory,
    frames::Contents,
    p2m::{Kind, P2m, P2mConfig, P2mError, Released, Stale, Step, TableFrames},
};
use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use std::collections::{BTreeMap, BTreeSet};

/// Tables from a counter, dirty ones; gives notice of what is not given back.
struct Pool {
    next: u64,
    left: u32,
    out: BTreeSet<u64>,
}

/// Where the root is, of 2 frames or fewer.
const ROOT: Mfn = Mfn::new(0x7000_0000);

impl Pool {
    fn new(left: u32) -> Self {
        Self { next: 0x8000_0000, left, out: BTreeSet::new() }
    }
}

impl TableFrames for Pool {
    fn alloc(&mut self) -> Option<(Mfn, Contents)> {
        self.left = self.left.checked_sub(1)?;
        let first = self.next;
        self.next += 1;
        self.out.insert(first);
        Some((Mfn::new(first), Contents::Dirty))
    }

    fn free(&mut self, first: Mfn) {
        assert!(self.out.remove(&first.number()), "a table is given back once");
        self.left += 1;
    }
}

#[derive(Clone, Debug)]
enum Change {
    Map { gfn: u64, mfn: u64, count: u64, kind: Kind, limit: u32 },
    Unmap { gfn: u64, count: u64, limit: u32 },
}

fn gfn() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..2000_u64,
        Just(0),
        Just(512),
        Just(1 << 18),
        (1 << 18) - 600..(1 << 18) + 600_u64,
        Just((1 << 28) - 512),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::RamRw), Just(Kind::ForeignRo), Just(Kind::DirectIo), Just(Kind::Shared)]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), Just(512), Just(1 << 18), 1..1600_u64]
}

fn mfn() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1 << 18), Just(3 << 18), Just(512 * 7), 0..0x10_0000_u64]
}

fn change() -> impl Strategy<Value = Change> {
    let limit = || prop_oneof![Just(1_u32), Just(7), Just(1000)];
    prop_oneof![
        3 => (gfn(), mfn(), count(), kind(), limit())
            .prop_map(|(gfn, mfn, count, kind, limit)| Change::Map { gfn, mfn, count, kind, limit }),
        2 => (gfn(), count(), limit()).prop_map(|(gfn, count, limit)| Change::Unmap { gfn, count, limit }),
    ]
}

/// A map from guest frame runs, kept per frame only where it is small: (gfn → (mfn, kind)).
type Model = BTreeMap<u64, (u64, Kind)>;

/// Carries a step's flush out, and checks that it covers every frame whose old meaning is gone.
fn carry_out(memory: &FakeMemory, step: Step, gone: &[u64]) -> Released {
    let mut covered = Vec::new();
    let released = step.flush.carry_out(memory, |stale| {
        if let Stale::Range { first, count, .. } = stale {
            covered.push(first.number()..first.number() + count);
        }
    });
    for gfn in gone {
        assert!(covered.iter().any(|range| range.contains(gfn)), "frame {gfn:#x} stays in TLBs");
    }
    released
}

fn released_frames(released: Released) -> Vec<(u64, Kind)> {
    released
        .into_iter()
        .flat_map(|run| (0..run.count).map(move |past| (run.first.number() + past, run.kind)))
        .collect()
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn lookups_and_released_frames_agree_with_a_map(changes in proptest::collection::vec(change(), 1..14)) {
        let memory = FakeMemory::default();
        let mut pool = Pool::new(100_000);
        let mut p2m = P2m::new(&memory, ROOT, Contents::Dirty, P2mConfig::new(40));
        let mut model = Model::new();
        for change in changes {
            let (gfn, count, wanted) = match change {
                Change::Map { gfn, mfn, count, kind, .. } => (gfn, count, Some((mfn, kind))),
                Change::Unmap { gfn, count, .. } => (gfn, count, None),
            };
            // Keep the model small: a gibibyte only where it is one entry.
            let count = if count == 1 << 18 && (gfn % count != 0 || wanted.is_some_and(|(mfn, _)| mfn % count != 0)) { 3 } else { count };
            let mut done = 0;
            let mut rounds = 0;
            while done < count {
                let first = Gfn::new(gfn + done);
                let outcome = match change {
                    Change::Map { mfn, kind, limit, .. } =>
                        p2m.map_range(&memory, &mut pool, first, Mfn::new(mfn + done), count - done, kind, limit),
                    Change::Unmap { limit, .. } => p2m.unmap_range(&memory, &mut pool, first, count - done, limit),
                };
                if gfn + count > 1 << 28 {
                    prop_assert_eq!(outcome.unwrap_err(), P2mError::OutOfRange);
                    break;
                }
                let step = outcome.unwrap();
                let part = step.done;
                prop_assert!(part > 0, "each call gets on");
                let mut expected = Vec::new();
                let mut gone = Vec::new();
                for past in done..done + part {
                    let new = wanted.map(|(mfn, kind)| (mfn + past, kind));
                    let old = match new {
                        Some(new) => model.insert(gfn + past, new),
                        None => model.remove(&(gfn + past)),
                    };
                    if let Some(old) = old.filter(|old| Some(*old) != new) {
                        gone.push(gfn + past);
                        if old.1.holds_frame() {
                            expected.push(old);
                        }
                    }
                }
                prop_assert_eq!(released_frames(carry_out(&memory, step, &gone)), expected);
                done += part;
                rounds += 1;
                prop_assert!(rounds <= 3 * count + 3);
            }
            for probe in [gfn, gfn + 1, gfn + count - 1, gfn + count, gfn.saturating_sub(1), gfn ^ 512] {
                let found = p2m.lookup(&memory, Gfn::new(probe)).map(|found| (found.mfn.number(), found.kind));
                prop_assert_eq!(found, model.get(&probe).copied(), "frame {:#x}", probe);
            }
        }
        for (gfn, wanted) in model.iter().step_by(97) {
            let found = p2m.lookup(&memory, Gfn::new(*gfn)).map(|found| (found.mfn.number(), found.kind));
            prop_assert_eq!(found, Some(*wanted));
        }
        let mut expected: Vec<_> = model.values().copied().filter(|(_, kind)| kind.holds_frame()).collect();
        let mut left = Vec::new();
        while !p2m.teardown(&memory, &mut pool, 100, |run| {
            left.extend((0..run.count).map(|past| (run.first.number() + past, run.kind)));
        }) {}
        expected.sort_by_key(|(mfn, kind)| (*mfn, *kind as u8));
        left.sort_by_key(|(mfn, kind)| (*mfn, *kind as u8));
        prop_assert_eq!(left, expected);
        prop_assert_eq!(p2m.tables(), 0);
        prop_assert_eq!(p2m.close(), Some((ROOT, 2)));
        prop_assert_eq!(p2m.close(), None);
        prop_assert_eq!(p2m.lookup(&memory, Gfn::new(0)), None);
        prop_assert!(pool.out.is_empty());
    }
}

fn empty() -> (FakeMemory, Pool, P2m) {
    let memory = FakeMemory::default();
    let pool = Pool::new(1000);
    let p2m = P2m::new(&memory, ROOT, Contents::Dirty, P2mConfig::new(40));
    (memory, pool, p2m)
}

#[test]
fn a_gibibyte_takes_one_entry_and_a_single_unmapping_breaks_it_once() {
    let (memory, mut pool, mut p2m) = empty();
    let (gfn, mfn) = (Gfn::new(1 << 18), Mfn::new(3 << 18));
    let step = p2m.map_range(&memory, &mut pool, gfn, mfn, 1 << 18, Kind::RamRw, 16).unwrap();
    assert_eq!((step.done, step.flush.stale()), (1 << 18, Stale::Written));
    assert_eq!(released_frames(carry_out(&memory, step, &[])), []);
    assert_eq!(p2m.tables(), 0, "the root itself maps it");

    let hole = Gfn::new((1 << 18) + 12_345);
    let step = p2m.unmap_range(&memory, &mut pool, hole, 1, 16).unwrap();
    let whole = Stale::Range { first: gfn, count: 1 << 18, order: 18 };
    assert_eq!((step.done, step.flush.stale()), (1, whole));
    assert_eq!(p2m.lookup(&memory, gfn), None, "nothing is mapped until the flush is done");
    let released = carry_out(&memory, step, &[hole.number()]);
    assert_eq!(released_frames(released), [((3 << 18) + 12_345, Kind::RamRw)]);
    assert_eq!(p2m.tables(), 2);
    assert_eq!(p2m.lookup(&memory, hole), None);
    let found = p2m.lookup(&memory, Gfn::new(hole.number() + 1)).unwrap();
    assert_eq!((found.mfn.number(), found.order), ((3 << 18) + 12_346, 0));
    let found = p2m.lookup(&memory, Gfn::new((1 << 18) + 20_000)).unwrap();
    assert_eq!((found.mfn.number(), found.order), ((3 << 18) + 20_000, 9));
}

#[test]
fn a_table_that_cannot_be_had_leaves_everything_as_it_was() {
    let (memory, mut pool, mut p2m) = empty();
    let (gfn, mfn) = (Gfn::new(1 << 18), Mfn::new(3 << 18));
    let step = p2m.map_range(&memory, &mut pool, gfn, mfn, 1 << 18, Kind::RamRw, 16).unwrap();
    assert_eq!(released_frames(carry_out(&memory, step, &[])), []);
    pool.left = 1;
    let refused = p2m.unmap_range(&memory, &mut pool, Gfn::new((1 << 18) + 5), 1, 16);
    assert_eq!(refused.unwrap_err(), P2mError::NoMemory);
    assert_eq!(pool.left, 1, "the table made in vain was given back");
    p2m.set_table_limit(1);
    pool.left = 100;
    let refused = p2m.unmap_range(&memory, &mut pool, Gfn::new((1 << 18) + 5), 1, 16);
    assert_eq!(refused.unwrap_err(), P2mError::NoMemory);
    assert_eq!(p2m.lookup(&memory, gfn).unwrap().order, 18);
}

#[test]
fn replacing_a_frame_writes_the_new_entry_after_the_flush() {
    let (memory, mut pool, mut p2m) = empty();
    let gfn = Gfn::new(7);
    let step = p2m.map_range(&memory, &mut pool, gfn, Mfn::new(100), 1, Kind::RamRw, 1).unwrap();
    assert_eq!(released_frames(carry_out(&memory, step, &[])), []);
    let step = p2m.map_range(&memory, &mut pool, gfn, Mfn::new(200), 1, Kind::Shared, 1).unwrap();
    assert_eq!(p2m.lookup(&memory, gfn), None);
    assert_eq!(released_frames(carry_out(&memory, step, &[7])), [(100, Kind::RamRw)]);
    assert_eq!(p2m.lookup(&memory, gfn).unwrap().mfn, Mfn::new(200));
}

#[test]
fn mapping_the_same_again_changes_nothing() {
    let (memory, mut pool, mut p2m) = empty();
    for expected in [Stale::Written, Stale::Nothing] {
        let step = p2m
            .map_range(&memory, &mut pool, Gfn::new(512), Mfn::new(512), 600, Kind::DirectIo, 200)
            .unwrap();
        assert_eq!((step.done, step.flush.stale()), (600, expected));
        assert_eq!(released_frames(carry_out(&memory, step, &[])), []);
    }
    assert_eq!(p2m.max_mapped(), Some(Gfn::new(1111)));
}

#[test]
fn frames_outside_the_address_space_are_refused_and_hold_nothing() {
    let (memory, mut pool, mut p2m) = empty();
    let end = 1 << 28;
    for (gfn, count) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (0, 0), (1, u64::MAX)] {
        let refused = p2m
            .map_range(&memory, &mut pool, Gfn::new(gfn), Mfn::new(0), count, Kind::RamRw, 9)
            .unwrap_err();
        assert_eq!(refused, P2mError::OutOfRange);
        let refused = p2m.unmap_range(&memory, &mut pool, Gfn::new(gfn), count, 9).unwrap_err();
        assert_eq!(refused, P2mError::OutOfRange);
    }
    let far = Mfn::new(u64::MAX);
    let refused = p2m.map_range(&memory, &mut pool, Gfn::new(0), far, 1, Kind::RamRw, 9);
    assert_eq!(refused.unwrap_err(), P2mError::OutOfRange);
    assert_eq!(p2m.lookup(&memory, Gfn::new(u64::MAX)), None);
}

#[test]
fn the_root_has_the_shape_that_vtcr_says() {
    let shape = |bits| (P2mConfig::new(bits).start_level, P2mConfig::new(bits).root_order());
    assert_eq!(shape(32), (2, 2));
    assert_eq!(shape(39), (1, 0));
    assert_eq!(shape(40), (1, 1));
    assert_eq!(shape(43), (1, 4));
    assert_eq!(shape(44), (0, 0));
    assert_eq!(shape(48), (0, 0));
    for bits in [32, 36, 40, 44, 48] {
        let memory = FakeMemory::default();
        let mut pool = Pool::new(100);
        let mut p2m = P2m::new(&memory, ROOT, Contents::Dirty, P2mConfig::new(bits));
        let last = Gfn::new((1 << (bits - 12)) - 1);
        let step = p2m.map_range(&memory, &mut pool, last, Mfn::new(5), 1, Kind::RamRw, 1).unwrap();
        assert_eq!(released_frames(carry_out(&memory, step, &[])), []);
        assert_eq!(p2m.lookup(&memory, last).unwrap().mfn, Mfn::new(5));
        assert_eq!(p2m.lookup(&memory, Gfn::new(last.number() - 1)), None);
    }
}
