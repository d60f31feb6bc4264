//! Affinity, weights and caps.

use super::Request;
use super::vcpu::find;
use crate::hypercall::bitmap;
use hv_core::sched::Share;
use hv_core::sched::affinity::CpuSet;
use hypercall_abi::domctl::{
    SchedulerOp, VcpuAffinity, XEN_DOMCTL_SCHEDOP_GETINFO, XEN_DOMCTL_SCHEDOP_PUTINFO,
    XEN_SCHEDULER_CREDIT2, XEN_VCPUAFFINITY_FORCE, XEN_VCPUAFFINITY_HARD, XEN_VCPUAFFINITY_SOFT,
};
use hypercall_abi::errno::Errno;

const KINDS: u32 = XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT;

fn processors(request: &Request<'_>) -> u32 {
    u32::try_from(request.caller.hv.processors.len()).unwrap_or(u32::MAX)
}

fn check(affinity: &VcpuAffinity) -> Result<(), Errno> {
    let known = KINDS | XEN_VCPUAFFINITY_FORCE;
    if affinity.flags & KINDS == 0 || affinity.flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

pub(super) fn set_affinity(request: &Request<'_>) -> Result<(), Errno> {
    let affinity: VcpuAffinity = request.domctl.payload();
    let (hv, guest) = (request.caller.hv, request.caller.guest);
    let vcpu = find(request, affinity.vcpu)?;
    check(&affinity)?;
    let (mut hard, mut soft) = hv.scheduler.lock().affinity(vcpu.sched);
    if affinity.flags & XEN_VCPUAFFINITY_HARD != 0 {
        hard = CpuSet::from_bits(bitmap::load(guest, affinity.cpumap_hard)?);
    }
    if affinity.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        soft = CpuSet::from_bits(bitmap::load(guest, affinity.cpumap_soft)?);
    }
    let pool = hv.scheduler.lock().cpus_of(request.domain.id);
    if affinity.flags & XEN_VCPUAFFINITY_SOFT != 0 && soft.is_empty() {
        return Err(Errno::EINVAL);
    }
    let now = hv.machine.now();
    let kick = hv.scheduler.lock().set_affinity(vcpu.sched, hard, soft, now);
    hv.kick_cpu(kick.ok_or(Errno::EINVAL)?);
    // The caller gets back what its sets come to in the domain's pool.
    let count = processors(request);
    if affinity.flags & XEN_VCPUAFFINITY_HARD != 0 {
        bitmap::store(guest, affinity.cpumap_hard, (hard & pool).bits(), count)?;
    }
    if affinity.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        bitmap::store(guest, affinity.cpumap_soft, (soft & hard & pool).bits(), count)?;
    }
    Ok(())
}

pub(super) fn get_affinity(request: &Request<'_>) -> Result<(), Errno> {
    let affinity: VcpuAffinity = request.domctl.payload();
    let guest = request.caller.guest;
    let vcpu = find(request, affinity.vcpu)?;
    check(&affinity)?;
    let (hard, soft) = request.caller.hv.scheduler.lock().affinity(vcpu.sched);
    let count = processors(request);
    if affinity.flags & XEN_VCPUAFFINITY_HARD != 0 {
        bitmap::store(guest, affinity.cpumap_hard, hard.bits(), count)?;
    }
    if affinity.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        bitmap::store(guest, affinity.cpumap_soft, soft.bits(), count)?;
    }
    Ok(())
}

/// The scheduler answers as credit2 does: a weight of 0 leaves the weight as it is.
pub(super) fn parameters(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut operation: SchedulerOp = request.domctl.payload();
    let hv = request.caller.hv;
    if operation.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    let share = hv.scheduler.lock().share(request.domain.id);
    match operation.cmd {
        XEN_DOMCTL_SCHEDOP_GETINFO => {
            operation.credit.weight = share.weight;
            operation.credit.cap = share.cap;
        }
        XEN_DOMCTL_SCHEDOP_PUTINFO => {
            let asked = operation.credit.weight;
            let weight = if asked == 0 { share.weight } else { asked };
            let share = Share { weight, cap: operation.credit.cap };
            hv.scheduler.lock().set_share(request.domain.id, share, hv.machine.now());
        }
        _ => return Err(Errno::EINVAL),
    }
    request.domctl.set_payload(&operation);
    request.reply()
}
