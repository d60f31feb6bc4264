//! `GrantTable` against a naive model: one list of uses, and each entry as its bits.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use hv_core::{
    addr::{Gfn, MachineAddr, Mfn},
    fake::FakeMemory,
    grant::{Access, GrantError, GrantTable, Limits, Mapping, Released, Search},
    ids::{DomId, GrantRef},
    memory::{FrameMemory, Words},
};
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const FRAMES: [Mfn; 2] = [Mfn::new(0x4_0000), Mfn::new(0x4_0009)];
const ENTRIES: u32 = 1024;
const READING: u32 = 1 << 3;
const WRITING: u32 = 1 << 4;
const READ_ONLY: u32 = 1 << 2;
/// Guest frames from here on are no memory of the granter's.
const NO_RAM: u64 = 0x100;

#[derive(Clone, Debug)]
enum Step {
    /// The guest writes an entry.
    Write {
        grant: u32,
        low: u32,
        frame: u32,
    },
    Acquire {
        by: u16,
        grant: u32,
        access: Access,
    },
    /// Ends one of the uses there are.
    Release {
        pick: usize,
    },
    Swap {
        left: u32,
        right: u32,
    },
}

fn grant() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..6_u32, 4 => 510..515_u32, 1 => ENTRIES - 2..ENTRIES + 2, 1 => any::<u32>()]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write)]
}

fn low() -> impl Strategy<Value = u32> {
    let flags = prop_oneof![4 => Just(1), 2 => Just(5), 1 => 0..32_u32, 1 => any::<u32>()];
    (flags, 0..3_u32).prop_map(|(flags, dom)| flags & 0xffff | dom << 16)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (grant(), low(), 0..0x120_u32)
            .prop_map(|(grant, low, frame)| Step::Write { grant, low, frame }),
        6 => (0..3_u16, grant(), access())
            .prop_map(|(by, grant, access)| Step::Acquire { by, grant, access }),
        4 => any::<usize>().prop_map(|pick| Step::Release { pick }),
        1 => (grant(), grant()).prop_map(|(left, right)| Step::Swap { left, right }),
    ]
}

fn at(grant: u32) -> MachineAddr {
    let frame = FRAMES[(grant / 512) as usize];
    MachineAddr::new(frame.base().raw() + u64::from(grant % 512) * 8)
}

/// The frame the granter has at guest frame `gfn`.
const fn behind(gfn: u64) -> Mfn {
    Mfn::new(0x9_0000 + gfn)
}

#[derive(Clone, Copy, Debug)]
struct Use {
    by: u16,
    grant: u32,
    access: Access,
}

#[derive(Default)]
struct Model {
    uses: Vec<Use>,
    /// The frame behind each entry in use: a reference to it is held.
    frames: BTreeMap<u32, Mfn>,
}

impl Model {
    fn count(&self, grant: u32, access: Access) -> usize {
        self.uses.iter().filter(|one| one.grant == grant && one.access == access).count()
    }

    /// Says what an acquire answers, and what becomes of the entry's low half.
    fn acquire(
        &self,
        by: u16,
        grant: u32,
        access: Access,
        low: u32,
        frame: u64,
    ) -> Result<u32, GrantError> {
        let user = self.uses.iter().find(|one| one.grant == grant).map(|one| one.by);
        let writers = self.count(grant, Access::Write);
        if user.is_some_and(|user| user != by) {
            return Err(GrantError::General);
        }
        if user.is_some() && (access == Access::Read || writers > 0) {
            return Ok(low);
        }
        let granted = low & 0x103 == 1 && low >> 16 == u32::from(by);
        if (user.is_none() && !granted) || (access == Access::Write && low & READ_ONLY != 0) {
            return Err(GrantError::General);
        }
        if user.is_none() && frame >= NO_RAM {
            return Err(GrantError::BadPage);
        }
        Ok(low | READING | if access == Access::Write { WRITING } else { 0 })
    }
}

struct World {
    memory: FakeMemory,
    table: GrantTable<Arc<Words>>,
    model: Model,
}

impl World {
    fn new() -> Self {
        let memory = FakeMemory::default();
        let mut table = GrantTable::new(Limits::GUEST);
        for frame in FRAMES {
            let uses = [1, 2].map(|past| memory.own(Mfn::new(frame.number() + past)));
            table.add_frame(frame, uses);
        }
        Self { memory, table, model: Model::default() }
    }

    fn low(&self, grant: u32) -> u32 {
        self.memory.load_u32(at(grant))
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Write { grant, low, frame } => {
                if grant < ENTRIES {
                    let value = u64::from(low) | u64::from(frame) << 32;
                    self.memory.store_u64(at(grant), value);
                }
            }
            Step::Acquire { by, grant, access } => self.acquire(by, grant, access),
            Step::Release { pick } => self.release(pick),
            Step::Swap { left, right } => self.swap(left, right),
        }
    }

    fn acquire(&mut self, by: u16, grant: u32, access: Access) {
        let before = (grant < ENTRIES).then(|| self.memory.load_u64(at(grant)));
        let mut took = None;
        let outcome = self.table.acquire(&self.memory, DomId(by), GrantRef(grant), access, |gfn| {
            if gfn.number() >= NO_RAM {
                return Err(GrantError::BadPage);
            }
            took = Some(behind(gfn.number()));
            Ok(behind(gfn.number()))
        });
        let Some(before) = before else {
            assert_eq!(outcome, Err(GrantError::BadGrantRef));
            return;
        };
        let low = u32::try_from(before & 0xffff_ffff).unwrap();
        let after = self.low(grant);
        match (outcome, self.model.acquire(by, grant, access, low, before >> 32)) {
            (Ok(mfn), Ok(expected)) => {
                assert_eq!(after, expected);
                let first = self.model.uses.iter().all(|one| one.grant != grant);
                assert_eq!(took.is_some(), first, "a reference is taken once");
                if first {
                    self.model.frames.insert(grant, mfn);
                }
                assert_eq!(self.model.frames.get(&grant), Some(&mfn));
                self.model.uses.push(Use { by, grant, access });
            }
            (Err(error), Err(expected)) => {
                assert_eq!(error, expected);
                assert_eq!(took, None);
                let cleared = if error == GrantError::BadPage { READING | WRITING } else { 0 };
                assert_eq!(after, low & !cleared);
            }
            (outcome, expected) => panic!("{outcome:?} is not {expected:?}"),
        }
    }

    fn release(&mut self, pick: usize) {
        if self.model.uses.is_empty() {
            return;
        }
        let one = self.model.uses.swap_remove(pick % self.model.uses.len());
        let low = self.low(one.grant);
        let released = self.table.release(&self.memory, GrantRef(one.grant), one.access);
        let writers = self.model.count(one.grant, Access::Write);
        let users = writers + self.model.count(one.grant, Access::Read);
        let mut expected = low;
        if users == 0 {
            let mfn = self.model.frames.remove(&one.grant).unwrap();
            assert_eq!(released, Released::Last(mfn));
            expected &= !(READING | WRITING);
        } else {
            assert_eq!(released, Released::InUse);
            if writers == 0 && one.access == Access::Write {
                expected &= !WRITING;
            }
        }
        assert_eq!(self.low(one.grant), expected);
    }

    fn swap(&mut self, left: u32, right: u32) {
        let outcome = self.table.swap(&self.memory, GrantRef(left), GrantRef(right));
        if left >= ENTRIES || right >= ENTRIES {
            assert_eq!(outcome, Err(GrantError::BadGrantRef));
            return;
        }
        let is_used = |grant| self.model.uses.iter().any(|one| one.grant == grant);
        let busy = left != right && (is_used(left) || is_used(right));
        assert_eq!(outcome, if busy { Err(GrantError::TryAgain) } else { Ok(()) });
    }
}

#[derive(Clone, Debug)]
enum Handle {
    Insert { gfn: u64, mfn: u64, works: bool },
    Remove { handle: u32, gfn: u64, works: bool },
    Find { mfn: u64, budget: u32 },
    TakeAny,
}

fn handle() -> impl Strategy<Value = Handle> {
    prop_oneof![
        4 => (0..8_u64, 0..8_u64, prop::bool::weighted(0.8))
            .prop_map(|(gfn, mfn, works)| Handle::Insert { gfn, mfn, works }),
        3 => (prop_oneof![9 => 0..300_u32, 1 => any::<u32>()], 0..8_u64, prop::bool::weighted(0.8))
            .prop_map(|(handle, gfn, works)| Handle::Remove { handle, gfn, works }),
        1 => (0..9_u64, 1..200_u32).prop_map(|(mfn, budget)| Handle::Find { mfn, budget }),
        1 => Just(Handle::TakeAny),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_use_and_every_flag_is_as_the_model_says(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        prop_assert_eq!(world.table.uses(), world.model.uses.len() as u64);
        while !world.model.uses.is_empty() {
            world.release(0);
        }
        prop_assert_eq!(world.table.uses(), 0);
        prop_assert!(world.model.frames.is_empty(), "every reference was given back");
    }

    #[test]
    fn every_handle_is_one_mapping(steps in prop::collection::vec(handle(), 1..400)) {
        let memory = FakeMemory::default();
        let mut table = GrantTable::new(Limits { frames: 1, maptrack_frames: 1 });
        let mut model: BTreeMap<u32, Mapping> = BTreeMap::new();
        for step in &steps {
            match *step {
                Handle::Insert { gfn, mfn, works } => {
                    let mapping = Mapping {
                        dom: DomId(1),
                        grant: GrantRef(3),
                        access: Access::Read,
                        gfn: Gfn::new(gfn),
                        mfn: Mfn::new(mfn),
                    };
                    let made = || if works { Ok(()) } else { Err(GrantError::General) };
                    if table.needs_handles() {
                        table.add_handles(memory.own(Mfn::new(0x9_0000)));
                    }
                    match table.insert(mapping, made) {
                        Ok((handle, ())) => {
                            prop_assert!(works && model.insert(handle, mapping).is_none());
                        }
                        Err(GrantError::NoSpace) => prop_assert_eq!(model.len(), 256),
                        Err(error) => prop_assert!(!works && error == GrantError::General),
                    }
                }
                Handle::Remove { handle, gfn, works } => {
                    let undo = |_| if works { Ok(()) } else { Err(GrantError::General) };
                    let outcome = table.remove(handle, Gfn::new(gfn), undo);
                    let expected = match model.get(&handle) {
                        None => Err(GrantError::BadHandle),
                        Some(one) if one.gfn != Gfn::new(gfn) || !works => Err(GrantError::General),
                        Some(one) => Ok((*one, ())),
                    };
                    prop_assert_eq!(outcome, expected);
                    if outcome.is_ok() {
                        model.remove(&handle);
                    }
                }
                Handle::Find { mfn, budget } => {
                    let mut from = 0;
                    let found = loop {
                        match table.find_mapping(Mfn::new(mfn), from, budget) {
                            Search::Found => break true,
                            Search::Absent => break false,
                            Search::From(next) => from = next,
                        }
                    };
                    prop_assert_eq!(found, model.values().any(|one| one.mfn == Mfn::new(mfn)));
                }
                Handle::TakeAny => {
                    let first = model.pop_first().map(|(_, mapping)| mapping);
                    prop_assert_eq!(table.take_mapping(), first);
                }
            }
            prop_assert_eq!(table.mappings() as usize, model.len());
        }
    }
}
