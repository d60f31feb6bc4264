//! `XEN_DOMCTL_createdomain`.

use crate::domain::Settings;
use crate::domain::create::Request;
use crate::hypercall::Caller;
use crate::hypercall::sysctl::pools;
use crate::state::{HostGic, Hypervisor};
use arrayvec::ArrayVec;
use hv_core::addr::GuestAddr;
use hv_core::grant::Limits;
use hv_core::guest::Handle;
use hv_core::ids::{DomId, Irq};
use hv_core::sched::pool::{PoolError, PoolId};
use hv_core::vgic::{self, Layout, RedistributorRegion};
use hypercall_abi::arch_arm as arm;
use hypercall_abi::domctl::{
    CreateDomain, Domctl, XEN_DOMCTL_CDF_HAP, XEN_DOMCTL_CDF_HVM, XEN_DOMCTL_GRANT_VERSION_MASK,
};
use hypercall_abi::errno::Errno;

const GRANT_VERSION: u32 = 1;
/// Bytes of one virtual processor's redistributor.
const REDISTRIBUTOR: u64 = 0x2_0000;

pub(super) fn create(
    caller: &Caller<'_>,
    mut domctl: Domctl,
    handle: Handle<Domctl>,
) -> Result<(), Errno> {
    let hv = caller.hv;
    hv.host.options.interface.take_creation(&mut domctl);
    let mut wanted: CreateDomain = domctl.payload();
    check(&wanted, gic_version(hv))?;
    // Holding this, nobody else takes the number found free.
    let mut last = hv.last_domid.lock();
    let id = choose(caller, domctl.domain, *last)?;
    wanted.arch.gic_version = gic_version(hv);
    wanted.arch.clock_frequency = hv.host.timer_node_frequency;
    domctl.domain = id.0;
    domctl.set_payload(&wanted);
    hv.host.options.interface.give_creation(&mut domctl);
    // The reply goes out first: a caller that cannot be told of its domain gets none.
    handle.store(caller.guest, &domctl)?;
    settle(caller, id, PoolId(wanted.cpupool_id))?;
    if let Err(error) = hv.create_domain(request(caller, id, &wanted)) {
        hv.scheduler.lock().unsettle(id);
        return Err(error.into());
    }
    *last = id.0;
    Ok(())
}

/// Puts a domain that has no virtual processors yet into its pool.
fn settle(caller: &Caller<'_>, id: DomId, pool: PoolId) -> Result<(), Errno> {
    let now = caller.hv.machine.now();
    match caller.hv.scheduler.lock().settle(id, pool, now) {
        // Without virtual processors there is nobody to kick.
        Ok(_) => Ok(()),
        Err(PoolError::NoSuchPool) => Err(Errno::ESRCH),
        Err(PoolError::Empty) => Err(Errno::ENODEV),
        Err(error) => Err(pools::errno(error)),
    }
}

/// Returns which interrupt controller a guest has: the host's version.
pub(super) fn gic_version(hv: &Hypervisor) -> u8 {
    match hv.host.gic {
        HostGic::V2 { .. } => arm::XEN_DOMCTL_CONFIG_GIC_V2,
        HostGic::V3 => arm::XEN_DOMCTL_CONFIG_GIC_V3,
    }
}

/// Checks a configuration; `native` is the version of the host's interrupt controller.
fn check(wanted: &CreateDomain, native: u8) -> Result<(), Errno> {
    let arch = &wanted.arch;
    let version = match arch.gic_version {
        arm::XEN_DOMCTL_CONFIG_GIC_NATIVE => native,
        version => version,
    };
    let most = match version {
        arm::XEN_DOMCTL_CONFIG_GIC_V2 => vgic::MAX_VCPUS_V2,
        arm::XEN_DOMCTL_CONFIG_GIC_V3 => arm::GUEST_MAX_VCPUS,
        _ => return Err(Errno::EINVAL),
    };
    let fine = wanted.flags == XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP
        && wanted.iommu_opts == 0
        && (1..=most).contains(&wanted.max_vcpus)
        && wanted.grant_opts & XEN_DOMCTL_GRANT_VERSION_MASK == GRANT_VERSION
        && wanted.grant_opts & !XEN_DOMCTL_GRANT_VERSION_MASK == 0
        && wanted.altp2m_opts == 0
        && wanted.vmtrace_size == 0
        && arch.sve_vl == 0
        && arch.tee_type == arm::XEN_DOMCTL_CONFIG_TEE_NONE
        && arch.nr_spis <= Irq::SPI_END - 32;
    if !fine {
        return Err(Errno::EINVAL);
    }
    // The host's controller gives guests an interface of its own version only.
    if version == native { Ok(()) } else { Err(Errno::ENODEV) }
}

/// Takes the number asked for, or the next free one after `last`.
fn choose(caller: &Caller<'_>, asked: u16, last: u16) -> Result<DomId, Errno> {
    if (1..DomId::FIRST_RESERVED).contains(&asked) {
        let taken = caller.hv.domain(DomId(asked)).is_some();
        return if taken { Err(Errno::EEXIST) } else { Ok(DomId(asked)) };
    }
    let after = (last.saturating_add(1)..DomId::FIRST_RESERVED).chain(1..=last);
    let domains = caller.hv.domains.lock();
    after.map(DomId).find(|id| !domains.contains_key(id)).ok_or(Errno::ENOMEM)
}

/// Returns where a guest sees its interrupt controller (`public/arch-arm.h`).
fn layout(hv: &Hypervisor) -> Layout {
    match hv.host.gic {
        HostGic::V2 { .. } => Layout::V2 {
            distributor: GuestAddr::new(arm::GUEST_GICD_BASE),
            interface: GuestAddr::new(arm::GUEST_GICC_BASE),
        },
        HostGic::V3 => {
            let mut redistributors = ArrayVec::new();
            redistributors.push(RedistributorRegion {
                base: GuestAddr::new(arm::GUEST_GICV3_GICR0_BASE),
                vcpus: u32::try_from(arm::GUEST_GICV3_GICR0_SIZE / REDISTRIBUTOR)
                    .unwrap_or(u32::MAX),
            });
            let distributor = GuestAddr::new(arm::GUEST_GICV3_GICD_BASE);
            Layout::V3 { distributor, redistributors }
        }
    }
}

fn request(caller: &Caller<'_>, id: DomId, wanted: &CreateDomain) -> Request {
    let defaults = Limits::GUEST;
    let limit = |asked: i32, default| u32::try_from(asked).unwrap_or(default);
    Request {
        id,
        settings: Settings {
            max_vcpus: wanted.max_vcpus,
            direct_mapped: false,
            privileged: false,
            flags: wanted.flags,
            ssidref: wanted.ssidref,
            upcall: Irq::ppi(arm::GUEST_EVTCHN_PPI - 16),
            counter_offset: caller.hv.machine.ticks(),
            waits_natively: caller.hv.host.options.vwfi_native,
            spis: wanted.arch.nr_spis,
        },
        max_port: wanted.max_evtchn_port,
        ports_room: wanted.max_evtchn_port,
        grants: Limits {
            frames: limit(wanted.max_grant_frames, defaults.frames),
            maptrack_frames: limit(wanted.max_maptrack_frames, defaults.maptrack_frames),
        },
        handle: wanted.handle,
        layout: layout(caller.hv),
        frame_limit: 0,
    }
}
