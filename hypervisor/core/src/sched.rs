//! The scheduler: which virtual processor runs where, and until when.
//!
//! Weighted fair sharing over a queue per processor. Each virtual processor has a *virtual runtime*
//! that grows with the time it runs, the slower the heavier its domain; the one with the least goes
//! next. Domains may be capped, virtual processors bound to processors. There is no tick: each
//! decision says until when it holds. The run loop carries the decisions out and sends the kicks.

pub mod affinity;
mod cap;
mod confine;
mod fairness;
mod placement;
pub mod pool;
pub mod runstate;

use crate::ids::{CpuId, DomId, VcpuRef};
use crate::time::Nanos;
use affinity::CpuSet;
use alloc::vec::Vec;
use bitflags::bitflags;
use cap::Cap;
use pool::{PoolId, Pools};
use runstate::{Clock, RunState, Runstate};

/// Weight of a domain nobody gave another (credit2's default).
pub const DEFAULT_WEIGHT: u16 = 256;

bitflags! {
    /// Why a virtual processor cannot run. It can when no reason is left.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Hold: u8 {
        /// It waits for an interrupt or an event.
        const BLOCKED = 1 << 0;
        /// It is switched off (PSCI), or not yet switched on.
        const DOWN = 1 << 1;
        /// It or its domain is paused.
        const PAUSED = 1 << 2;
        /// Its domain has shut down.
        const SHUTDOWN = 1 << 3;
        /// Its domain is being destroyed.
        const DYING = 1 << 4;
    }
}

/// A virtual processor's place in the scheduler, valid until it is removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SchedId {
    index: u32,
    /// Tells it from those that had the place before: a late wake must not reach who has it now.
    generation: u32,
}

impl SchedId {
    const fn index(self) -> usize {
        self.index as usize
    }
}

/// A processor that has to decide anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the processor goes on as it was unless it is told"]
pub enum Kick {
    /// None has to.
    Nobody,
    /// This one has to.
    Cpu(CpuId),
}

impl Kick {
    /// Returns the processor that has to look, as a set.
    pub const fn cpus(self) -> CpuSet {
        match self {
            Self::Nobody => CpuSet::NONE,
            Self::Cpu(cpu) => CpuSet::only(cpu),
        }
    }
}

/// What a processor does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the decision stands already: the processor must follow it"]
pub struct Decision {
    /// What to run; nothing means idle.
    pub run: Option<Chosen>,
    /// With nothing to run: whether what ran last may stay in the processor's registers, because it
    /// only waits for an interrupt and will most likely come back here.
    pub keep: bool,
    /// When to decide again at the latest.
    pub until: Nanos,
    /// An idle processor that could take what still waits here.
    pub help: Kick,
}

/// A virtual processor chosen to run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Chosen {
    /// Its place in the scheduler.
    pub id: SchedId,
    /// Which it is.
    pub who: VcpuRef,
}

/// A domain's share (`struct xen_domctl_sched_credit2`, `public/domctl.h`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// Relative weight, 1–65535.
    pub weight: u16,
    /// Most it may use, in percent of one processor; 0 is no limit.
    pub cap: u16,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: DEFAULT_WEIGHT, cap: 0 }
    }
}

#[derive(Clone, Debug)]
struct Entity {
    who: VcpuRef,
    /// Where its domain's share is among the groups.
    group: usize,
    generation: u32,
    holds: Hold,
    hard: CpuSet,
    soft: CpuSet,
    /// Where it may run: `hard`, as far as it lies in its domain's pool.
    allowed: CpuSet,
    /// The processor whose queue it belongs to.
    cpu: CpuId,
    /// The queue it is in: that of `cpu` while it can run.
    queued: Option<CpuId>,
    /// The processor that holds its registers: nobody else may run it until they are saved.
    loaded: Option<CpuId>,
    running: bool,
    vruntime: u64,
    charged_until: Nanos,
    clock: Clock,
}

impl Entity {
    fn may_run(&self) -> bool {
        self.holds.is_empty()
    }

    /// Says whether `cpu` may run it, as far as it itself is concerned.
    fn is_free_for(&self, cpu: CpuId) -> bool {
        let free = !self.running && self.loaded.is_none_or(|holder| holder == cpu);
        free && self.may_run() && self.allowed.contains(cpu)
    }

    fn rest_state(&self) -> RunState {
        if self.holds.is_empty() {
            RunState::Runnable
        } else if self.holds == Hold::BLOCKED {
            RunState::Blocked
        } else {
            RunState::Offline
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Cpu {
    running: Option<SchedId>,
    /// What it ran last and whose registers it still has.
    loaded: Option<SchedId>,
    /// What belongs to it and can run, the running one included; who came first is first.
    queue: Vec<SchedId>,
    /// Since when it has been running that one.
    since: Nanos,
    /// Until when it runs that one whoever else waits, unless that has nothing to do or yields.
    protected_until: Nanos,
    /// How long what it begins to run is protected at least.
    rate_limit: Nanos,
    /// Never goes back: where newcomers to this queue start.
    min_vruntime: u64,
    idle_since: Nanos,
    idle: Nanos,
}

/// What the virtual processors of one domain share.
#[derive(Clone, Debug)]
struct Group {
    dom: DomId,
    share: Share,
    cap: Cap,
    members: u32,
}

/// All run queues and what is in them.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    entities: Vec<Option<Entity>>,
    cpus: Vec<Cpu>,
    online: CpuSet,
    /// Those of them that run nothing.
    idle: CpuSet,
    groups: Vec<Option<Group>>,
    pools: Pools,
    generation: u32,
}

impl Scheduler {
    /// Creates a scheduler for `cpus` processors, none of them online yet.
    pub fn new(cpus: usize) -> Self {
        Self { cpus: alloc::vec![Cpu::default(); cpus], ..Self::default() }
    }

    /// Lets `cpu` run virtual processors from `now` on.
    pub fn bring_up(&mut self, cpu: CpuId, now: Nanos) {
        if let Some(state) = self.cpus.get_mut(cpu.index()) {
            state.idle_since = now;
            self.online = self.online | CpuSet::only(cpu);
            self.idle = self.idle | CpuSet::only(cpu);
        }
        let online = self.online;
        // It was in no pool before, unless it comes up a second time, which changes nothing.
        let _: Result<(), pool::PoolError> = self.pools.give(PoolId::BOOT, Some(cpu), online);
        self.confine_cpus();
        self.confine_all();
    }

    /// Returns the processors that run virtual processors.
    pub fn online(&self) -> CpuSet {
        self.online
    }

    /// Returns how many virtual processors there are.
    pub fn count(&self) -> usize {
        self.entities.iter().flatten().count()
    }

    /// Makes room for `count` more virtual processors of one domain; says whether there was memory for
    /// it.
    pub fn make_room(&mut self, count: usize) -> bool {
        let free = self.entities.len() - self.count();
        let places = self.count().saturating_add(count);
        let groups_free = self.groups.iter().any(Option::is_none);
        self.entities.try_reserve(count.saturating_sub(free)).is_ok()
            && (groups_free || self.groups.try_reserve(1).is_ok())
            && self.cpus.iter_mut().all(|cpu| {
                // They may all come to one queue, where nobody could say that there is no memory.
                cpu.queue.try_reserve(places.saturating_sub(cpu.queue.len())).is_ok()
            })
    }

    /// Takes in a virtual processor, held for `holds`.
    pub fn add(&mut self, who: VcpuRef, holds: Hold, now: Nanos) -> SchedId {
        let allowed = self.pools.cpus_of(who.dom);
        let cpu = self.least_loaded(allowed);
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let group = self.join(who.dom);
        let entity = Entity {
            who,
            group,
            generation,
            holds,
            hard: CpuSet::ALL,
            soft: CpuSet::ALL,
            allowed,
            cpu,
            queued: None,
            loaded: None,
            running: false,
            vruntime: self.min_vruntime(cpu),
            charged_until: now,
            clock: Clock::new(RunState::Offline, now),
        };
        let free = self.entities.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.entities.push(None);
            self.entities.len() - 1
        });
        if let Some(slot) = self.entities.get_mut(index) {
            *slot = Some(entity);
        }
        let index = u32::try_from(index).expect("virtual processors are fewer than 2^32");
        let id = SchedId { index, generation };
        if let Some(entity) = self.entity_mut(id) {
            let state = entity.rest_state();
            entity.clock.enter(state, now);
        }
        self.requeue(id);
        id
    }

    /// Forgets a virtual processor that holds no processor any more.
    ///
    /// Returns false, with nothing done, while its registers are still in one.
    pub fn remove(&mut self, id: SchedId) -> bool {
        let Some(slot) = self.entities.get_mut(id.index()) else { return true };
        let Some(entity) = slot.as_ref().filter(|entity| entity.generation == id.generation) else {
            return true;
        };
        if entity.loaded.is_some() || entity.running {
            return false;
        }
        let (group, queued) = (entity.group, entity.queued);
        *slot = None;
        self.leave(id, queued);
        if let Some(place) = self.groups.get_mut(group) {
            *place = place.take().filter(|group| group.members > 1);
            if let Some(group) = place {
                group.members -= 1;
            }
        }
        true
    }

    /// Adds a member to the group of `dom`, which there is from the first on; returns where it is.
    fn join(&mut self, dom: DomId) -> usize {
        if let Some(place) = self.place_of(dom) {
            if let Some(group) = self.group_mut(place) {
                group.members += 1;
            }
            return place;
        }
        let fresh = Group { dom, share: Share::default(), cap: Cap::default(), members: 1 };
        match self.groups.iter().position(Option::is_none) {
            Some(place) => {
                if let Some(free) = self.groups.get_mut(place) {
                    *free = Some(fresh);
                }
                place
            }
            None => {
                self.groups.push(Some(fresh));
                self.groups.len() - 1
            }
        }
    }

    fn place_of(&self, dom: DomId) -> Option<usize> {
        self.groups.iter().position(|group| group.as_ref().is_some_and(|group| group.dom == dom))
    }

    fn group_mut(&mut self, place: usize) -> Option<&mut Group> {
        self.groups.get_mut(place)?.as_mut()
    }

    /// Adds reasons not to run. The kick is for the processor that runs it or has its registers.
    pub fn hold(&mut self, id: SchedId, holds: Hold, now: Nanos) -> Kick {
        let Some(entity) = self.entity_mut(id) else { return Kick::Nobody };
        entity.holds |= holds;
        let kick = if entity.running {
            Kick::Cpu(entity.cpu)
        } else {
            let state = entity.rest_state();
            entity.clock.enter(state, now);
            // An idle processor that keeps its registers has to give them up.
            entity.loaded.map_or(Kick::Nobody, Kick::Cpu)
        };
        self.requeue(id);
        kick
    }

    /// Takes reasons not to run away; with the last one gone it wakes.
    pub fn release(&mut self, id: SchedId, holds: Hold, now: Nanos) -> Kick {
        let Some(entity) = self.entity_mut(id) else { return Kick::Nobody };
        let could_run = entity.may_run();
        entity.holds -= holds;
        let wakes = !could_run && entity.may_run() && !entity.running;
        if !entity.running {
            let state = entity.rest_state();
            entity.clock.enter(state, now);
        }
        self.requeue(id);
        if wakes { self.wake(id, now) } else { Kick::Nobody }
    }

    /// Returns why a virtual processor does not run.
    pub fn holds(&self, id: SchedId) -> Hold {
        self.entity(id).map_or(Hold::empty(), |entity| entity.holds)
    }

    /// Says whether a processor is still busy with a virtual processor or has its registers.
    pub fn is_loaded(&self, id: SchedId) -> bool {
        self.entity(id).is_some_and(|entity| entity.running || entity.loaded.is_some())
    }

    /// Lets others of the same processor go first.
    pub fn yield_now(&mut self, id: SchedId, now: Nanos) {
        self.charge(id, now);
        let Some(cpu) = self.entity(id).map(|entity| entity.cpu) else { return };
        if let Some(state) = self.cpus.get_mut(cpu.index()) {
            // It gives its time away, the protected too.
            state.protected_until = now;
        }
        let last = self.queued(cpu).map(|other| other.vruntime).max();
        if let (Some(entity), Some(last)) = (self.entity_mut(id), last) {
            entity.vruntime = entity.vruntime.max(last.saturating_add(1));
        }
    }

    /// Decides what `cpu` does next. What it ran so far goes back to the queue, still loaded.
    pub fn schedule(&mut self, cpu: CpuId, now: Nanos) -> Decision {
        let before = self.put_back(cpu, now);
        let protected = self.cpus.get(cpu.index()).is_some_and(|state| now < state.protected_until);
        let best = before
            .filter(|id| protected && self.eligible(*id, cpu, now))
            .or_else(|| self.best_of(cpu, now))
            .or_else(|| self.steal_for(cpu, now));
        let min = self.min_vruntime(cpu);
        let chosen = best.and_then(|id| Some((id, self.entities.get_mut(id.index())?.as_mut()?)));
        let Some((id, entity)) = chosen else {
            self.idle = self.idle | (CpuSet::only(cpu) & self.online);
            let (keep, until) = (self.may_keep(cpu), self.next_refill(cpu));
            return Decision { run: None, keep, until, help: Kick::Nobody };
        };
        entity.loaded = Some(cpu);
        entity.running = true;
        entity.charged_until = now;
        entity.clock.enter(RunState::Running, now);
        let chosen = Chosen { id, who: entity.who };
        let vruntime = entity.vruntime;
        if let Some(state) = self.cpus.get_mut(cpu.index()) {
            if before != Some(id) {
                state.since = now;
                state.protected_until = now + state.rate_limit;
            } else if !protected {
                state.since = now;
            }
            state.running = Some(id);
            state.loaded = Some(id);
            state.min_vruntime = min.max(vruntime);
            state.idle = state.idle + (now - state.idle_since);
        }
        self.idle = self.idle - CpuSet::only(cpu);
        let until = self.slice_end(cpu, id, now);
        Decision { run: Some(chosen), keep: false, until, help: self.help_for(cpu) }
    }

    /// Notes that `cpu` has saved the registers of a virtual processor it no longer runs.
    ///
    /// If it can run, the kick is for a processor that had to leave it alone until now.
    pub fn saved(&mut self, id: SchedId, now: Nanos) -> Kick {
        let Some(entity) = self.entity_mut(id) else { return Kick::Nobody };
        let holder = entity.loaded.take();
        let wakes = !entity.running && entity.may_run();
        if let Some(state) = holder.and_then(|cpu| self.cpus.get_mut(cpu.index()))
            && state.loaded == Some(id)
        {
            state.loaded = None;
        }
        // In the queue of the processor that gives it up, which has decided in view of it, it may stay.
        let stays = holder.is_some_and(|cpu| self.is_at_home(id, cpu));
        if wakes && !stays { self.wake(id, now) } else { Kick::Nobody }
    }

    /// Binds a virtual processor: never run outside `hard`, rather run inside `soft`.
    ///
    /// Refuses, by returning nothing, a `hard` set without a processor of its domain's pool.
    pub fn set_affinity(
        &mut self,
        id: SchedId,
        hard: CpuSet,
        soft: CpuSet,
        now: Nanos,
    ) -> Option<Kick> {
        let allowed = hard & self.pools.cpus_of(self.entity(id)?.who.dom);
        if allowed.is_empty() {
            return None;
        }
        let entity = self.entity_mut(id)?;
        entity.hard = hard;
        entity.soft = soft;
        Some(self.restrict(id, allowed, now))
    }

    /// Returns the hard and the soft affinity of a virtual processor.
    pub fn affinity(&self, id: SchedId) -> (CpuSet, CpuSet) {
        self.entity(id).map_or((CpuSet::ALL, CpuSet::ALL), |entity| (entity.hard, entity.soft))
    }

    /// Returns the processor a virtual processor runs or last ran on.
    pub fn cpu_of(&self, id: SchedId) -> CpuId {
        self.entity(id).map_or(CpuId(0), |entity| entity.cpu)
    }

    /// Returns the share of a domain.
    pub fn share(&self, dom: DomId) -> Share {
        let mut groups = self.groups.iter().flatten();
        groups.find(|group| group.dom == dom).map(|group| group.share).unwrap_or_default()
    }

    /// Sets the share of a domain that has virtual processors. A weight of 0 counts as 1.
    pub fn set_share(&mut self, dom: DomId, share: Share, now: Nanos) {
        for index in 0..self.entities.len() {
            if let Some((id, _)) = self.at(index).filter(|(_, of)| *of == dom) {
                self.charge(id, now);
            }
        }
        if let Some(group) = self.place_of(dom).and_then(|place| self.group_mut(place)) {
            group.share = Share { weight: share.weight.max(1), ..share };
            group.cap.set(share.cap, now);
        }
    }

    /// Returns how long a virtual processor has been in each state.
    pub fn runstate(&self, id: SchedId, now: Nanos) -> Runstate {
        self.entity(id).map_or_else(Runstate::default, |entity| entity.clock.read(now))
    }

    /// Returns how long `cpu` has had nothing to run.
    pub fn idle_time(&self, cpu: CpuId, now: Nanos) -> Nanos {
        self.cpus.get(cpu.index()).map_or(Nanos(0), |state| {
            if self.idle.contains(cpu) { state.idle + (now - state.idle_since) } else { state.idle }
        })
    }

    /// Returns who has a place, and whose it is.
    fn at(&self, index: usize) -> Option<(SchedId, DomId)> {
        let entity = self.entities.get(index)?.as_ref()?;
        let generation = entity.generation;
        Some((SchedId { index: u32::try_from(index).ok()?, generation }, entity.who.dom))
    }

    fn entity(&self, id: SchedId) -> Option<&Entity> {
        entity_of(&self.entities, id)
    }

    fn entity_mut(&mut self, id: SchedId) -> Option<&mut Entity> {
        let entity = self.entities.get_mut(id.index())?.as_mut()?;
        (entity.generation == id.generation).then_some(entity)
    }

    fn min_vruntime(&self, cpu: CpuId) -> u64 {
        self.cpus.get(cpu.index()).map_or(0, |state| state.min_vruntime)
    }

    /// Takes back what `cpu` ran, and returns it.
    fn put_back(&mut self, cpu: CpuId, now: Nanos) -> Option<SchedId> {
        let state = self.cpus.get_mut(cpu.index())?;
        let Some(id) = state.running.take() else {
            state.idle = state.idle + (now - state.idle_since);
            state.idle_since = now;
            return None;
        };
        state.idle_since = now;
        self.charge(id, now);
        if let Some(entity) = self.entity_mut(id) {
            entity.running = false;
            let rest = entity.rest_state();
            entity.clock.enter(rest, now);
        }
        Some(id)
    }
}

/// Returns who has a place, unless it is another by now.
fn entity_of(entities: &[Option<Entity>], id: SchedId) -> Option<&Entity> {
    entities.get(id.index())?.as_ref().filter(|entity| entity.generation == id.generation)
}

#[cfg(test)]
mod tests {
    use super::fairness::{SLICE, SLICE_AMONG_SIBLINGS};
    use super::*;
    use crate::ids::VcpuId;
    use hashbrown::HashMap;

    const CPU0: CpuId = CpuId(0);
    const CPU1: CpuId = CpuId(1);

    fn vcpu(dom: u16, vcpu: u32) -> VcpuRef {
        VcpuRef { dom: DomId(dom), vcpu: VcpuId(vcpu) }
    }

    fn scheduler(cpus: u32) -> Scheduler {
        let mut scheduler = Scheduler::new(cpus as usize);
        for cpu in 0..cpus {
            scheduler.bring_up(CpuId(cpu), Nanos(0));
        }
        scheduler
    }

    /// Runs `cpu` alone from `from` to `to`, following every decision; returns the time each got.
    fn simulate(scheduler: &mut Scheduler, from: Nanos, to: Nanos) -> HashMap<VcpuRef, u64> {
        let mut got = HashMap::new();
        let mut now = from;
        let mut loaded: Option<SchedId> = None;
        while now < to {
            let decision = scheduler.schedule(CPU0, now);
            let chosen = decision.run.map(|chosen| chosen.id);
            if let Some(old) = loaded.filter(|old| Some(*old) != chosen) {
                let _ = scheduler.saved(old, now);
            }
            loaded = chosen;
            let until = decision.until.min(to);
            if let Some(chosen) = decision.run {
                *got.entry(chosen.who).or_insert(0) += (until - now).0;
            }
            now = until;
        }
        let _ = scheduler.schedule(CPU0, to);
        got
    }

    #[test]
    fn equal_weights_share_a_processor_equally() {
        let mut scheduler = scheduler(1);
        scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        scheduler.add(vcpu(2, 0), Hold::empty(), Nanos(0));
        let got = simulate(&mut scheduler, Nanos(0), Nanos::from_millis(1000));
        assert_eq!(got[&vcpu(1, 0)] + got[&vcpu(2, 0)], 1_000_000_000);
        assert!(got[&vcpu(1, 0)].abs_diff(got[&vcpu(2, 0)]) <= 2 * SLICE.0);
    }

    #[test]
    fn twice_the_weight_gets_twice_the_time() {
        let mut scheduler = scheduler(1);
        scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        scheduler.add(vcpu(2, 0), Hold::empty(), Nanos(0));
        scheduler.set_share(DomId(2), Share { weight: 512, cap: 0 }, Nanos(0));
        let got = simulate(&mut scheduler, Nanos(0), Nanos::from_millis(3000));
        assert!(got[&vcpu(2, 0)].abs_diff(2_000_000_000) <= 4 * SLICE.0, "{got:?}");
    }

    #[test]
    fn a_capped_domain_leaves_the_processor_idle() {
        let mut scheduler = scheduler(1);
        scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        scheduler.set_share(DomId(1), Share { weight: 256, cap: 25 }, Nanos(0));
        let got = simulate(&mut scheduler, Nanos(0), Nanos::from_millis(2000));
        assert!(got[&vcpu(1, 0)].abs_diff(500_000_000) <= 10_000_000, "{got:?}");
        let idle = scheduler.idle_time(CPU0, Nanos::from_millis(2000));
        assert_eq!(idle.0 + got[&vcpu(1, 0)], 2_000_000_000);
    }

    #[test]
    fn alone_on_its_processor_a_virtual_processor_is_interrupted_once() {
        let mut scheduler = scheduler(1);
        let id = scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        let run = Some(Chosen { id, who: vcpu(1, 0) });
        // Somebody might wake while it has just begun, and wait until then.
        for (now, until) in [(Nanos(0), SLICE), (SLICE, Nanos::NEVER)] {
            let decision = scheduler.schedule(CPU0, now);
            assert_eq!(decision, Decision { run, keep: false, until, help: Kick::Nobody });
        }
    }

    #[test]
    fn a_wake_kicks_an_idle_processor_and_a_hold_the_one_that_runs_it() {
        let mut scheduler = scheduler(2);
        let id = scheduler.add(vcpu(1, 0), Hold::BLOCKED, Nanos(0));
        assert_eq!(scheduler.schedule(CPU0, Nanos(1)).run, None);
        let Kick::Cpu(cpu) = scheduler.release(id, Hold::BLOCKED, Nanos(2)) else {
            panic!("nobody is told of the wake");
        };
        assert_eq!(scheduler.schedule(cpu, Nanos(3)).run.map(|chosen| chosen.id), Some(id));
        assert_eq!(scheduler.hold(id, Hold::PAUSED, Nanos(4)), Kick::Cpu(cpu));
        assert_eq!(scheduler.schedule(cpu, Nanos(5)).run, None);
    }

    #[test]
    fn every_reason_must_go_before_it_runs() {
        let mut scheduler = scheduler(1);
        let id = scheduler.add(vcpu(1, 0), Hold::BLOCKED | Hold::PAUSED, Nanos(0));
        assert_eq!(scheduler.release(id, Hold::BLOCKED, Nanos(1)), Kick::Nobody);
        assert_eq!(scheduler.schedule(CPU0, Nanos(1)).run, None);
        assert_eq!(scheduler.release(id, Hold::PAUSED, Nanos(2)), Kick::Cpu(CPU0));
        assert!(scheduler.schedule(CPU0, Nanos(3)).run.is_some());
    }

    #[test]
    fn registers_still_in_a_processor_keep_others_away_until_saved() {
        let mut scheduler = scheduler(2);
        let first = scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        assert_eq!(scheduler.schedule(CPU0, Nanos(0)).run.map(|run| run.id), Some(first));
        let pinned = CpuSet::from_bits(0b10);
        let kick = scheduler.set_affinity(first, pinned, CpuSet::ALL, Nanos(1));
        assert_eq!(kick, Some(Kick::Cpu(CPU0)));
        assert_eq!(scheduler.schedule(CPU0, Nanos(2)).run, None);
        assert_eq!(scheduler.schedule(CPU1, Nanos(2)).run, None, "not saved yet");
        assert!(!scheduler.remove(first));
        assert_eq!(scheduler.saved(first, Nanos(3)), Kick::Cpu(CPU1));
        assert_eq!(scheduler.schedule(CPU1, Nanos(4)).run.map(|run| run.id), Some(first));
    }

    #[test]
    fn an_idle_processor_keeps_what_waits_for_an_interrupt_and_nothing_else() {
        let mut scheduler = scheduler(2);
        let id = scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        let _ = scheduler.schedule(CPU0, Nanos(0));
        let _ = scheduler.hold(id, Hold::BLOCKED, Nanos(1));
        assert!(scheduler.schedule(CPU0, Nanos(1)).keep);
        assert_eq!(scheduler.release(id, Hold::BLOCKED, Nanos(2)), Kick::Cpu(CPU0));
        let _ = scheduler.hold(id, Hold::BLOCKED, Nanos(3));
        assert_eq!(scheduler.hold(id, Hold::PAUSED, Nanos(4)), Kick::Cpu(CPU0));
        assert!(!scheduler.schedule(CPU0, Nanos(5)).keep);
    }

    #[test]
    fn an_idle_processor_takes_work_that_waits_elsewhere() {
        let mut scheduler = scheduler(2);
        let only0 = CpuSet::from_bits(0b01);
        let first = scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        let second = scheduler.add(vcpu(1, 1), Hold::empty(), Nanos(0));
        for id in [first, second] {
            scheduler.set_affinity(id, only0, CpuSet::ALL, Nanos(0)).map(drop).unwrap();
        }
        let on0 = scheduler.schedule(CPU0, Nanos(0)).run.unwrap().id;
        assert_eq!(scheduler.schedule(CPU1, Nanos(0)).run, None, "bound to the other");
        let waiting = if on0 == first { second } else { first };
        let kick = scheduler.set_affinity(waiting, CpuSet::ALL, CpuSet::ALL, Nanos(1));
        assert_eq!(kick, Some(Kick::Cpu(CPU1)));
        assert_eq!(scheduler.schedule(CPU1, Nanos(1)).run.map(|run| run.id), Some(waiting));
    }

    #[test]
    fn affinity_without_an_online_processor_is_refused() {
        let mut scheduler = scheduler(1);
        let id = scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        let offline = CpuSet::from_bits(0b10);
        assert_eq!(scheduler.set_affinity(id, offline, CpuSet::ALL, Nanos(0)), None);
        assert_eq!(scheduler.affinity(id).0, CpuSet::ALL);
    }

    #[test]
    fn runstate_times_add_up() {
        let mut scheduler = scheduler(1);
        let id = scheduler.add(vcpu(1, 0), Hold::BLOCKED, Nanos(0));
        let _ = scheduler.release(id, Hold::BLOCKED, Nanos(10));
        let _ = scheduler.schedule(CPU0, Nanos(15));
        let _ = scheduler.hold(id, Hold::BLOCKED, Nanos(40));
        let _ = scheduler.schedule(CPU0, Nanos(40));
        let state = scheduler.runstate(id, Nanos(50));
        assert_eq!(state.state, RunState::Blocked);
        assert_eq!(state.entered, Nanos(40));
        assert_eq!(state.times, [Nanos(25), Nanos(5), Nanos(20), Nanos(0)]);
    }

    #[test]
    fn who_comes_after_in_a_place_does_not_hear_what_was_meant_for_who_was_there() {
        let mut scheduler = scheduler(1);
        let first = scheduler.add(vcpu(1, 0), Hold::BLOCKED, Nanos(0));
        assert!(scheduler.remove(first));
        assert!(scheduler.make_room(1));
        let second = scheduler.add(vcpu(2, 0), Hold::BLOCKED, Nanos(0));
        assert_ne!(first, second);
        assert_eq!(scheduler.release(first, Hold::BLOCKED, Nanos(1)), Kick::Nobody);
        assert_eq!(scheduler.holds(second), Hold::BLOCKED);
        assert!(scheduler.remove(first), "it is gone already");
        assert_eq!(scheduler.holds(second), Hold::BLOCKED);
    }

    #[test]
    fn a_sibling_that_waits_waits_less_long_than_a_stranger() {
        let mut scheduler = scheduler(1);
        scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        scheduler.add(vcpu(2, 0), Hold::empty(), Nanos(0));
        assert_eq!(scheduler.schedule(CPU0, Nanos(0)).until, SLICE);
        scheduler.add(vcpu(1, 1), Hold::empty(), Nanos(0));
        scheduler.add(vcpu(2, 1), Hold::empty(), Nanos(0));
        assert_eq!(scheduler.schedule(CPU0, Nanos(0)).until, SLICE_AMONG_SIBLINGS);
    }

    /// Two vCPUs of the domains `doms` on one processor; the first runs from 0 on, the second waits for an event.
    fn one_runs_one_waits(doms: [u16; 2]) -> (Scheduler, [SchedId; 2]) {
        let mut scheduler = scheduler(1);
        let [one, other] = doms;
        let [first, second] =
            [vcpu(one, 0), vcpu(other, 1)].map(|who| scheduler.add(who, Hold::BLOCKED, Nanos(0)));
        let _ = scheduler.release(first, Hold::BLOCKED, Nanos(0));
        assert_eq!(scheduler.schedule(CPU0, Nanos(0)).until, SLICE);
        (scheduler, [first, second])
    }

    #[test]
    fn who_wakes_while_another_has_just_begun_waits_for_its_slice() {
        let (mut scheduler, [first, second]) = one_runs_one_waits([1, 2]);
        let at = Nanos(900_000);
        // The first decision held for a slice already.
        assert_eq!(scheduler.release(second, Hold::BLOCKED, at), Kick::Nobody);
        let decision = scheduler.schedule(CPU0, at);
        assert_eq!(decision.run.map(|chosen| chosen.id), Some(first));
        assert_eq!(decision.until, SLICE);
        let decision = scheduler.schedule(CPU0, SLICE);
        assert_eq!(decision.run.map(|chosen| chosen.id), Some(second));
    }

    #[test]
    fn who_wakes_while_another_has_nothing_left_to_do_does_not_wait() {
        let (mut scheduler, [first, second]) = one_runs_one_waits([1, 2]);
        let _ = scheduler.release(second, Hold::BLOCKED, Nanos(1_000));
        let _ = scheduler.schedule(CPU0, Nanos(1_000));
        let _ = scheduler.hold(first, Hold::BLOCKED, Nanos(2_000));
        let decision = scheduler.schedule(CPU0, Nanos(2_000));
        assert_eq!(decision.run.map(|chosen| chosen.id), Some(second));
    }

    #[test]
    fn who_wakes_while_another_has_run_for_long_goes_first_at_once() {
        let (mut scheduler, [_, second]) = one_runs_one_waits([1, 2]);
        let at = Nanos(1_600_000);
        assert_eq!(scheduler.release(second, Hold::BLOCKED, at), Kick::Cpu(CPU0));
        assert_eq!(scheduler.schedule(CPU0, at).run.map(|chosen| chosen.id), Some(second));
    }

    #[test]
    fn a_sibling_that_wakes_does_not_wait() {
        let (mut scheduler, [first, second]) = one_runs_one_waits([1, 1]);
        assert_ne!(first, second);
        let at = Nanos(900_000);
        assert_eq!(scheduler.release(second, Hold::BLOCKED, at), Kick::Cpu(CPU0));
        assert_eq!(scheduler.schedule(CPU0, at).run.map(|chosen| chosen.id), Some(second));
    }

    #[test]
    fn a_sleeper_does_not_starve_the_others() {
        let mut scheduler = scheduler(1);
        let busy = scheduler.add(vcpu(1, 0), Hold::empty(), Nanos(0));
        let sleeper = scheduler.add(vcpu(2, 0), Hold::BLOCKED, Nanos(0));
        simulate(&mut scheduler, Nanos(0), Nanos::from_millis(10_000));
        let _ = scheduler.release(sleeper, Hold::BLOCKED, Nanos::from_millis(10_000));
        let got = simulate(&mut scheduler, Nanos::from_millis(10_000), Nanos::from_millis(11_000));
        assert!(got[&vcpu(1, 0)] > 400_000_000, "{got:?} with {busy:?} and {sleeper:?}");
    }
}
