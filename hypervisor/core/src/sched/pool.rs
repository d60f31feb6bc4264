//! Processor pools: which processors belong together, and which domain runs on whose.
//!
//! Decides what a pool may take and give away. The scheduler asks it where a domain's virtual
//! processors are allowed; `sysctl` and `domctl` ask on behalf of the toolstack.

use super::affinity::CpuSet;
use crate::ids::{CpuId, DomId, DomMap};
use crate::time::Nanos;
use alloc::vec::Vec;

/// What protects what has just begun to run, unless something else is asked for (credit2's default).
const RATE_LIMIT: Nanos = Nanos::from_millis(1);

/// A pool's number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PoolId(pub u32);

impl PoolId {
    /// The pool that is there from the start: all processors come up in it, and Dom0 does.
    pub const BOOT: Self = Self(0);
}

/// Why a pool cannot be made, changed or found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PoolError {
    /// There is no pool of this number.
    NoSuchPool,
    /// There is one already.
    Exists,
    /// There are as many as there may be.
    TooMany,
    /// It has processors or domains.
    InUse,
    /// It is a pool without a processor, where nothing could run.
    Empty,
    /// There is no such processor.
    NoSuchCpu,
    /// The processor is in a pool already, or there is none in no pool.
    NotFree,
    /// The processor is in another pool or in none.
    NotMember,
    /// The first processor stays in the first pool.
    BootCpu,
    /// The hypervisor has no memory to remember it.
    NoMemory,
}

/// A pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pool {
    /// Its number.
    pub id: PoolId,
    /// Its processors.
    pub cpus: CpuSet,
    /// How long what its processors begin to run is left alone; who wakes in that time waits for the whole slice.
    pub rate_limit: Nanos,
}

/// All pools, in ascending order of their numbers; the first is always there.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    pools: Vec<Pool>,
    /// The pools of domains that are not in the first.
    homes: DomMap<PoolId>,
}

impl Default for Pools {
    fn default() -> Self {
        let boot = Pool { id: PoolId::BOOT, cpus: CpuSet::NONE, rate_limit: RATE_LIMIT };
        Self { pools: alloc::vec![boot], homes: DomMap::default() }
    }
}

impl Pools {
    pub(super) fn home(&self, dom: DomId) -> PoolId {
        self.homes.get(&dom).copied().unwrap_or(PoolId::BOOT)
    }

    pub(super) fn cpus_of(&self, dom: DomId) -> CpuSet {
        self.get(self.home(dom)).map_or(CpuSet::NONE, |pool| pool.cpus)
    }

    /// Returns how many domains are in a pool that is not the first.
    pub(super) fn settled_in(&self, id: PoolId) -> usize {
        self.homes.values().filter(|home| **home == id).count()
    }

    /// Returns the first pool whose number is `id` or more.
    pub(super) fn first_from(&self, id: PoolId) -> Option<Pool> {
        self.pools.iter().find(|pool| pool.id >= id).copied()
    }

    pub(super) fn get(&self, id: PoolId) -> Result<Pool, PoolError> {
        self.pools.iter().find(|pool| pool.id == id).copied().ok_or(PoolError::NoSuchPool)
    }

    /// Returns those of `online` that are in no pool.
    pub(super) fn free(&self, online: CpuSet) -> CpuSet {
        let taken: CpuSet = self.pools.iter().flat_map(|pool| pool.cpus.iter()).collect();
        online.iter().filter(|cpu| !taken.contains(*cpu)).collect()
    }

    /// Makes a pool without processors, of a given number or the one after the last.
    pub(super) fn create(&mut self, id: Option<PoolId>, most: usize) -> Result<PoolId, PoolError> {
        if self.pools.len() >= most {
            return Err(PoolError::TooMany);
        }
        let id = id.or_else(|| self.unused()).ok_or(PoolError::TooMany)?;
        let place = self.pools.iter().take_while(|pool| pool.id < id).count();
        if self.get(id).is_ok() {
            return Err(PoolError::Exists);
        }
        self.pools.try_reserve(1).map_err(|_| PoolError::NoMemory)?;
        self.pools.insert(place, Pool { id, cpus: CpuSet::NONE, rate_limit: RATE_LIMIT });
        Ok(id)
    }

    /// Returns the number after the last, or if there is none the first gap.
    fn unused(&self) -> Option<PoolId> {
        let last = self.pools.last().map_or(0, |pool| pool.id.0);
        // The highest number means `any` on the way in.
        let next = last.checked_add(1).filter(|next| *next != u32::MAX);
        next.or_else(|| (1..).find(|id| self.get(PoolId(*id)).is_err())).map(PoolId)
    }

    pub(super) fn destroy(&mut self, id: PoolId) -> Result<(), PoolError> {
        let pool = self.get(id)?;
        if id == PoolId::BOOT || !pool.cpus.is_empty() || self.settled_in(id) > 0 {
            return Err(PoolError::InUse);
        }
        self.pools.retain(|other| other.id != id);
        Ok(())
    }

    /// Gives a free processor to a pool; `None` takes the first free one.
    pub(super) fn give(
        &mut self,
        id: PoolId,
        cpu: Option<CpuId>,
        online: CpuSet,
    ) -> Result<(), PoolError> {
        self.get(id)?;
        let free = self.free(online);
        let cpu = cpu.or_else(|| free.iter().next()).ok_or(PoolError::NotFree)?;
        if !online.contains(cpu) {
            return Err(PoolError::NoSuchCpu);
        }
        if !free.contains(cpu) {
            return Err(PoolError::NotFree);
        }
        self.change(id, |cpus| cpus.iter().chain([cpu]).collect());
        Ok(())
    }

    /// Takes a processor out of a pool; `None` takes the last. `busy` says that domains live there
    /// that need one.
    pub(super) fn take(
        &mut self,
        id: PoolId,
        cpu: Option<CpuId>,
        online: CpuSet,
        busy: bool,
    ) -> Result<(), PoolError> {
        let members = self.get(id)?.cpus;
        let cpu = cpu.or_else(|| members.iter().last()).ok_or(PoolError::NoSuchCpu)?;
        if !online.contains(cpu) {
            return Err(PoolError::NoSuchCpu);
        }
        if id == PoolId::BOOT && cpu == CpuId(0) {
            return Err(PoolError::BootCpu);
        }
        if !members.contains(cpu) {
            return Err(PoolError::NotMember);
        }
        let left: CpuSet = members.iter().filter(|other| *other != cpu).collect();
        if left.is_empty() && busy {
            return Err(PoolError::InUse);
        }
        self.change(id, |_| left);
        Ok(())
    }

    /// Says whether a domain may live in a pool.
    pub(super) fn admits(&self, id: PoolId) -> Result<(), PoolError> {
        if self.get(id)?.cpus.is_empty() { Err(PoolError::Empty) } else { Ok(()) }
    }

    pub(super) fn settle(&mut self, dom: DomId, id: PoolId) -> Result<(), PoolError> {
        if id == PoolId::BOOT {
            self.send_home(dom);
        } else {
            self.homes.try_reserve(1).map_err(|_| PoolError::NoMemory)?;
            self.homes.insert(dom, id);
        }
        Ok(())
    }

    /// Has a domain be in the first pool again.
    pub(super) fn send_home(&mut self, dom: DomId) {
        self.homes.remove(&dom);
    }

    pub(super) fn set_rate_limit(&mut self, id: PoolId, limit: Nanos) -> Result<(), PoolError> {
        let pool = self.pools.iter_mut().find(|pool| pool.id == id);
        pool.ok_or(PoolError::NoSuchPool)?.rate_limit = limit;
        Ok(())
    }

    /// Returns how long what `cpu` runs is left alone at least.
    pub(super) fn rate_limit_on(&self, cpu: CpuId) -> Nanos {
        let pool = self.pools.iter().find(|pool| pool.cpus.contains(cpu));
        pool.map_or(Nanos(0), |pool| pool.rate_limit)
    }

    fn change(&mut self, id: PoolId, change: impl FnOnce(CpuSet) -> CpuSet) {
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.id == id) {
            pool.cpus = change(pool.cpus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLINE: CpuSet = CpuSet::from_bits(0b111);

    fn pools() -> Pools {
        let mut pools = Pools::default();
        for cpu in 0..3 {
            pools.give(PoolId::BOOT, Some(CpuId(cpu)), ONLINE).unwrap();
        }
        pools
    }

    #[test]
    fn numbers_go_up_until_they_end_and_gaps_are_found_then() {
        let mut pools = pools();
        assert_eq!(pools.create(None, 9), Ok(PoolId(1)));
        assert_eq!(pools.create(Some(PoolId(7)), 9), Ok(PoolId(7)));
        assert_eq!(pools.create(Some(PoolId(7)), 9), Err(PoolError::Exists));
        assert_eq!(pools.create(None, 9), Ok(PoolId(8)));
        assert_eq!(pools.create(Some(PoolId(u32::MAX - 1)), 9), Ok(PoolId(u32::MAX - 1)));
        assert_eq!(pools.create(None, 9), Ok(PoolId(2)));
        assert_eq!(pools.create(None, 6), Err(PoolError::TooMany));
        assert_eq!(pools.first_from(PoolId(3)).map(|pool| pool.id), Some(PoolId(7)));
        assert_eq!(pools.first_from(PoolId(u32::MAX)), None);
    }

    #[test]
    fn a_processor_is_in_one_pool_at_most() {
        let mut pools = pools();
        let one = pools.create(None, 9).unwrap();
        assert_eq!(pools.give(one, Some(CpuId(2)), ONLINE), Err(PoolError::NotFree));
        assert_eq!(pools.give(one, None, ONLINE), Err(PoolError::NotFree));
        assert_eq!(pools.take(one, Some(CpuId(2)), ONLINE, false), Err(PoolError::NotMember));
        pools.take(PoolId::BOOT, None, ONLINE, true).unwrap();
        assert_eq!(pools.free(ONLINE).bits(), 0b100);
        pools.give(one, None, ONLINE).unwrap();
        assert_eq!(pools.get(one).unwrap().cpus.bits(), 0b100);
        assert!(pools.free(ONLINE).is_empty());
        assert_eq!(pools.give(one, Some(CpuId(3)), ONLINE), Err(PoolError::NoSuchCpu));
        assert_eq!(pools.give(PoolId(9), None, ONLINE), Err(PoolError::NoSuchPool));
    }

    #[test]
    fn the_first_processor_stays_and_so_does_the_last_of_a_pool_that_is_used() {
        let mut pools = pools();
        let boot = PoolId::BOOT;
        assert_eq!(pools.take(boot, Some(CpuId(0)), ONLINE, false), Err(PoolError::BootCpu));
        let one = pools.create(None, 9).unwrap();
        assert_eq!(pools.admits(one), Err(PoolError::Empty));
        assert_eq!(pools.take(one, None, ONLINE, false), Err(PoolError::NoSuchCpu));
        pools.take(boot, Some(CpuId(1)), ONLINE, true).unwrap();
        pools.give(one, Some(CpuId(1)), ONLINE).unwrap();
        assert_eq!(pools.take(one, None, ONLINE, true), Err(PoolError::InUse));
        assert_eq!(pools.destroy(one), Err(PoolError::InUse));
        pools.take(one, None, ONLINE, false).unwrap();
        pools.settle(DomId(5), one).unwrap();
        assert_eq!((pools.settled_in(one), pools.home(DomId(5))), (1, one));
        assert_eq!(pools.destroy(one), Err(PoolError::InUse));
        pools.settle(DomId(5), boot).unwrap();
        pools.destroy(one).unwrap();
        assert_eq!(pools.destroy(one), Err(PoolError::NoSuchPool));
        assert_eq!(pools.destroy(boot), Err(PoolError::InUse));
    }
}
