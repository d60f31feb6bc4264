//! CPU pools: their names, which only xenstore knows, and changes of several steps that are undone
//! where a step fails.

use std::collections::BTreeSet;

use uuid::Uuid;
use xen_sys::sysctl::{Cpupool, PoolChange, Sysctl};
use xen_sys::{DomId, Xen};
use xenstore::client::{Client, Store};

use crate::error::{Error, Result};

/// A scheduler that a pool can have (`public/domctl.h`, XEN_SCHEDULER_*).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scheduler(pub u32);

impl Scheduler {
    /// The one that libxl's tools call credit.
    pub const CREDIT: Self = Self(5);
    /// The one that libxl's tools call credit2.
    pub const CREDIT2: Self = Self(6);
    /// The one that libxl's tools call rtds.
    pub const RTDS: Self = Self(8);

    /// Its name in libxl's tools.
    pub const fn name(self) -> &'static str {
        match self.0 {
            4 => "sedf",
            5 => "credit",
            6 => "credit2",
            7 => "arinc653",
            8 => "rtds",
            9 => "null",
            _ => "unknown",
        }
    }

    /// The scheduler of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        (4..=9).map(Self).find(|scheduler| scheduler.name() == name)
    }
}

fn path(pool: u32) -> String {
    format!("/local/pool/{pool}")
}

/// A pool's name: what xenstore says, or a made-up one as libxl makes it up.
pub fn name(store: &impl Store, pool: u32) -> Result<String> {
    let name = store.read_optional(&format!("{}/name", path(pool)))?;
    Ok(name.unwrap_or_else(|| format!("Pool-{pool}")))
}

/// All pools, by number.
pub fn all(xen: &impl Sysctl) -> Result<Vec<Cpupool>> {
    let mut pools: Vec<Cpupool> = Vec::new();
    while let Some(pool) = xen.cpupool(pools.last().map_or(0, |last| last.id + 1))? {
        pools.push(pool);
    }
    Ok(pools)
}

/// The pool that `wanted` names or numbers.
pub fn find(xen: &impl Sysctl, store: &impl Store, wanted: &str) -> Result<Cpupool> {
    let pools = all(xen)?;
    for pool in &pools {
        if name(store, pool.id)? == wanted {
            return Ok(pool.clone());
        }
    }
    let numbered = pools.into_iter().find(|pool| pool.id.to_string() == wanted);
    numbered.ok_or_else(|| Error::NoSuchPool { pool: wanted.into() })
}

/// Makes a pool of CPUs that are in none; leaves nothing behind where that fails.
pub fn create(
    xen: &impl Xen,
    store: &Client,
    name: &str,
    scheduler: Scheduler,
    cpus: &BTreeSet<u32>,
) -> Result<u32> {
    let pool = xen.change_pool(PoolChange::Create(scheduler.0))?;
    let made = add_cpus(xen, pool, cpus).and_then(|()| {
        store.transaction(|transaction| {
            transaction.write(&format!("{}/uuid", path(pool)), &Uuid::new_v4().to_string())?;
            Ok::<_, Error>(transaction.write(&format!("{}/name", path(pool)), name)?)
        })
    });
    match made {
        Ok(()) => Ok(pool),
        Err(error) => {
            // What failed first is what the user must hear.
            let _ = destroy(xen, store, pool);
            Err(error)
        }
    }
}

fn add_cpus(xen: &impl Xen, pool: u32, cpus: &BTreeSet<u32>) -> Result<()> {
    for cpu in cpus {
        xen.change_pool(PoolChange::AddCpu(pool, *cpu))?;
    }
    Ok(())
}

/// Removes a pool; one with domains in it stays as it is.
pub fn destroy(xen: &impl Xen, store: &Client, pool: u32) -> Result<()> {
    let there = all(xen)?.into_iter().find(|there| there.id == pool);
    let there = there.ok_or_else(|| Error::NoSuchPool { pool: pool.to_string() })?;
    if there.domains > 0 {
        return Err(Error::PoolInUse { pool: name(store, pool)?, domains: there.domains });
    }
    let mut removed = Vec::new();
    for cpu in &there.cpus {
        if let Err(error) = xen.change_pool(PoolChange::RemoveCpu(pool, *cpu)) {
            for cpu in removed {
                // As it was, as far as the hypervisor still lets us.
                let _ = xen.change_pool(PoolChange::AddCpu(pool, cpu));
            }
            return Err(error.into());
        }
        removed.push(*cpu);
    }
    xen.change_pool(PoolChange::Destroy(pool))?;
    store.transaction(|transaction| {
        if transaction.exists(&path(pool))? {
            transaction.rm(&path(pool))?;
        }
        Ok(())
    })
}

/// Gives a pool another name.
pub fn rename(xen: &impl Sysctl, store: &Client, pool: u32, new: &str) -> Result<()> {
    for other in all(xen)? {
        if other.id != pool && name(store, other.id)? == new {
            return Err(Error::PoolNameTaken { name: new.into(), pool: other.id });
        }
    }
    Ok(store.write(&format!("{}/name", path(pool)), new)?)
}

/// Moves a domain to a pool.
pub fn migrate(xen: &impl Xen, domain: DomId, pool: u32) -> Result<()> {
    Ok(xen.change_pool(PoolChange::Move(pool, domain)).map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_have_libxl_s_names() {
        assert_eq!(Scheduler::from_name("credit2"), Some(Scheduler::CREDIT2));
        assert_eq!(Scheduler::from_name("rtds"), Some(Scheduler::RTDS));
        assert_eq!(Scheduler::from_name("unknown"), None);
        assert_eq!(Scheduler(77).name(), "unknown");
    }
}
