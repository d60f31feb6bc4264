//! Processor pools and the scheduler: one pool, one scheduler, which answers as credit2.

use super::Request;
use hv_core::guest::GuestMemory;
use hv_core::sched::affinity::CpuSet;
use hypercall_abi::domctl::{XEN_SCHEDULER_CREDIT2, XenctlBitmap};
use hypercall_abi::errno::Errno;
use hypercall_abi::sysctl::{
    CpupoolOp, SchedId, SchedulerOp, XEN_SYSCTL_CPUPOOL_OP_FREEINFO, XEN_SYSCTL_CPUPOOL_OP_INFO,
    XEN_SYSCTL_SCHEDOP_GETINFO, XEN_SYSCTL_SCHEDOP_PUTINFO,
};

/// The only pool.
const POOL: u32 = 0;

pub(super) fn sched_id(request: &mut Request<'_>) -> Result<(), Errno> {
    request.sysctl.set_payload(&SchedId { sched_id: XEN_SCHEDULER_CREDIT2 });
    request.reply()
}

pub(super) fn operation(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: CpupoolOp = request.sysctl.payload();
    let hv = request.caller.hv;
    let cpus = match wanted.op {
        XEN_SYSCTL_CPUPOOL_OP_INFO => {
            if wanted.cpupool_id != POOL {
                return Err(Errno::ENOENT);
            }
            wanted.sched_id = XEN_SCHEDULER_CREDIT2;
            wanted.n_dom = u32::try_from(hv.domains.lock().len()).unwrap_or(u32::MAX);
            hv.scheduler.lock().online()
        }
        XEN_SYSCTL_CPUPOOL_OP_FREEINFO => CpuSet::NONE,
        // More pools than the one there is are not to be had.
        _ => return Err(Errno::EOPNOTSUPP),
    };
    store_cpus(request, wanted.cpumap, cpus)?;
    request.sysctl.set_payload(&wanted);
    request.reply()
}

fn store_cpus(request: &Request<'_>, map: XenctlBitmap, cpus: CpuSet) -> Result<(), Errno> {
    let bytes = cpus.bits().to_le_bytes();
    for index in 0..map.nr_bits.div_ceil(8) {
        let byte = bytes.get(index as usize).copied().unwrap_or(0);
        let address = map.bitmap.checked_add(u64::from(index)).ok_or(Errno::EFAULT)?;
        request.caller.guest.write(address, &[byte])?;
    }
    Ok(())
}

/// There is no limit on how often the scheduler may switch, so the one credit2 has reads as 0.
pub(super) fn parameters(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: SchedulerOp = request.sysctl.payload();
    if wanted.cpupool_id != POOL {
        return Err(Errno::ESRCH);
    }
    if wanted.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    match wanted.cmd {
        XEN_SYSCTL_SCHEDOP_GETINFO => wanted.parameters = [0; 3],
        XEN_SYSCTL_SCHEDOP_PUTINFO => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    }
    request.sysctl.set_payload(&wanted);
    request.reply()
}
