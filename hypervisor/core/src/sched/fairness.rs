//! Who goes next on a processor and for how long: virtual runtime, weights, caps.

use super::{DEFAULT_WEIGHT, Entity, Group, Hold, SchedId, Scheduler, entity_of};
use crate::ids::CpuId;
use crate::time::Nanos;

/// How long a virtual processor runs while another waits for the same processor.
pub(super) const SLICE: Nanos = Nanos::from_millis(5);
/// The same while another of its own domain waits, on whose lock or answer it may be spinning.
pub(super) const SLICE_AMONG_SIBLINGS: Nanos = Nanos::from_millis(1);

impl Scheduler {
    /// Charges a running virtual processor for the time since it was last charged.
    pub(super) fn charge(&mut self, id: SchedId, now: Nanos) {
        let Some(entity) = self.entities.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        if !entity.running {
            return;
        }
        let ran = now - entity.charged_until;
        entity.charged_until = now;
        let Some(Some(group)) = self.groups.get_mut(entity.group) else { return };
        let weight = u64::from(group.share.weight.max(1));
        let scaled = ran.0.saturating_mul(u64::from(DEFAULT_WEIGHT)) / weight;
        entity.vruntime = entity.vruntime.saturating_add(scaled);
        group.cap.spend(ran, now);
    }

    /// Returns when `cpu`, running `id` from `now`, must decide again.
    pub(super) fn slice_end(&mut self, cpu: CpuId, id: SchedId, now: Nanos) -> Nanos {
        let Some((dom, group)) = self.entity(id).map(|entity| (entity.who.dom, entity.group))
        else {
            return Nanos::NEVER;
        };
        let mut waiting = Nanos::NEVER;
        for other in self.queued(cpu).filter(|other| !other.running) {
            let sibling = other.who.dom == dom;
            waiting = waiting.min(if sibling { SLICE_AMONG_SIBLINGS } else { SLICE });
        }
        let slice = match self.cpus.get(cpu.index()) {
            Some(state) if waiting != Nanos::NEVER => {
                state.protected_until.max(state.since + waiting)
            }
            // Who comes while it is protected waits and has nobody look.
            Some(state) if now < state.protected_until => {
                state.protected_until.max(state.since + SLICE)
            }
            // Who comes later has the processor look again.
            _ => Nanos::NEVER,
        };
        let budget = self.group_mut(group).map_or(Nanos::NEVER, |group| group.cap.lasts_until(now));
        slice.min(budget)
    }

    /// Returns when a virtual processor that waits for its domain's cap can run on `cpu` again.
    pub(super) fn next_refill(&self, cpu: CpuId) -> Nanos {
        self.online
            .iter()
            .flat_map(|other| self.queued(other))
            .filter(|entity| entity.allowed.contains(cpu))
            .filter_map(|entity| self.groups.get(entity.group)?.as_ref()?.cap.refill_at())
            .min()
            .unwrap_or(Nanos::NEVER)
    }

    /// Says whether `cpu` may run `id` now.
    pub(super) fn eligible(&mut self, id: SchedId, cpu: CpuId, now: Nanos) -> bool {
        let Some(entity) = self.entity(id) else { return false };
        let group = entity.group;
        entity.is_free_for(cpu) && !is_spent(&mut self.groups, group, now)
    }

    /// Says whether the virtual processor whose registers `cpu` has may stay while `cpu` is idle.
    pub(super) fn may_keep(&self, cpu: CpuId) -> bool {
        let loaded = self.cpus.get(cpu.index()).and_then(|state| state.loaded);
        loaded
            .and_then(|id| self.entity(id))
            .is_some_and(|entity| entity.holds == Hold::BLOCKED && entity.allowed.contains(cpu))
    }

    pub(super) fn best_of(&mut self, cpu: CpuId, now: Nanos) -> Option<SchedId> {
        self.least(cpu, cpu, now, |_| true).map(|(_, id)| id)
    }

    /// With nothing of its own to do, a processor takes what waits longest for another.
    pub(super) fn steal_for(&mut self, cpu: CpuId, now: Nanos) -> Option<SchedId> {
        let (_, id) = self
            .least_of_others(cpu, now, |entity| entity.soft.contains(cpu))
            .or_else(|| self.least_of_others(cpu, now, |_| true))?;
        self.move_to(id, cpu);
        Some(id)
    }

    fn least_of_others(
        &mut self,
        cpu: CpuId,
        now: Nanos,
        admits: impl Fn(&Entity) -> bool,
    ) -> Option<(u64, SchedId)> {
        let others = self.online.iter().filter(|other| *other != cpu);
        others
            .filter_map(|other| self.least(other, cpu, now, &admits))
            .min_by_key(|(vruntime, _)| *vruntime)
    }

    /// Finds, in the queue of processor `of`, what `cpu` may run and has had least; with its virtual runtime.
    fn least(
        &mut self,
        of: CpuId,
        cpu: CpuId,
        now: Nanos,
        admits: impl Fn(&Entity) -> bool,
    ) -> Option<(u64, SchedId)> {
        let mut best: Option<(u64, SchedId)> = None;
        for &id in &self.cpus.get(of.index())?.queue {
            let Some(entity) = entity_of(&self.entities, id) else { continue };
            let vruntime = entity.vruntime;
            if best.is_none_or(|(least, _)| vruntime < least)
                && entity.is_free_for(cpu)
                && admits(entity)
                && !is_spent(&mut self.groups, entity.group, now)
            {
                best = Some((vruntime, id));
            }
        }
        best
    }
}

/// Says whether a domain has had all that its cap allows until the next refill.
fn is_spent(groups: &mut [Option<Group>], place: usize, now: Nanos) -> bool {
    let group = groups.get_mut(place).and_then(Option::as_mut);
    group.is_some_and(|group| group.cap.is_spent(now))
}
