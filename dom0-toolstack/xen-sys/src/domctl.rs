//! Operations on one domain (`public/domctl.h`, interface version 0x17).

use std::collections::BTreeSet;
use std::fmt;

use hypercall_abi::arch_arm::{
    ArchDomainconfig, PSR_GUEST64_INIT, SCTLR_GUEST_INIT, VGCF_ONLINE, VcpuGuestContext,
    XEN_DOMCTL_CONFIG_GIC_NATIVE, XEN_DOMCTL_CONFIG_GIC_V2, XEN_DOMCTL_CONFIG_GIC_V3,
};
use hypercall_abi::domctl as abi;
use hypercall_abi::hypercall::DOMCTL;
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::{Error, Result};
use crate::ids::{DomId, Gfn, Port};
use crate::privcmd::{Buffer, Privcmd};

/// What a new domain is to be (XEN_DOMCTL_createdomain).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateDomain {
    /// The wanted number, or none to let the hypervisor pick one.
    pub domain: Option<DomId>,
    /// The UUID.
    pub handle: [u8; 16],
    /// How many vCPUs it may ever have.
    pub max_vcpus: u32,
    /// Highest event channel port it may use.
    pub max_event_channel: u32,
    /// Grant table frames, or none for the hypervisor's default.
    pub max_grant_frames: Option<u32>,
    /// Grant map tracking frames, or none for the hypervisor's default.
    pub max_maptrack_frames: Option<u32>,
    /// Whether it gets a performance monitor.
    pub vpmu: bool,
    /// Version of its interrupt controller, or none for the host's.
    pub gic_version: Option<GicVersion>,
    /// How many shared interrupts its controller has.
    pub spis: u32,
}

/// Versions of the guest's interrupt controller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GicVersion {
    /// GICv2.
    V2,
    /// GICv3.
    V3,
}

impl fmt::Display for GicVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
        })
    }
}

/// What the hypervisor made of a [`CreateDomain`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Created {
    /// The domain's number.
    pub domain: DomId,
    /// The interrupt controller it got.
    pub gic_version: GicVersion,
    /// The timer's frequency, where the firmware does not program it into the timer itself.
    pub clock_frequency: Option<u32>,
}

/// State of a domain (XEN_DOMCTL_getdomaininfo).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainInfo {
    /// Its number.
    pub domain: DomId,
    /// Whether it is being destroyed.
    pub dying: bool,
    /// Why it shut down, if it did.
    pub shutdown: Option<ShutdownReason>,
    /// Whether a toolstack paused it.
    pub paused: bool,
    /// Whether all its vCPUs wait.
    pub blocked: bool,
    /// Whether one of its vCPUs runs right now.
    pub running: bool,
    /// Whether the hypervisor translates its memory, as for all domains here.
    pub hvm: bool,
    /// Pages it has.
    pub total_pages: u64,
    /// Pages it may have.
    pub max_pages: u64,
    /// Claimed and not yet given pages.
    pub outstanding_pages: u64,
    /// Time all its vCPUs ran, in nanoseconds.
    pub cpu_time: u64,
    /// vCPUs online.
    pub online_vcpus: u32,
    /// Highest vCPU, if it has any.
    pub max_vcpu: Option<u32>,
    /// Its UUID.
    pub handle: [u8; 16],
    /// Its CPU pool.
    pub cpupool: u32,
    /// Width of its physical addresses.
    pub address_bits: u8,
}

/// Why a domain shut down (`public/sched.h`, SHUTDOWN_*).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShutdownReason {
    /// It powered off.
    Poweroff,
    /// It wants to be restarted.
    Reboot,
    /// It stopped to be saved.
    Suspend,
    /// It crashed.
    Crash,
    /// Its watchdog fired.
    Watchdog,
    /// It wants to be restarted with its memory kept.
    SoftReset,
    /// A reason that the headers do not have.
    Other(u8),
}

impl ShutdownReason {
    /// The number in the headers.
    pub const fn code(self) -> u8 {
        match self {
            Self::Poweroff => 0,
            Self::Reboot => 1,
            Self::Suspend => 2,
            Self::Crash => 3,
            Self::Watchdog => 4,
            Self::SoftReset => 5,
            Self::Other(code) => code,
        }
    }

    /// The reason that a number stands for.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Poweroff,
            1 => Self::Reboot,
            2 => Self::Suspend,
            3 => Self::Crash,
            4 => Self::Watchdog,
            5 => Self::SoftReset,
            other => Self::Other(other),
        }
    }
}

/// State of a vCPU (XEN_DOMCTL_getvcpuinfo).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VcpuInfo {
    /// Whether the guest has it on.
    pub online: bool,
    /// Whether it waits.
    pub blocked: bool,
    /// Whether it runs right now.
    pub running: bool,
    /// Time it ran, in nanoseconds.
    pub cpu_time: u64,
    /// The CPU it is on, or was last.
    pub cpu: u32,
}

/// Where a vCPU may run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Affinity {
    /// CPUs it may run on.
    pub hard: BTreeSet<u32>,
    /// CPUs it would rather run on.
    pub soft: BTreeSet<u32>,
}

/// A domain's share of CPU time under the credit2 scheduler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SchedParams {
    /// Share relative to others; 256 is usual.
    pub weight: u16,
    /// Limit in hundredths of a CPU; 0 is none.
    pub cap: u16,
}

/// Operations on one domain.
pub trait Domctl {
    /// Makes a domain with nothing in it, paused.
    fn create_domain(&self, wanted: &CreateDomain) -> Result<Created>;
    /// Ends a domain; it goes away when nobody maps its memory any more.
    fn destroy_domain(&self, domain: DomId) -> Result<()>;
    /// Stops a domain until unpaused as often as paused.
    fn pause_domain(&self, domain: DomId) -> Result<()>;
    /// Undoes one pause.
    fn unpause_domain(&self, domain: DomId) -> Result<()>;
    /// State of a domain; ESRCH where there is none.
    fn domain_info(&self, domain: DomId) -> Result<DomainInfo>;
    /// Sets how much memory a domain may have, in KiB.
    fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()>;
    /// Makes a domain's vCPUs, as many as it was created for.
    fn set_max_vcpus(&self, domain: DomId, count: u32) -> Result<()>;
    /// Lets a vCPU begin at `entry` (a guest physical address), MMU off, with `argument` in x0.
    fn set_boot_context(&self, domain: DomId, vcpu: u32, entry: u64, argument: u64) -> Result<()>;
    /// State of a vCPU; ESRCH where there is none.
    fn vcpu_info(&self, domain: DomId, vcpu: u32) -> Result<VcpuInfo>;
    /// Where a vCPU may run, among the first `cpus` CPUs.
    fn vcpu_affinity(&self, domain: DomId, vcpu: u32, cpus: u32) -> Result<Affinity>;
    /// Sets where a vCPU may run, of the kinds given.
    fn set_vcpu_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        hard: Option<&BTreeSet<u32>>,
        soft: Option<&BTreeSet<u32>>,
    ) -> Result<()>;
    /// A domain's share of CPU time.
    fn sched_params(&self, domain: DomId) -> Result<SchedParams>;
    /// Sets a domain's share of CPU time.
    fn set_sched_params(&self, domain: DomId, params: SchedParams) -> Result<()>;
    /// Sets whether a domain's kernel is 64 or 32 bits wide; before it has memory.
    fn set_address_size(&self, domain: DomId, bits: u32) -> Result<()>;
    /// Writes `count` frames from `first` back to memory, so that a guest whose caches are off sees them.
    fn flush_cache(&self, domain: DomId, first: Gfn, count: u64) -> Result<()>;
    /// Sets the size of the pool that a domain's stage-2 tables come from.
    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()>;
    /// Says that a domain has no cache colours of its own; fine where the hypervisor has no colouring.
    fn set_default_colors(&self, domain: DomId) -> Result<()>;
    /// Gives a domain an emulated PL011, with its ring at `gfn`; returns its event channel in the domain.
    fn init_vuart(&self, domain: DomId, gfn: Gfn, console: DomId) -> Result<Port>;
    /// Sets a domain's UUID.
    fn set_handle(&self, domain: DomId, handle: [u8; 16]) -> Result<()>;
}

impl Privcmd {
    /// # Safety
    /// Addresses inside `request` are those of [`Buffer`]s held over the call and large enough.
    unsafe fn domctl(&self, call: &'static str, request: &mut abi::Domctl) -> Result<()> {
        let domain = DomId(request.domain);
        // The hypervisor asks to be called again where it has more to do than it wants to at once.
        let answer = loop {
            // SAFETY: passed on to the caller.
            match unsafe { self.call_with(DOMCTL, [0; 5], 0, request) } {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                answer => break answer,
            }
        };
        answer.map(drop).map_err(|errno| Error::Domain { call, domain, errno })
    }

    /// An operation whose argument holds no address; returns the argument as it came back.
    fn plain_domctl<T>(
        &self,
        call: &'static str,
        number: u32,
        domain: DomId,
        argument: &T,
    ) -> Result<T>
    where
        T: FromBytes + Immutable + IntoBytes,
    {
        let mut request = abi::Domctl::with(number, domain.0, argument);
        // SAFETY: by this function's purpose there is no address in the argument; its callers are below.
        unsafe { self.domctl(call, &mut request) }?;
        Ok(request.payload())
    }

    /// A CPU bitmap for the hypervisor, of `cpus` bits or some more.
    fn bitmap(&self, cpus: u32, set: Option<&BTreeSet<u32>>) -> Result<Bitmap<'_>> {
        let bits = cpus.max(1).next_multiple_of(64);
        let mut bytes = vec![0_u8; bits as usize / 8];
        for cpu in set.into_iter().flatten() {
            if let Some(byte) = bytes.get_mut(*cpu as usize / 8) {
                *byte |= 1 << (cpu % 8);
            }
        }
        let buffer = self.buffer(bytes.len())?;
        buffer.write(0, &bytes);
        Ok(Bitmap { buffer, bits })
    }

    /// An empty CPU bitmap that the hypervisor fills.
    pub(crate) fn empty_bitmap(&self, cpus: u32) -> Result<Bitmap<'_>> {
        self.bitmap(cpus, None)
    }
}

/// A CPU bitmap that the hypervisor can read and write.
pub(crate) struct Bitmap<'a> {
    buffer: Buffer<'a>,
    bits: u32,
}

impl Bitmap<'_> {
    /// How a request refers to it.
    pub(crate) fn refer(&self) -> abi::XenctlBitmap {
        abi::XenctlBitmap { bitmap: self.buffer.address(), nr_bits: self.bits, pad: 0 }
    }

    /// The CPUs in it.
    pub(crate) fn set(&self) -> BTreeSet<u32> {
        let mut bytes = vec![0_u8; self.bits as usize / 8];
        self.buffer.read(0, &mut bytes);
        let set =
            |cpu: &u32| bytes.get(*cpu as usize / 8).is_some_and(|byte| byte >> (cpu % 8) & 1 == 1);
        (0..self.bits).filter(set).collect()
    }
}

/// The argument of an operation that has none.
const NOTHING: [u8; 0] = [];

impl Domctl for Privcmd {
    fn create_domain(&self, wanted: &CreateDomain) -> Result<Created> {
        const CALL: &str = "XEN_DOMCTL_createdomain";
        // -1 stands for the hypervisor's default.
        let limit = |frames: Option<u32>| frames.and_then(|n| i32::try_from(n).ok()).unwrap_or(-1);
        let vpmu = if wanted.vpmu { abi::XEN_DOMCTL_CDF_VPMU } else { 0 };
        let argument = abi::CreateDomain {
            handle: wanted.handle,
            flags: abi::XEN_DOMCTL_CDF_HVM | abi::XEN_DOMCTL_CDF_HAP | vpmu,
            max_vcpus: wanted.max_vcpus,
            max_evtchn_port: wanted.max_event_channel,
            max_grant_frames: limit(wanted.max_grant_frames),
            max_maptrack_frames: limit(wanted.max_maptrack_frames),
            grant_opts: 1, // grant tables of version 1, the only one on Arm
            arch: ArchDomainconfig {
                gic_version: match wanted.gic_version {
                    None => XEN_DOMCTL_CONFIG_GIC_NATIVE,
                    Some(GicVersion::V2) => XEN_DOMCTL_CONFIG_GIC_V2,
                    Some(GicVersion::V3) => XEN_DOMCTL_CONFIG_GIC_V3,
                },
                nr_spis: wanted.spis,
                ..ArchDomainconfig::default()
            },
            ..abi::CreateDomain::default()
        };
        let domain = wanted.domain.unwrap_or(DomId(0)); // 0: any
        let mut request = abi::Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, domain.0, &argument);
        // SAFETY: `struct xen_domctl_createdomain` holds no address.
        unsafe { self.domctl(CALL, &mut request) }?;
        let arch = request.payload::<abi::CreateDomain>().arch;
        Ok(Created {
            domain: DomId(request.domain),
            gic_version: match arch.gic_version {
                XEN_DOMCTL_CONFIG_GIC_V2 => GicVersion::V2,
                XEN_DOMCTL_CONFIG_GIC_V3 => GicVersion::V3,
                _ => return Err(Error::Nonsense { call: CALL }),
            },
            clock_frequency: Some(arch.clock_frequency).filter(|hertz| *hertz != 0),
        })
    }

    fn destroy_domain(&self, domain: DomId) -> Result<()> {
        let number = abi::XEN_DOMCTL_DESTROYDOMAIN;
        self.plain_domctl("XEN_DOMCTL_destroydomain", number, domain, &NOTHING).map(drop)
    }

    fn pause_domain(&self, domain: DomId) -> Result<()> {
        let number = abi::XEN_DOMCTL_PAUSEDOMAIN;
        self.plain_domctl("XEN_DOMCTL_pausedomain", number, domain, &NOTHING).map(drop)
    }

    fn unpause_domain(&self, domain: DomId) -> Result<()> {
        let number = abi::XEN_DOMCTL_UNPAUSEDOMAIN;
        self.plain_domctl("XEN_DOMCTL_unpausedomain", number, domain, &NOTHING).map(drop)
    }

    fn domain_info(&self, domain: DomId) -> Result<DomainInfo> {
        const CALL: &str = "XEN_DOMCTL_getdomaininfo";
        let argument = abi::GetDomainInfo::default();
        let info = self.plain_domctl(CALL, abi::XEN_DOMCTL_GETDOMAININFO, domain, &argument)?;
        let info = DomainInfo::decode(&info);
        if info.domain == domain {
            Ok(info)
        } else {
            Err(Error::Domain { call: CALL, domain, errno: Errno::SRCH })
        }
    }

    fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()> {
        let argument = abi::MaxMem { max_memkb: kib };
        self.plain_domctl("XEN_DOMCTL_max_mem", abi::XEN_DOMCTL_MAX_MEM, domain, &argument)
            .map(drop)
    }

    fn set_max_vcpus(&self, domain: DomId, count: u32) -> Result<()> {
        let argument = abi::MaxVcpus { max: count };
        self.plain_domctl("XEN_DOMCTL_max_vcpus", abi::XEN_DOMCTL_MAX_VCPUS, domain, &argument)
            .map(drop)
    }

    fn set_boot_context(&self, domain: DomId, vcpu: u32, entry: u64, argument: u64) -> Result<()> {
        let mut context = VcpuGuestContext {
            flags: VGCF_ONLINE,
            sctlr: SCTLR_GUEST_INIT,
            ..VcpuGuestContext::default()
        };
        let [x0, ..] = &mut context.user_regs.x;
        *x0 = argument;
        context.user_regs.pc64 = entry;
        context.user_regs.cpsr = PSR_GUEST64_INIT;
        let buffer = self.buffer(size_of::<VcpuGuestContext>())?;
        buffer.write(0, context.as_bytes());
        let argument = abi::VcpuContext { vcpu, pad: 0, ctxt: buffer.address() };
        let number = abi::XEN_DOMCTL_SETVCPUCONTEXT;
        let mut request = abi::Domctl::with(number, domain.0, &argument);
        // SAFETY: the one address is that of a buffer as large as the context.
        unsafe { self.domctl("XEN_DOMCTL_setvcpucontext", &mut request) }
    }

    fn vcpu_info(&self, domain: DomId, vcpu: u32) -> Result<VcpuInfo> {
        let argument = abi::GetVcpuInfo { vcpu, ..abi::GetVcpuInfo::default() };
        let number = abi::XEN_DOMCTL_GETVCPUINFO;
        let info = self.plain_domctl("XEN_DOMCTL_getvcpuinfo", number, domain, &argument)?;
        Ok(VcpuInfo {
            online: info.online != 0,
            blocked: info.blocked != 0,
            running: info.running != 0,
            cpu_time: info.cpu_time,
            cpu: info.cpu,
        })
    }

    fn vcpu_affinity(&self, domain: DomId, vcpu: u32, cpus: u32) -> Result<Affinity> {
        let (hard, soft) = (self.empty_bitmap(cpus)?, self.empty_bitmap(cpus)?);
        let argument = abi::VcpuAffinity {
            vcpu,
            flags: abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT,
            cpumap_hard: hard.refer(),
            cpumap_soft: soft.refer(),
        };
        let number = abi::XEN_DOMCTL_GETVCPUAFFINITY;
        let mut request = abi::Domctl::with(number, domain.0, &argument);
        // SAFETY: both addresses are those of buffers with as many bits as said.
        unsafe { self.domctl("XEN_DOMCTL_getvcpuaffinity", &mut request) }?;
        Ok(Affinity { hard: hard.set(), soft: soft.set() })
    }

    fn set_vcpu_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        hard: Option<&BTreeSet<u32>>,
        soft: Option<&BTreeSet<u32>>,
    ) -> Result<()> {
        let last = hard.into_iter().chain(soft).flatten().max();
        let cpus = last.map_or(1, |last| last + 1);
        let mut argument = abi::VcpuAffinity { vcpu, ..abi::VcpuAffinity::default() };
        let hard = hard.map(|set| self.bitmap(cpus, Some(set))).transpose()?;
        if let Some(hard) = &hard {
            argument.flags |= abi::XEN_VCPUAFFINITY_HARD;
            argument.cpumap_hard = hard.refer();
        }
        let soft = soft.map(|set| self.bitmap(cpus, Some(set))).transpose()?;
        if let Some(soft) = &soft {
            argument.flags |= abi::XEN_VCPUAFFINITY_SOFT;
            argument.cpumap_soft = soft.refer();
        }
        let number = abi::XEN_DOMCTL_SETVCPUAFFINITY;
        let mut request = abi::Domctl::with(number, domain.0, &argument);
        // SAFETY: both addresses are null or those of buffers with as many bits as said.
        unsafe { self.domctl("XEN_DOMCTL_setvcpuaffinity", &mut request) }
    }

    fn sched_params(&self, domain: DomId) -> Result<SchedParams> {
        let argument = abi::SchedulerOp {
            sched_id: abi::XEN_SCHEDULER_CREDIT2,
            cmd: abi::XEN_DOMCTL_SCHEDOP_GETINFO,
            ..abi::SchedulerOp::default()
        };
        let number = abi::XEN_DOMCTL_SCHEDULER_OP;
        let answer = self.plain_domctl("XEN_DOMCTL_scheduler_op", number, domain, &argument)?;
        Ok(SchedParams { weight: answer.credit.weight, cap: answer.credit.cap })
    }

    fn set_sched_params(&self, domain: DomId, params: SchedParams) -> Result<()> {
        let argument = abi::SchedulerOp {
            sched_id: abi::XEN_SCHEDULER_CREDIT2,
            cmd: abi::XEN_DOMCTL_SCHEDOP_PUTINFO,
            credit: abi::SchedCredit { weight: params.weight, cap: params.cap },
            ..abi::SchedulerOp::default()
        };
        let number = abi::XEN_DOMCTL_SCHEDULER_OP;
        self.plain_domctl("XEN_DOMCTL_scheduler_op", number, domain, &argument).map(drop)
    }

    fn set_address_size(&self, domain: DomId, bits: u32) -> Result<()> {
        let argument = abi::AddressSize { size: bits };
        let number = abi::XEN_DOMCTL_SET_ADDRESS_SIZE;
        self.plain_domctl("XEN_DOMCTL_set_address_size", number, domain, &argument).map(drop)
    }

    fn flush_cache(&self, domain: DomId, first: Gfn, count: u64) -> Result<()> {
        /// More at once is refused (`public/domctl.h`, cacheflush).
        const MOST: u64 = 1 << 18;
        let mut done = 0;
        while done < count {
            let nr_pfns = (count - done).min(MOST);
            let argument = abi::CacheFlush { start_pfn: first.0 + done, nr_pfns };
            let number = abi::XEN_DOMCTL_CACHEFLUSH;
            self.plain_domctl("XEN_DOMCTL_cacheflush", number, domain, &argument)?;
            done += nr_pfns;
        }
        Ok(())
    }

    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()> {
        let argument = abi::PagingMempool { size: bytes };
        let number = abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE;
        self.plain_domctl("XEN_DOMCTL_set_paging_mempool_size", number, domain, &argument).map(drop)
    }

    fn set_default_colors(&self, domain: DomId) -> Result<()> {
        let number = abi::XEN_DOMCTL_SET_LLC_COLORS;
        let argument = abi::SetLlcColors::default();
        match self.plain_domctl("XEN_DOMCTL_set_llc_colors", number, domain, &argument) {
            Err(error) if error.is(Errno::NOTSUP) || error.is(Errno::NOSYS) => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn init_vuart(&self, domain: DomId, gfn: Gfn, console: DomId) -> Result<Port> {
        let argument = abi::VuartOp {
            cmd: abi::XEN_DOMCTL_VUART_OP_INIT,
            kind: abi::XEN_DOMCTL_VUART_TYPE_VPL011,
            gfn: gfn.0,
            console_domid: console.0,
            ..abi::VuartOp::default()
        };
        let number = abi::XEN_DOMCTL_VUART_OP;
        let answer = self.plain_domctl("XEN_DOMCTL_vuart_op", number, domain, &argument)?;
        Ok(Port(answer.evtchn))
    }

    fn set_handle(&self, domain: DomId, handle: [u8; 16]) -> Result<()> {
        let argument = abi::SetDomainHandle { handle };
        let number = abi::XEN_DOMCTL_SETDOMAINHANDLE;
        self.plain_domctl("XEN_DOMCTL_setdomainhandle", number, domain, &argument).map(drop)
    }
}

impl DomainInfo {
    /// What the hypervisor's answer says.
    pub(crate) fn decode(info: &abi::GetDomainInfo) -> Self {
        let flag = |bit| info.flags & bit != 0;
        let [_, _, code, _] = info.flags.to_le_bytes(); // XEN_DOMINF_SHUTDOWNSHIFT
        Self {
            domain: DomId(info.domain),
            dying: flag(abi::XEN_DOMINF_DYING),
            hvm: flag(abi::XEN_DOMINF_HVM_GUEST),
            shutdown: flag(abi::XEN_DOMINF_SHUTDOWN).then(|| ShutdownReason::from_code(code)),
            paused: flag(abi::XEN_DOMINF_PAUSED),
            blocked: flag(abi::XEN_DOMINF_BLOCKED),
            running: flag(abi::XEN_DOMINF_RUNNING),
            total_pages: info.tot_pages,
            max_pages: info.max_pages,
            outstanding_pages: info.outstanding_pages,
            cpu_time: info.cpu_time,
            online_vcpus: info.nr_online_vcpus,
            max_vcpu: Some(info.max_vcpu_id).filter(|max| *max != abi::XEN_INVALID_MAX_VCPU_ID),
            handle: info.handle,
            cpupool: info.cpupool,
            address_bits: info.gpaddr_bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_never_shut_down_has_no_reason() {
        // Xen answers all ones above bit 15 until there is a reason.
        let mut info = abi::GetDomainInfo {
            domain: 3,
            flags: 0xffff_0012,
            max_vcpu_id: u32::MAX,
            ..abi::GetDomainInfo::default()
        };
        let decoded = DomainInfo::decode(&info);
        assert_eq!((decoded.domain, decoded.shutdown, decoded.blocked), (DomId(3), None, true));
        assert_eq!(decoded.max_vcpu, None);
        info.flags = 0x0003_0004;
        assert_eq!(DomainInfo::decode(&info).shutdown, Some(ShutdownReason::Crash));
    }
}
