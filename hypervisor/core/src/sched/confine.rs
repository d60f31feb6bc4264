//! What pools mean to the scheduler: a change of a pool reaches the virtual processors in it.

use super::Scheduler;
use super::affinity::CpuSet;
use super::pool::{Pool, PoolError, PoolId};
use crate::ids::{CpuId, DomId};
use crate::time::Nanos;

/// Pools there may be for each processor.
const POOLS_PER_CPU: usize = 2;

impl Scheduler {
    /// Returns the pool of number `id`, or the next there is.
    pub fn pool_from(&self, id: PoolId) -> Option<Pool> {
        self.pools.first_from(id)
    }

    /// Returns the pool of a domain.
    pub fn pool_of(&self, dom: DomId) -> PoolId {
        self.pools.home(dom)
    }

    /// Returns the processors of a domain's pool.
    pub fn cpus_of(&self, dom: DomId) -> CpuSet {
        self.pools.cpus_of(dom)
    }

    /// Returns how many domains were moved into a pool; the first has all the others.
    pub fn settled_in(&self, id: PoolId) -> usize {
        self.pools.settled_in(id)
    }

    /// Returns the processors that are in no pool.
    pub fn unpooled(&self) -> CpuSet {
        self.pools.free(self.online())
    }

    /// Makes a pool; without a number it gets the next.
    pub fn create_pool(&mut self, id: Option<PoolId>) -> Result<PoolId, PoolError> {
        self.pools.create(id, self.cpus.len() * POOLS_PER_CPU)
    }

    /// Takes away a pool that nothing is in.
    pub fn destroy_pool(&mut self, id: PoolId) -> Result<(), PoolError> {
        self.pools.destroy(id)
    }

    /// Gives a pool a free processor; without a number the first free one.
    pub fn give_cpu(
        &mut self,
        id: PoolId,
        cpu: Option<CpuId>,
        now: Nanos,
    ) -> Result<CpuSet, PoolError> {
        self.pools.give(id, cpu, self.online())?;
        Ok(self.confine(now))
    }

    /// Takes a processor from a pool; without a number the last. The last one of a pool in which
    /// domains live stays.
    pub fn take_cpu(
        &mut self,
        id: PoolId,
        cpu: Option<CpuId>,
        now: Nanos,
    ) -> Result<CpuSet, PoolError> {
        let busy = id == PoolId::BOOT || self.pools.settled_in(id) > 0;
        self.pools.take(id, cpu, self.online(), busy)?;
        Ok(self.confine(now))
    }

    /// Puts a domain into a pool that has processors. Its virtual processors may then run on any
    /// of them.
    pub fn settle(&mut self, dom: DomId, id: PoolId, now: Nanos) -> Result<CpuSet, PoolError> {
        self.pools.admits(id)?;
        if self.pools.home(dom) == id {
            return Ok(CpuSet::NONE);
        }
        self.pools.settle(dom, id)?;
        for index in 0..self.entities.len() {
            let Some((id, _)) = self.at(index).filter(|(_, of)| *of == dom) else { continue };
            if let Some(entity) = self.entity_mut(id) {
                (entity.hard, entity.soft) = (CpuSet::ALL, CpuSet::ALL);
            }
        }
        Ok(self.confine(now))
    }

    /// Sets how long what the processors of a pool run is left alone at least.
    pub fn set_rate_limit(&mut self, id: PoolId, limit: Nanos) -> Result<(), PoolError> {
        self.pools.set_rate_limit(id, limit)?;
        self.confine_cpus();
        Ok(())
    }

    /// Forgets where a domain lived that is no more.
    pub fn unsettle(&mut self, dom: DomId) {
        self.pools.send_home(dom);
    }

    /// Works out anew where each may run, before anything has.
    pub(super) fn confine_all(&mut self) {
        for slot in self.entities.iter_mut().flatten() {
            slot.allowed = slot.hard & self.pools.cpus_of(slot.who.dom);
        }
    }

    /// Works out anew what each processor's pool asks of it.
    pub(super) fn confine_cpus(&mut self) {
        for (state, number) in self.cpus.iter_mut().zip(0..) {
            state.rate_limit = self.pools.rate_limit_on(CpuId(number));
        }
    }

    /// Works out anew where each may run; returns the processors that have to look.
    ///
    /// Who was bound to processors that its pool no longer has may run on all it has.
    fn confine(&mut self, now: Nanos) -> CpuSet {
        self.confine_cpus();
        let mut kicks = CpuSet::NONE;
        for index in 0..self.entities.len() {
            let Some((id, dom)) = self.at(index) else { continue };
            let pool = self.pools.cpus_of(dom);
            let Some(entity) = self.entity_mut(id) else { continue };
            if (entity.hard & pool).is_empty() {
                entity.hard = CpuSet::ALL;
            }
            let allowed = entity.hard & pool;
            if allowed != entity.allowed {
                kicks = kicks | self.restrict(id, allowed, now).cpus();
            }
        }
        kicks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{VcpuId, VcpuRef};
    use crate::sched::Hold;
    use crate::sched::Kick;
    use crate::sched::SchedId;

    const CPU0: CpuId = CpuId(0);
    const CPU1: CpuId = CpuId(1);
    const DOM: DomId = DomId(1);

    fn scheduler() -> (Scheduler, SchedId) {
        let mut scheduler = Scheduler::new(2);
        scheduler.bring_up(CPU0, Nanos(0));
        scheduler.bring_up(CPU1, Nanos(0));
        let who = VcpuRef { dom: DOM, vcpu: VcpuId(0) };
        let id = scheduler.add(who, Hold::empty(), Nanos(0));
        (scheduler, id)
    }

    fn runs(scheduler: &mut Scheduler, cpu: CpuId, now: u64) -> Option<SchedId> {
        scheduler.schedule(cpu, Nanos(now)).run.map(|chosen| chosen.id)
    }

    #[test]
    fn a_processor_taken_from_a_pool_runs_none_of_its_domains_any_more() {
        let (mut scheduler, id) = scheduler();
        let only1 = CpuSet::from_bits(0b10);
        scheduler.set_affinity(id, only1, CpuSet::ALL, Nanos(0)).map(drop).unwrap();
        assert_eq!(runs(&mut scheduler, CPU1, 1), Some(id));
        let kicks = scheduler.take_cpu(PoolId::BOOT, Some(CPU1), Nanos(2)).unwrap();
        assert_eq!(kicks, CpuSet::only(CPU1), "it has to let go");
        assert_eq!(scheduler.affinity(id).0, CpuSet::ALL, "no processor it was bound to is left");
        assert_eq!(scheduler.unpooled(), only1);
        assert_eq!(runs(&mut scheduler, CPU1, 3), None);
        assert_eq!(scheduler.saved(id, Nanos(4)), Kick::Cpu(CPU0));
        assert_eq!(runs(&mut scheduler, CPU0, 5), Some(id));
    }

    #[test]
    fn a_domain_runs_in_the_pool_it_was_moved_to_and_nowhere_else() {
        let (mut scheduler, id) = scheduler();
        let pool = scheduler.create_pool(None).unwrap();
        assert_eq!(scheduler.settle(DOM, pool, Nanos(0)), Err(PoolError::Empty));
        scheduler.take_cpu(PoolId::BOOT, Some(CPU1), Nanos(0)).map(drop).unwrap();
        scheduler.give_cpu(pool, None, Nanos(0)).map(drop).unwrap();
        let kicks = scheduler.settle(DOM, pool, Nanos(1)).unwrap();
        assert_eq!(kicks, CpuSet::only(CPU1));
        assert_eq!((scheduler.pool_of(DOM), scheduler.settled_in(pool)), (pool, 1));
        assert_eq!(runs(&mut scheduler, CPU0, 2), None);
        assert_eq!(runs(&mut scheduler, CPU1, 2), Some(id));
        let outside = CpuSet::from_bits(0b01);
        assert_eq!(scheduler.set_affinity(id, outside, CpuSet::ALL, Nanos(3)), None);
        assert_eq!(scheduler.take_cpu(pool, None, Nanos(4)), Err(PoolError::InUse));
        let kicks = scheduler.settle(DOM, PoolId::BOOT, Nanos(5)).unwrap();
        assert_eq!(kicks, CpuSet::only(CPU1));
        assert_eq!(runs(&mut scheduler, CPU1, 6), None);
        let _ = scheduler.saved(id, Nanos(7));
        assert_eq!(runs(&mut scheduler, CPU0, 8), Some(id));
    }

    #[test]
    fn the_rate_limit_keeps_what_runs_running_until_it_is_over_or_yields() {
        let (mut scheduler, first) = scheduler();
        scheduler.take_cpu(PoolId::BOOT, Some(CPU1), Nanos(0)).map(drop).unwrap();
        let limit = Nanos::from_millis(20);
        scheduler.set_rate_limit(PoolId::BOOT, limit).unwrap();
        assert_eq!(scheduler.pool_from(PoolId::BOOT).unwrap().rate_limit, limit);
        assert_eq!(runs(&mut scheduler, CPU0, 0), Some(first));
        let who = VcpuRef { dom: DomId(2), vcpu: VcpuId(0) };
        let second = scheduler.add(who, Hold::BLOCKED, Nanos(0));
        let at = Nanos::from_millis(15);
        assert_eq!(scheduler.release(second, Hold::BLOCKED, at), Kick::Nobody);
        let decision = scheduler.schedule(CPU0, at);
        assert_eq!(decision.run.map(|chosen| chosen.id), Some(first), "others wait");
        assert_eq!(decision.until, limit);
        assert_eq!(scheduler.schedule(CPU0, limit).run.map(|chosen| chosen.id), Some(second));
        scheduler.yield_now(second, limit + Nanos(5));
        let next = scheduler.schedule(CPU0, limit + Nanos(5));
        assert_eq!(next.run.map(|chosen| chosen.id), Some(first));
        assert_eq!(scheduler.set_rate_limit(PoolId(3), limit), Err(PoolError::NoSuchPool));
    }

    #[test]
    fn a_new_virtual_processor_of_a_settled_domain_starts_in_its_pool() {
        let (mut scheduler, _) = scheduler();
        let pool = scheduler.create_pool(Some(PoolId(4))).unwrap();
        scheduler.take_cpu(PoolId::BOOT, None, Nanos(0)).map(drop).unwrap();
        scheduler.give_cpu(pool, None, Nanos(0)).map(drop).unwrap();
        let dom = DomId(2);
        assert!(scheduler.settle(dom, pool, Nanos(0)).unwrap().is_empty());
        let who = VcpuRef { dom, vcpu: VcpuId(0) };
        let id = scheduler.add(who, Hold::empty(), Nanos(0));
        assert_eq!(scheduler.cpu_of(id), CPU1);
        scheduler.unsettle(dom);
        assert_eq!(scheduler.settled_in(pool), 0);
    }
}
