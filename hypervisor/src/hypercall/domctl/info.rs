//! What there is to know of a domain, and what the tools write on it.

use super::Request;
use crate::domain::Domain;
use crate::hypercall::bitmap;
use crate::state::Hypervisor;
use hv_core::lifecycle::Dying;
use hv_core::sched::Hold;
use hypercall_abi::arch_arm::ArchDomainconfig;
use hypercall_abi::domctl as abi;
use hypercall_abi::domctl::{
    AddressSize, GetDomainInfo, SetDomainHandle, SetTimeOffset, XenctlBitmap,
};
use hypercall_abi::errno::Errno;

/// The guest frame of a shared page that is mapped nowhere.
const INVALID_GFN: u64 = u64::MAX;
/// A guest runs in AArch64 only.
const ADDRESS_BITS: u32 = 64;

/// Describes `domain`.
pub fn describe(hv: &Hypervisor, domain: &Domain) -> GetDomainInfo {
    let account = hv.frames.lock().account(domain.id);
    let shared = domain.shared_info.frame();
    let mut info = GetDomainInfo {
        domain: domain.id.0,
        flags: life_flags(domain),
        tot_pages: account.map_or(0, |account| account.total),
        max_pages: account.map_or(0, |account| account.limit),
        outstanding_pages: account.map_or(0, |account| account.claimed),
        shared_info_frame: hv
            .frames
            .lock()
            .shared_at(shared)
            .map_or(INVALID_GFN, hv_core::addr::Gfn::number),
        max_vcpu_id: abi::XEN_INVALID_MAX_VCPU_ID,
        ssidref: domain.settings.ssidref,
        handle: *domain.handle.lock(),
        gpaddr_bits: hv.host.ipa_bits,
        arch_config: ArchDomainconfig {
            gic_version: super::create::gic_version(hv),
            nr_spis: domain.settings.spis,
            clock_frequency: hv.host.timer_node_frequency,
            ..ArchDomainconfig::default()
        },
        ..GetDomainInfo::default()
    };
    describe_vcpus(hv, domain, &mut info);
    info
}

fn life_flags(domain: &Domain) -> u32 {
    let life = domain.life.lock();
    let mut flags = abi::XEN_DOMINF_HVM_GUEST | abi::XEN_DOMINF_HAP;
    if life.dying() == Dying::Done {
        flags |= abi::XEN_DOMINF_DYING;
    }
    if life.is_paused() {
        flags |= abi::XEN_DOMINF_PAUSED;
    }
    match life.shutdown() {
        Some(reason) => {
            flags |= abi::XEN_DOMINF_SHUTDOWN;
            flags |= u32::from(reason.0) << abi::XEN_DOMINF_SHUTDOWNSHIFT;
        }
        // As Xen has it: no reason is all ones.
        None => flags |= 0xffff << abi::XEN_DOMINF_SHUTDOWNSHIFT,
    }
    flags
}

fn describe_vcpus(hv: &Hypervisor, domain: &Domain, info: &mut GetDomainInfo) {
    let now = hv.machine.now();
    let scheduler = hv.scheduler.lock();
    info.cpupool = scheduler.pool_of(domain.id).0;
    let mut blocked = true;
    for vcpu in domain.vcpus() {
        info.max_vcpu_id = vcpu.who.vcpu.0;
        let [running, ..] = scheduler.runstate(vcpu.sched, now).times;
        info.cpu_time = info.cpu_time.saturating_add(running.0);
        let holds = scheduler.holds(vcpu.sched);
        if holds.contains(Hold::DOWN) {
            continue;
        }
        info.nr_online_vcpus += 1;
        blocked &= holds.contains(Hold::BLOCKED);
        if vcpu.running_on().is_some() {
            info.flags |= abi::XEN_DOMINF_RUNNING;
        }
    }
    if blocked && info.flags & abi::XEN_DOMINF_RUNNING == 0 {
        info.flags |= abi::XEN_DOMINF_BLOCKED;
    }
}

pub(super) fn get(request: &mut Request<'_>) -> Result<(), Errno> {
    let info = describe(request.caller.hv, request.domain);
    request.domctl.domain = info.domain;
    request.domctl.set_payload(&info);
    request.reply()
}

pub(super) fn set_handle(request: &Request<'_>) -> Result<(), Errno> {
    let SetDomainHandle { handle } = request.domctl.payload();
    *request.domain.handle.lock() = handle;
    Ok(())
}

pub(super) fn set_time_offset(request: &Request<'_>) -> Result<(), Errno> {
    let SetTimeOffset { time_offset_seconds } = request.domctl.payload();
    *request.domain.time_offset.lock() = time_offset_seconds;
    let hv = request.caller.hv;
    let wallclock = *hv.wallclock.lock();
    request.domain.write_wallclock(&hv.machine, wallclock);
    Ok(())
}

pub(super) fn set_address_size(request: &Request<'_>) -> Result<(), Errno> {
    let AddressSize { size } = request.domctl.payload();
    let owned = request.caller.hv.frames.lock().account(request.domain.id);
    if owned.is_some_and(|account| account.total > 0) {
        return Err(Errno::EBUSY);
    }
    if size == ADDRESS_BITS { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(super) fn get_address_size(request: &mut Request<'_>) -> Result<(), Errno> {
    request.domctl.set_payload(&AddressSize { size: ADDRESS_BITS });
    request.reply()
}

/// There is one node, and every domain is on it.
pub(super) fn get_node_affinity(request: &mut Request<'_>) -> Result<(), Errno> {
    let map: XenctlBitmap = request.domctl.payload();
    bitmap::store(request.caller.guest, map, 1, 1)
}

pub(super) fn set_node_affinity(request: &Request<'_>) -> Result<(), Errno> {
    let map: XenctlBitmap = request.domctl.payload();
    let nodes = bitmap::load(request.caller.guest, map)?;
    if nodes & 1 != 0 { Ok(()) } else { Err(Errno::EINVAL) }
}
