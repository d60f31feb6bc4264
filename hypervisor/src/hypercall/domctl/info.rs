//! What there is to know of a domain, and what the tools write on it.

use super::Request;
use crate::domain::Domain;
use crate::state::Hypervisor;
use hv_core::guest::GuestMemory;
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
/// Members that a set copied out may have room for.
const MOST_MEMBERS: u32 = 1 << 16;

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
    store_bitmap(request, map, 1, 1)
}

pub(super) fn set_node_affinity(request: &Request<'_>) -> Result<(), Errno> {
    let map: XenctlBitmap = request.domctl.payload();
    let nodes = load_bitmap(request, map)?;
    if nodes & 1 != 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Copies a set of at most 64 members out; what the caller has room for beyond is zero.
///
/// Who has room for more members than any machine has is refused: to fill it could take minutes.
pub(super) fn store_bitmap(
    request: &Request<'_>,
    map: XenctlBitmap,
    bits: u64,
    valid: u32,
) -> Result<(), Errno> {
    if map.nr_bits > MOST_MEMBERS {
        return Err(Errno::EINVAL);
    }
    let kept = map.nr_bits.min(valid).min(u64::BITS);
    let mask = if kept == u64::BITS { u64::MAX } else { (1 << kept) - 1 };
    let mut chunk = (bits & mask).to_le_bytes();
    let mut address = map.bitmap;
    let mut room = map.nr_bits.div_ceil(8) as usize;
    while room > 0 {
        let part = chunk.get(..room.min(chunk.len())).ok_or(Errno::EFAULT)?;
        request.caller.guest.write(address, part)?;
        room -= part.len();
        address = address.checked_add(part.len() as u64).ok_or(Errno::EFAULT)?;
        chunk = [0; 8];
    }
    Ok(())
}

/// Copies a set of at most 64 members in.
pub(super) fn load_bitmap(request: &Request<'_>, map: XenctlBitmap) -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    let len = (map.nr_bits.div_ceil(8) as usize).min(bytes.len());
    let room = bytes.get_mut(..len).ok_or(Errno::EFAULT)?;
    request.caller.guest.read(map.bitmap, room)?;
    let mask = if map.nr_bits >= u64::BITS { u64::MAX } else { (1 << map.nr_bits) - 1 };
    Ok(u64::from_le_bytes(bytes) & mask)
}
