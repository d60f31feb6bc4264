//! Which processor's queue a virtual processor belongs to, and who must look at it there.

use super::affinity::CpuSet;
use super::fairness::SLICE;
use super::{Entity, Kick, SchedId, Scheduler};
use crate::ids::CpuId;
use crate::time::Nanos;

/// How far behind the running one a woken virtual processor must be to take its place at once.
const PREEMPT_MARGIN: u64 = 500_000;
/// How much virtual time a long sleep may leave in hand: enough to go first, not to starve others.
const SLEEPER_CREDIT: u64 = 2_000_000;

impl Scheduler {
    /// Finds a queue for a virtual processor that can run, and who must look at it.
    pub(super) fn wake(&mut self, id: SchedId, now: Nanos) -> Kick {
        let online = self.online;
        let Some(entity) = self.entity(id) else { return Kick::Nobody };
        if entity.loaded.is_some_and(|cpu| !entity.allowed.contains(cpu)) {
            return Kick::Nobody; // `saved` wakes it again
        }
        let allowed = entity.allowed & online;
        let preferred =
            if (allowed & entity.soft).is_empty() { allowed } else { allowed & entity.soft };
        let home = entity.cpu;
        let idle = allowed & self.idle;
        let first_idle =
            |among: CpuSet| (idle & among).iter().find(|cpu| self.is_idle_but_for(id, *cpu));
        let target = if let Some(cpu) = entity.loaded {
            cpu
        } else if !idle.is_empty()
            && let Some(idle) = first_idle(preferred & CpuSet::only(home))
                .or_else(|| first_idle(preferred))
                // Rather there than nowhere: nobody waits where it would like to run while it could run.
                .or_else(|| first_idle(allowed))
        {
            idle
        } else if preferred.contains(home) {
            home
        } else {
            self.least_loaded(preferred)
        };
        self.move_to(id, target);
        let floor = self.min_vruntime(target).saturating_sub(SLEEPER_CREDIT);
        if let Some(entity) = self.entity_mut(id) {
            entity.vruntime = entity.vruntime.max(floor);
        }
        self.kick_if_better(id, target, now)
    }

    fn kick_if_better(&mut self, id: SchedId, cpu: CpuId, now: Nanos) -> Kick {
        let Some(running) = self.cpus.get(cpu.index()).and_then(|state| state.running) else {
            return Kick::Cpu(cpu);
        };
        if self.protect(running, id, cpu, now) {
            return Kick::Nobody;
        }
        self.charge(running, now);
        // Even one that does not go first ends the other's unlimited slice, so the processor must
        // look again; one with less virtual time by the margin goes first there and then.
        let (Some(woken), Some(current)) = (self.entity(id), self.entity(running)) else {
            return Kick::Nobody;
        };
        let first = woken.vruntime.saturating_add(PREEMPT_MARGIN) < current.vruntime;
        let alone = self.queued_on(cpu) <= 2;
        if first || alone { Kick::Cpu(cpu) } else { Kick::Nobody }
    }

    /// Lets what `cpu` has just begun to run finish its slice though `woken` would go first; says whether it does.
    ///
    /// A back end wakes its guest with the first of many packets: if that took its place, the two would
    /// change places with each packet, and neither would have work for more than one. Among siblings the
    /// running one may be spinning until the woken one answers, so it is not protected any more.
    fn protect(&mut self, running: SchedId, woken: SchedId, cpu: CpuId, now: Nanos) -> bool {
        let dom_of = |id| self.entity(id).map(|entity| entity.who.dom);
        let siblings = dom_of(running) == dom_of(woken);
        let Some(state) = self.cpus.get_mut(cpu.index()) else { return false };
        if siblings {
            state.protected_until = state.protected_until.min(now);
        } else if now < state.protected_until {
            state.protected_until = state.protected_until.max(state.since + SLICE);
        }
        now < state.protected_until
    }

    /// Says whether `cpu` has nothing to do but, perhaps, `id`.
    fn is_idle_but_for(&self, id: SchedId, cpu: CpuId) -> bool {
        self.idle.contains(cpu)
            && self
                .cpus
                .get(cpu.index())
                .is_some_and(|state| state.queue.iter().all(|other| *other == id))
    }

    /// Finds an idle processor that could take somebody who waits in the queue of `cpu`.
    ///
    /// Two may have been put there, one after the other, while it had nothing to do.
    pub(super) fn help_for(&self, cpu: CpuId) -> Kick {
        let idle = self.idle - CpuSet::only(cpu);
        if idle.is_empty() {
            return Kick::Nobody;
        }
        // One that is loaded is still to be saved, and then woken.
        let waiting = self.queued(cpu).filter(|entity| !entity.running && entity.loaded.is_none());
        let helper = waiting.filter_map(|entity| (entity.allowed & idle).iter().next()).next();
        helper.map_or(Kick::Nobody, Kick::Cpu)
    }

    /// Says whether `id`, which `cpu` gives up though it can run, is best left in the queue of `cpu`: it may
    /// run there, and no idle processor could take it.
    pub(super) fn is_at_home(&self, id: SchedId, cpu: CpuId) -> bool {
        self.entity(id).is_some_and(|entity| {
            let elsewhere = (entity.allowed & self.idle) - CpuSet::only(cpu);
            entity.cpu == cpu && entity.allowed.contains(cpu) && elsewhere.is_empty()
        })
    }

    /// Lets a virtual processor run in `allowed` and nowhere else.
    pub(super) fn restrict(&mut self, id: SchedId, allowed: CpuSet, now: Nanos) -> Kick {
        let Some(entity) = self.entity_mut(id) else { return Kick::Nobody };
        entity.allowed = allowed;
        if entity.running {
            let cpu = entity.cpu;
            return if allowed.contains(cpu) { Kick::Nobody } else { Kick::Cpu(cpu) };
        }
        if let Some(cpu) = entity.loaded.filter(|cpu| !allowed.contains(*cpu)) {
            return Kick::Cpu(cpu);
        }
        if entity.may_run() { self.wake(id, now) } else { Kick::Nobody }
    }

    /// Returns the processor of `among` with the shortest queue; the first if there is a choice.
    pub(super) fn least_loaded(&self, among: CpuSet) -> CpuId {
        among.iter().min_by_key(|cpu| self.queued_on(*cpu)).unwrap_or(CpuId(0))
    }

    /// Moves `id` to the queue of `cpu`, as far ahead or behind there as it was in its own.
    pub(super) fn move_to(&mut self, id: SchedId, cpu: CpuId) {
        let Some(old) = self.entity(id).map(|entity| entity.cpu) else { return };
        if old == cpu {
            return;
        }
        let new_min = self.min_vruntime(cpu);
        let old_min = self.min_vruntime(old);
        if let Some(entity) = self.entity_mut(id) {
            entity.vruntime = entity.vruntime.saturating_sub(old_min).saturating_add(new_min);
            entity.cpu = cpu;
        }
        self.requeue(id);
    }

    pub(super) fn queued_on(&self, cpu: CpuId) -> usize {
        self.cpus.get(cpu.index()).map_or(0, |state| state.queue.len())
    }

    /// Returns what belongs to `cpu` and can run, the running one included.
    pub(super) fn queued(&self, cpu: CpuId) -> impl Iterator<Item = &Entity> {
        let queue = self.cpus.get(cpu.index()).map_or(&[] as &[SchedId], |state| &state.queue);
        queue.iter().filter_map(|id| self.entity(*id))
    }

    /// Puts a virtual processor into its processor's queue, or takes it out, after a change of whether it can
    /// run or where it belongs.
    pub(super) fn requeue(&mut self, id: SchedId) {
        let Some(entity) = self.entity_mut(id) else { return };
        let belongs = entity.may_run().then_some(entity.cpu);
        if entity.queued == belongs {
            return;
        }
        let was = core::mem::replace(&mut entity.queued, belongs);
        self.leave(id, was);
        if let Some(state) = belongs.and_then(|cpu| self.cpus.get_mut(cpu.index())) {
            state.queue.push(id);
        }
    }

    /// Takes `id` out of the queue that it is in.
    pub(super) fn leave(&mut self, id: SchedId, queued: Option<CpuId>) {
        if let Some(state) = queued.and_then(|cpu| self.cpus.get_mut(cpu.index()))
            && let Some(place) = state.queue.iter().position(|other| *other == id)
        {
            state.queue.remove(place);
        }
    }
}
