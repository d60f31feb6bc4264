//! Who goes next on a processor and for how long: virtual runtime, weights, caps.

use super::{DEFAULT_WEIGHT, Entity, Hold, SchedId, Scheduler};
use crate::ids::{CpuId, DomId};
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
        let Some(group) = self.groups.get_mut(&entity.who.dom) else { return };
        let weight = u64::from(group.share.weight.max(1));
        let scaled = ran.0.saturating_mul(u64::from(DEFAULT_WEIGHT)) / weight;
        entity.vruntime = entity.vruntime.saturating_add(scaled);
        group.cap.spend(ran, now);
    }

    /// Returns when `cpu`, running `id` from `now`, must decide again.
    pub(super) fn slice_end(&mut self, cpu: CpuId, id: SchedId, now: Nanos) -> Nanos {
        let Some(dom) = self.entity(id).map(|entity| entity.who.dom) else { return Nanos::NEVER };
        let mut waiting = Nanos::NEVER;
        for other in self.entities.iter().flatten() {
            if other.cpu == cpu && !other.running && other.may_run() {
                let sibling = other.who.dom == dom;
                waiting = waiting.min(if sibling { SLICE_AMONG_SIBLINGS } else { SLICE });
            }
        }
        let protected = self
            .cpus
            .get(cpu.index())
            .map(|state| state.since + state.rate_limit)
            .filter(|end| now < *end);
        let slice = match protected {
            // Who comes meanwhile has the processor look again.
            _ if waiting == Nanos::NEVER => Nanos::NEVER,
            Some(end) => end,
            None => now + waiting,
        };
        let budget =
            self.groups.get_mut(&dom).map_or(Nanos::NEVER, |group| group.cap.lasts_until(now));
        slice.min(budget)
    }

    /// Returns when a virtual processor that waits for its domain's cap can run on `cpu` again.
    pub(super) fn next_refill(&self, cpu: CpuId) -> Nanos {
        self.entities
            .iter()
            .flatten()
            .filter(|entity| entity.may_run() && entity.allowed.contains(cpu))
            .filter_map(|entity| self.groups.get(&entity.who.dom)?.cap.refill_at())
            .min()
            .unwrap_or(Nanos::NEVER)
    }

    /// Says whether `cpu` may run `id` now.
    pub(super) fn eligible(&mut self, id: SchedId, cpu: CpuId, now: Nanos) -> bool {
        let Some(entity) = self.entity(id) else { return false };
        let free = !entity.running && entity.loaded.is_none_or(|holder| holder == cpu);
        let fits = entity.may_run() && free && entity.allowed.contains(cpu);
        let dom = entity.who.dom;
        fits && !self.is_capped_out(dom, now)
    }

    fn is_capped_out(&mut self, dom: DomId, now: Nanos) -> bool {
        self.groups.get_mut(&dom).is_some_and(|group| group.cap.is_spent(now))
    }

    /// Says whether the virtual processor whose registers `cpu` has may stay while `cpu` is idle.
    pub(super) fn may_keep(&self, cpu: CpuId) -> bool {
        self.entities.iter().flatten().any(|entity| {
            entity.loaded == Some(cpu)
                && entity.holds == Hold::BLOCKED
                && entity.allowed.contains(cpu)
        })
    }

    pub(super) fn best_of(&mut self, cpu: CpuId, now: Nanos) -> Option<SchedId> {
        self.least(cpu, now, |entity| entity.cpu == cpu)
    }

    /// With nothing of its own to do, a processor takes what waits longest for another.
    pub(super) fn steal_for(&mut self, cpu: CpuId, now: Nanos) -> Option<SchedId> {
        let id = self
            .least(cpu, now, |entity| entity.cpu != cpu && entity.soft.contains(cpu))
            .or_else(|| self.least(cpu, now, |entity| entity.cpu != cpu))?;
        self.move_to(id, cpu);
        Some(id)
    }

    fn least(
        &mut self,
        cpu: CpuId,
        now: Nanos,
        admits: impl Fn(&Entity) -> bool,
    ) -> Option<SchedId> {
        let mut best: Option<(u64, SchedId)> = None;
        for index in 0..self.entities.len() {
            let Some(Some(entity)) = self.entities.get(index) else { continue };
            let id = SchedId { index: u32::try_from(index).ok()?, generation: entity.generation };
            let vruntime = entity.vruntime;
            if !entity.may_run() || !admits(entity) {
                continue;
            }
            if best.is_some_and(|(least, _)| least <= vruntime) || !self.eligible(id, cpu, now) {
                continue;
            }
            best = Some((vruntime, id));
        }
        best.map(|(_, id)| id)
    }
}
