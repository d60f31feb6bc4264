//! Operations on one domain (`public/domctl.h`, interface version 0x17).

use std::collections::BTreeSet;

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::ids::{DomId, Gfn, Port};
use crate::payload::Payload;
use crate::privcmd::{Buffer, Privcmd};

/// `__HYPERVISOR_domctl`.
const DOMCTL: u64 = 36;
/// XEN_DOMCTL_INTERFACE_VERSION of Xen 4.20.
const INTERFACE: u32 = 0x17;
/// Where the operation's own fields begin.
const U: usize = 16;
/// Size of `struct xen_domctl`.
const SIZE: usize = 144;
/// Size of `struct vcpu_guest_context` on arm64.
const CONTEXT_SIZE: usize = 352;

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
    /// Addresses inside `payload` are those of [`Buffer`]s held over the call and large enough.
    unsafe fn domctl(
        &self,
        name: &'static str,
        number: u32,
        domain: DomId,
        payload: Payload<SIZE>,
    ) -> Result<Payload<SIZE>> {
        let mut payload = payload.u32(0, number).u32(4, INTERFACE).u16(8, domain.0);
        // The hypervisor asks to be called again where it has more to do than it wants to at once.
        let answer = loop {
            // SAFETY: passed on to the caller.
            match unsafe { self.call_with(DOMCTL, [0; 5], 0, &mut payload) } {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                answer => break answer,
            }
        };
        answer.map_err(|errno| Error::Domain { call: name, domain, errno })?;
        Ok(payload)
    }

    /// An operation whose fields hold no address.
    fn plain_domctl(
        &self,
        name: &'static str,
        number: u32,
        domain: DomId,
        payload: Payload<SIZE>,
    ) -> Result<Payload<SIZE>> {
        // SAFETY: by this function's purpose there is no address in the payload; its callers are below.
        unsafe { self.domctl(name, number, domain, payload) }
    }

    /// A CPU bitmap for the hypervisor: its buffer and how many bits it has.
    fn bitmap(&self, cpus: u32, set: Option<&BTreeSet<u32>>) -> Result<(Buffer<'_>, u32)> {
        let bits = cpus.max(1).next_multiple_of(64);
        let mut bytes = vec![0_u8; bits as usize / 8];
        for cpu in set.into_iter().flatten() {
            if let Some(byte) = bytes.get_mut(*cpu as usize / 8) {
                *byte |= 1 << (cpu % 8);
            }
        }
        let buffer = self.buffer(bytes.len())?;
        buffer.write(0, &bytes);
        Ok((buffer, bits))
    }
}

/// The CPUs in a bitmap of `bits`.
pub(crate) fn read_bitmap(buffer: &Buffer<'_>, bits: u32) -> BTreeSet<u32> {
    let mut bytes = vec![0_u8; bits as usize / 8];
    buffer.read(0, &mut bytes);
    let set =
        |cpu: &u32| bytes.get(*cpu as usize / 8).is_some_and(|byte| byte >> (cpu % 8) & 1 == 1);
    (0..bits).filter(set).collect()
}

impl Domctl for Privcmd {
    fn create_domain(&self, wanted: &CreateDomain) -> Result<Created> {
        const NAME: &str = "XEN_DOMCTL_createdomain";
        const HVM: u32 = 1 << 0;
        const HAP: u32 = 1 << 1;
        const VPMU: u32 = 1 << 7;
        let limit = |frames: Option<u32>| frames.unwrap_or(u32::MAX); // -1: the default
        let payload = Payload::new()
            .bytes(U + 4, &wanted.handle)
            .u32(U + 20, HVM | HAP | if wanted.vpmu { VPMU } else { 0 })
            .u32(U + 28, wanted.max_vcpus)
            .u32(U + 32, wanted.max_event_channel)
            .u32(U + 36, limit(wanted.max_grant_frames))
            .u32(U + 40, limit(wanted.max_maptrack_frames))
            .u32(U + 44, 1) // grant table version 1, the only one on Arm
            .u8(
                U + 60,
                match wanted.gic_version {
                    None => 0,
                    Some(GicVersion::V2) => 1,
                    Some(GicVersion::V3) => 2,
                },
            )
            .u32(U + 64, wanted.spis);
        let domain = wanted.domain.unwrap_or(DomId(0));
        let answer = self.plain_domctl(NAME, 1, domain, payload)?;
        Ok(Created {
            domain: DomId(answer.get_u16(8)),
            gic_version: match answer.get_u8(U + 60) {
                1 => GicVersion::V2,
                2 => GicVersion::V3,
                _ => return Err(Error::Nonsense { call: NAME }),
            },
            clock_frequency: Some(answer.get_u32(U + 68)).filter(|hertz| *hertz != 0),
        })
    }

    fn destroy_domain(&self, domain: DomId) -> Result<()> {
        self.plain_domctl("XEN_DOMCTL_destroydomain", 2, domain, Payload::new()).map(drop)
    }

    fn pause_domain(&self, domain: DomId) -> Result<()> {
        self.plain_domctl("XEN_DOMCTL_pausedomain", 3, domain, Payload::new()).map(drop)
    }

    fn unpause_domain(&self, domain: DomId) -> Result<()> {
        self.plain_domctl("XEN_DOMCTL_unpausedomain", 4, domain, Payload::new()).map(drop)
    }

    fn domain_info(&self, domain: DomId) -> Result<DomainInfo> {
        const NAME: &str = "XEN_DOMCTL_getdomaininfo";
        let answer = self.plain_domctl(NAME, 5, domain, Payload::new())?;
        let info = DomainInfo::decode(&Payload::new().bytes(0, &answer.array::<INFO_SIZE>(U)));
        if info.domain == domain {
            Ok(info)
        } else {
            Err(Error::Domain { call: NAME, domain, errno: Errno::SRCH })
        }
    }

    fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()> {
        self.plain_domctl("XEN_DOMCTL_max_mem", 11, domain, Payload::new().u64(U, kib)).map(drop)
    }

    fn set_max_vcpus(&self, domain: DomId, count: u32) -> Result<()> {
        self.plain_domctl("XEN_DOMCTL_max_vcpus", 15, domain, Payload::new().u32(U, count))
            .map(drop)
    }

    fn set_boot_context(&self, domain: DomId, vcpu: u32, entry: u64, argument: u64) -> Result<()> {
        /// EL1h, with debug exceptions enabled and all others masked.
        const CPSR: u64 = 0x1c5;
        /// Reset value: MMU and caches off.
        const SCTLR: u64 = 0x00c5_0078;
        const REGISTERS: usize = 8;
        let buffer = self.buffer(CONTEXT_SIZE)?;
        buffer.store_u32(0, 1); // online
        buffer.store_u64(REGISTERS, argument);
        buffer.store_u64(REGISTERS + 248, entry);
        buffer.store_u64(REGISTERS + 256, CPSR);
        buffer.store_u64(320, SCTLR);
        let payload = Payload::new().u32(U, vcpu).u64(U + 8, buffer.address());
        // SAFETY: the one address is that of a buffer as large as the context.
        unsafe { self.domctl("XEN_DOMCTL_setvcpucontext", 12, domain, payload) }.map(drop)
    }

    fn vcpu_info(&self, domain: DomId, vcpu: u32) -> Result<VcpuInfo> {
        let payload = Payload::new().u32(U, vcpu);
        let answer = self.plain_domctl("XEN_DOMCTL_getvcpuinfo", 14, domain, payload)?;
        Ok(VcpuInfo {
            online: answer.get_u8(U + 4) != 0,
            blocked: answer.get_u8(U + 5) != 0,
            running: answer.get_u8(U + 6) != 0,
            cpu_time: answer.get_u64(U + 8),
            cpu: answer.get_u32(U + 16),
        })
    }

    fn vcpu_affinity(&self, domain: DomId, vcpu: u32, cpus: u32) -> Result<Affinity> {
        let (hard, bits) = self.bitmap(cpus, None)?;
        let (soft, _) = self.bitmap(cpus, None)?;
        let payload = affinity_payload(vcpu, Some((&hard, bits)), Some((&soft, bits)));
        // SAFETY: both addresses are those of buffers with as many bits as said.
        unsafe { self.domctl("XEN_DOMCTL_getvcpuaffinity", 25, domain, payload) }?;
        Ok(Affinity { hard: read_bitmap(&hard, bits), soft: read_bitmap(&soft, bits) })
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
        let hard = hard.map(|set| self.bitmap(cpus, Some(set))).transpose()?;
        let soft = soft.map(|set| self.bitmap(cpus, Some(set))).transpose()?;
        let refer = |map: &Option<(Buffer<'_>, u32)>| map.as_ref().map(|(b, n)| (b.address(), *n));
        let payload = affinity_addresses(vcpu, refer(&hard), refer(&soft));
        // SAFETY: both addresses are those of buffers with as many bits as said.
        unsafe { self.domctl("XEN_DOMCTL_setvcpuaffinity", 9, domain, payload) }.map(drop)
    }

    fn sched_params(&self, domain: DomId) -> Result<SchedParams> {
        let payload = Payload::new().u32(U, CREDIT2).u32(U + 4, 1);
        let answer = self.plain_domctl("XEN_DOMCTL_scheduler_op", 16, domain, payload)?;
        Ok(SchedParams { weight: answer.get_u16(U + 8), cap: answer.get_u16(U + 10) })
    }

    fn set_sched_params(&self, domain: DomId, params: SchedParams) -> Result<()> {
        let payload =
            Payload::new().u32(U, CREDIT2).u16(U + 8, params.weight).u16(U + 10, params.cap);
        self.plain_domctl("XEN_DOMCTL_scheduler_op", 16, domain, payload).map(drop)
    }

    fn set_address_size(&self, domain: DomId, bits: u32) -> Result<()> {
        let payload = Payload::new().u32(U, bits);
        self.plain_domctl("XEN_DOMCTL_set_address_size", 35, domain, payload).map(drop)
    }

    fn flush_cache(&self, domain: DomId, first: Gfn, count: u64) -> Result<()> {
        /// More at once is refused (`public/domctl.h`, cacheflush).
        const MOST: u64 = 1 << 18;
        let mut done = 0;
        while done < count {
            let step = (count - done).min(MOST);
            let payload = Payload::new().u64(U, first.0 + done).u64(U + 8, step);
            self.plain_domctl("XEN_DOMCTL_cacheflush", 71, domain, payload)?;
            done += step;
        }
        Ok(())
    }

    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()> {
        let payload = Payload::new().u64(U, bytes);
        self.plain_domctl("XEN_DOMCTL_set_paging_mempool_size", 86, domain, payload).map(drop)
    }

    fn set_default_colors(&self, domain: DomId) -> Result<()> {
        match self.plain_domctl("XEN_DOMCTL_set_llc_colors", 89, domain, Payload::new()) {
            Err(error) if error.is(Errno::NOTSUP) || error.is(Errno::NOSYS) => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn init_vuart(&self, domain: DomId, gfn: Gfn, console: DomId) -> Result<Port> {
        let payload = Payload::new().u64(U + 8, gfn.0).u16(U + 16, console.0);
        let answer = self.plain_domctl("XEN_DOMCTL_vuart_op", 81, domain, payload)?;
        Ok(Port(answer.get_u32(U + 20)))
    }

    fn set_handle(&self, domain: DomId, handle: [u8; 16]) -> Result<()> {
        let payload = Payload::new().bytes(U, &handle);
        self.plain_domctl("XEN_DOMCTL_setdomainhandle", 17, domain, payload).map(drop)
    }
}

/// XEN_SCHEDULER_CREDIT2, the default scheduler.
const CREDIT2: u32 = 6;
/// Size of `struct xen_domctl_getdomaininfo`.
pub(crate) const INFO_SIZE: usize = 120;

impl DomainInfo {
    /// Reads `struct xen_domctl_getdomaininfo`.
    pub(crate) fn decode(info: &Payload<INFO_SIZE>) -> Self {
        let flags = info.get_u32(4);
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let code = info.array::<4>(4)[2]; // bits 23:16
        Self {
            domain: DomId(info.get_u16(0)),
            dying: flag(0),
            hvm: flag(1),
            shutdown: flag(2).then(|| ShutdownReason::from_code(code)),
            paused: flag(3),
            blocked: flag(4),
            running: flag(5),
            total_pages: info.get_u64(8),
            max_pages: info.get_u64(16),
            outstanding_pages: info.get_u64(24),
            cpu_time: info.get_u64(56),
            online_vcpus: info.get_u32(64),
            max_vcpu: Some(info.get_u32(68)).filter(|max| *max != u32::MAX),
            handle: info.array(76),
            cpupool: info.get_u32(92),
            address_bits: info.get_u8(96),
        }
    }
}

fn affinity_payload(
    vcpu: u32,
    hard: Option<(&Buffer<'_>, u32)>,
    soft: Option<(&Buffer<'_>, u32)>,
) -> Payload<SIZE> {
    let refer = |(buffer, bits): (&Buffer<'_>, u32)| (buffer.address(), bits);
    affinity_addresses(vcpu, hard.map(refer), soft.map(refer))
}

fn affinity_addresses(
    vcpu: u32,
    hard: Option<(u64, u32)>,
    soft: Option<(u64, u32)>,
) -> Payload<SIZE> {
    const HARD: u32 = 1;
    const SOFT: u32 = 2;
    let flags = if hard.is_some() { HARD } else { 0 } | if soft.is_some() { SOFT } else { 0 };
    let (hard, soft) = (hard.unwrap_or((0, 0)), soft.unwrap_or((0, 0)));
    Payload::new()
        .u32(U, vcpu)
        .u32(U + 4, flags)
        .u64(U + 8, hard.0)
        .u32(U + 16, hard.1)
        .u64(U + 24, soft.0)
        .u32(U + 32, soft.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_never_shut_down_has_no_reason() {
        // Xen answers all ones above bit 15 until there is a reason.
        let info = Payload::new().u16(0, 3).u32(4, 0xffff_0012).u32(68, u32::MAX);
        let info = DomainInfo::decode(&info);
        assert_eq!((info.domain, info.shutdown, info.blocked), (DomId(3), None, true));
        assert_eq!(info.max_vcpu, None);
        let info = DomainInfo::decode(&Payload::new().u32(4, 0x0003_0004));
        assert_eq!(info.shutdown, Some(ShutdownReason::Crash));
    }
}
