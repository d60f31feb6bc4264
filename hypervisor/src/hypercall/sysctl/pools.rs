//! Processor pools and their schedulers. There is one kind of scheduler, which answers as credit2.

use super::Request;
use crate::hypercall::{Caller, bitmap};
use hv_core::ids::{CpuId, DomId};
use hv_core::sched::Kick;
use hv_core::sched::affinity::CpuSet;
use hv_core::sched::pool::{PoolError, PoolId};
use hv_core::time::Nanos;
use hypercall_abi::domctl::XEN_SCHEDULER_CREDIT2;
use hypercall_abi::errno::Errno;
use hypercall_abi::sysctl as abi;
use hypercall_abi::sysctl::{CpupoolOp, SchedId, SchedulerOp};

/// The shortest and the longest rate limit there may be, in µs (`public/sysctl.h`).
const RATE_LIMITS: core::ops::RangeInclusive<u32> = 100..=500_000;

/// Returns the error for what cannot be done to a pool.
pub fn errno(error: PoolError) -> Errno {
    match error {
        PoolError::NoSuchPool | PoolError::Empty => Errno::ENOENT,
        PoolError::Exists => Errno::EEXIST,
        PoolError::TooMany => Errno::ENOSPC,
        PoolError::InUse => Errno::EBUSY,
        PoolError::NoSuchCpu | PoolError::BootCpu => Errno::EINVAL,
        PoolError::NotFree => Errno::ENODEV,
        PoolError::NotMember => Errno::EADDRNOTAVAIL,
        PoolError::NoMemory => Errno::ENOMEM,
    }
}

pub(super) fn sched_id(request: &mut Request<'_>) -> Result<(), Errno> {
    request.sysctl.set_payload(&SchedId { sched_id: XEN_SCHEDULER_CREDIT2 });
    request.reply()
}

pub(super) fn operation(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: CpupoolOp = request.sysctl.payload();
    let pool = PoolId(wanted.cpupool_id);
    let caller = request.caller;
    match wanted.op {
        abi::XEN_SYSCTL_CPUPOOL_OP_CREATE => create(caller, &mut wanted)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY => {
            caller.hv.scheduler.lock().destroy_pool(pool).map_err(errno)?;
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO => describe(caller, &mut wanted)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU => {
            let now = caller.hv.machine.now();
            let given = caller.hv.scheduler.lock().give_cpu(pool, cpu(&wanted), now);
            kick(caller, given)?;
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU => {
            let now = caller.hv.machine.now();
            let taken = caller.hv.scheduler.lock().take_cpu(pool, cpu(&wanted), now);
            kick(caller, taken)?;
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => move_domain(caller, &wanted)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => {
            let free = caller.hv.scheduler.lock().unpooled();
            bitmap::store(caller.guest, wanted.cpumap, free.bits(), u64::BITS)?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    request.sysctl.set_payload(&wanted);
    request.reply()
}

/// Returns the processor that is named; nothing is any.
fn cpu(wanted: &CpupoolOp) -> Option<CpuId> {
    (wanted.cpu != abi::XEN_SYSCTL_CPUPOOL_PAR_ANY).then_some(CpuId(wanted.cpu))
}

fn kick(caller: &Caller<'_>, done: Result<CpuSet, PoolError>) -> Result<(), Errno> {
    for cpu in done.map_err(errno)?.iter() {
        caller.hv.kick_cpu(Kick::Cpu(cpu));
    }
    Ok(())
}

fn create(caller: &Caller<'_>, wanted: &mut CpupoolOp) -> Result<(), Errno> {
    if wanted.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::ENOENT);
    }
    let any = wanted.cpupool_id == abi::XEN_SYSCTL_CPUPOOL_PAR_ANY;
    let id = (!any).then_some(PoolId(wanted.cpupool_id));
    wanted.cpupool_id = caller.hv.scheduler.lock().create_pool(id).map_err(errno)?.0;
    Ok(())
}

fn describe(caller: &Caller<'_>, wanted: &mut CpupoolOp) -> Result<(), Errno> {
    let domains = caller.hv.all_domains()?;
    let scheduler = caller.hv.scheduler.lock();
    let pool = scheduler.pool_from(PoolId(wanted.cpupool_id)).ok_or(Errno::ENOENT)?;
    let inside = domains.iter().filter(|domain| scheduler.pool_of(domain.id) == pool.id);
    wanted.n_dom = u32::try_from(inside.count()).unwrap_or(u32::MAX);
    drop(scheduler);
    wanted.cpupool_id = pool.id.0;
    wanted.sched_id = XEN_SCHEDULER_CREDIT2;
    bitmap::store(caller.guest, wanted.cpumap, pool.cpus.bits(), u64::BITS)
}

fn move_domain(caller: &Caller<'_>, wanted: &CpupoolOp) -> Result<(), Errno> {
    let id = u16::try_from(wanted.domid).map_err(|_| Errno::ESRCH)?;
    let domain = caller.hv.domain(DomId(id)).ok_or(Errno::ESRCH)?;
    if domain.id == caller.domain.id {
        return Err(Errno::EPERM);
    }
    let now = caller.hv.machine.now();
    let moved = caller.hv.scheduler.lock().settle(domain.id, PoolId(wanted.cpupool_id), now);
    kick(caller, moved)
}

/// The one parameter of a pool's scheduler is how long what runs is left alone at least.
pub(super) fn parameters(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: SchedulerOp = request.sysctl.payload();
    let id = PoolId(wanted.cpupool_id);
    let mut scheduler = request.caller.hv.scheduler.lock();
    let pool = scheduler.pool_from(id).filter(|pool| pool.id == id).ok_or(Errno::ESRCH)?;
    if wanted.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    let mut limit = pool.rate_limit;
    match wanted.cmd {
        abi::XEN_SYSCTL_SCHEDOP_GETINFO => {}
        abi::XEN_SYSCTL_SCHEDOP_PUTINFO => {
            let [asked, ..] = wanted.parameters;
            if asked != 0 && !RATE_LIMITS.contains(&asked) {
                return Err(Errno::EINVAL);
            }
            limit = Nanos::from_micros(asked.into());
            scheduler.set_rate_limit(id, limit).map_err(errno)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    drop(scheduler);
    wanted.parameters = [u32::try_from(limit.0 / 1000).unwrap_or(u32::MAX), 0, 0];
    request.sysctl.set_payload(&wanted);
    request.reply()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_xens_error() {
        let all = [
            (PoolError::NoSuchPool, Errno::ENOENT),
            (PoolError::Empty, Errno::ENOENT),
            (PoolError::Exists, Errno::EEXIST),
            (PoolError::TooMany, Errno::ENOSPC),
            (PoolError::InUse, Errno::EBUSY),
            (PoolError::NoSuchCpu, Errno::EINVAL),
            (PoolError::BootCpu, Errno::EINVAL),
            (PoolError::NoMemory, Errno::ENOMEM),
            (PoolError::NotFree, Errno::ENODEV),
            (PoolError::NotMember, Errno::EADDRNOTAVAIL),
        ];
        for (reason, error) in all {
            assert_eq!(errno(reason), error);
        }
    }
}
