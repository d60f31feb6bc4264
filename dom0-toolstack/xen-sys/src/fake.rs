//! A hypervisor in memory, so that toolstack logic runs on any host.
//!
//! [`FakeXen`] keeps what a toolstack told it, answers as Xen 4.20 does, and can be made to fail at any
//! call. Guests do not run in it; their memory is real, so that what was loaded can be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;

use crate::PAGE_SIZE;
use crate::domctl::{
    Affinity, CreateDomain, Created, DomainInfo, Domctl, GicVersion, SchedParams, ShutdownReason,
    VcpuInfo,
};
use crate::error::{Error, Result};
use crate::event_channel::{EventChannel, Status};
use crate::hvm::{Hvm, Param};
use crate::ids::{DomId, Gfn, Port};
use crate::memory::{Memory, Source};
use crate::pages::SharedPages;
use crate::privcmd::ForeignMapping;
use crate::sysctl::{CpuTopology, Cpupool, Node, PhysInfo, PoolChange, Sysctl};
use crate::version::{CompileInfo, Text, Version};

/// Size of a fake guest's address space; only what is written takes memory.
const ADDRESS_SPACE: u64 = 1 << 40;

/// A hypervisor in memory.
#[derive(Debug)]
pub struct FakeXen {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cpus: u32,
    total_pages: u64,
    free_pages: u64,
    last_domain: u16,
    gic: GicVersion,
    domains: BTreeMap<DomId, FakeDomain>,
    pools: BTreeMap<u32, FakePool>,
    rate_limit: u32,
    /// Whether it has nothing that Xen does not have.
    plain_xen: bool,
    /// Calls that still go well, where trouble was asked for, and what comes then.
    calls_left: Option<(u64, Trouble)>,
}

/// What happens to a toolstack at work.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Calls fail.
    Failure,
    /// Somebody else destroys all guests.
    Destruction,
}

impl State {
    /// Says whether the domain was there.
    fn destroy(&mut self, domain: DomId) -> bool {
        let Some(gone) = self.domains.remove(&domain) else { return false };
        self.free_pages += gone.populated.len() as u64;
        true
    }

    fn destroy_guests(&mut self) {
        self.calls_left = None;
        let guests: Vec<DomId> =
            self.domains.keys().copied().filter(|id| *id != DomId::DOM0).collect();
        for guest in guests {
            self.destroy(guest);
        }
    }
}

#[derive(Debug)]
struct FakePool {
    scheduler: u32,
    cpus: BTreeSet<u32>,
}

/// A domain as a toolstack made it.
#[derive(Debug)]
pub struct FakeDomain {
    pool: u32,
    wanted: CreateDomain,
    memory: OwnedFd,
    grants: OwnedFd,
    pauses: u32,
    vcpus: u32,
    boot: Option<(u64, u64)>,
    populated: BTreeSet<Gfn>,
    max_pages: u64,
    params: BTreeMap<u32, (Param, u64)>,
    ports: Vec<Status>,
    affinity: BTreeMap<u32, Affinity>,
    sched: SchedParams,
    shutdown: Option<ShutdownReason>,
    handle: [u8; 16],
}

impl FakeXen {
    /// A host with `cpus` CPUs and `mib` of free memory.
    pub fn new(cpus: u32, mib: u64) -> Self {
        let pages = mib * 256;
        Self {
            state: Mutex::new(State {
                cpus,
                total_pages: pages,
                free_pages: pages,
                last_domain: 0,
                gic: GicVersion::V3,
                domains: BTreeMap::new(),
                pools: [(0, FakePool { scheduler: 6, cpus: (0..cpus).collect() })].into(),
                rate_limit: 1000,
                plain_xen: false,
                calls_left: None,
            }),
        }
    }

    /// Lets the call after `calls` more, and all later ones that make or change something, fail.
    pub fn fail_after(&self, calls: Option<u64>) {
        self.state().calls_left = calls.map(|calls| (calls, Trouble::Failure));
    }

    /// Lets all guests be destroyed, as by somebody else, before the call after `calls` more of those
    /// that make or change something.
    pub fn destroy_guests_after(&self, calls: u64) {
        self.state().calls_left = Some((calls, Trouble::Destruction));
    }

    /// Has nothing from now on that Xen does not have.
    pub fn be_plain_xen(&self) {
        self.state().plain_xen = true;
    }

    /// Makes the host one with an interrupt controller of this version; it has a GICv3 at first.
    pub fn set_gic(&self, version: GicVersion) {
        self.state().gic = version;
    }

    /// Lets a domain shut down.
    pub fn shut_down(&self, domain: DomId, reason: ShutdownReason) {
        if let Some(domain) = self.state().domains.get_mut(&domain) {
            domain.shutdown = Some(reason);
        }
    }

    /// Entry point and argument of a domain's first vCPU.
    pub fn boot_context(&self, domain: DomId) -> Option<(u64, u64)> {
        self.state().domains.get(&domain)?.boot
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a call that makes or changes something.
    fn changing(&self, call: &'static str) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match &mut state.calls_left {
            None => {}
            Some((0, Trouble::Failure)) => return Err(Error::Call { call, errno: Errno::NOMEM }),
            Some((0, Trouble::Destruction)) => state.destroy_guests(),
            Some((left, _)) => *left -= 1,
        }
        Ok(state)
    }

    fn change<T>(
        &self,
        call: &'static str,
        domain: DomId,
        change: impl FnOnce(&mut FakeDomain) -> core::result::Result<T, Errno>,
    ) -> Result<T> {
        let mut state = self.changing(call)?;
        let found = state.domains.get_mut(&domain).ok_or(Errno::SRCH).and_then(change);
        found.map_err(|errno| Error::Domain { call, domain, errno })
    }
}

impl FakeDomain {
    fn info(&self, domain: DomId) -> DomainInfo {
        DomainInfo {
            domain,
            dying: false,
            shutdown: self.shutdown,
            paused: self.pauses > 0,
            blocked: false,
            running: self.pauses == 0,
            hvm: true,
            total_pages: self.populated.len() as u64,
            max_pages: self.max_pages,
            outstanding_pages: 0,
            cpu_time: 0,
            online_vcpus: self.vcpus.min(1),
            max_vcpu: self.vcpus.checked_sub(1),
            handle: self.handle,
            cpupool: self.pool,
            address_bits: 44,
        }
    }
}

fn new_memory() -> Result<OwnedFd> {
    let failed = |errno| Error::Device { operation: "make a fake guest's memory", errno };
    let memory = memfd_create("fake-guest", MemfdFlags::CLOEXEC).map_err(failed)?;
    ftruncate(&memory, ADDRESS_SPACE).map_err(failed)?;
    Ok(memory)
}

impl Domctl for FakeXen {
    fn create_domain(&self, wanted: &CreateDomain) -> Result<Created> {
        const CALL: &str = "XEN_DOMCTL_createdomain";
        let mut state = self.changing(CALL)?;
        let domain = wanted.domain.unwrap_or(DomId(state.last_domain + 1));
        if state.domains.contains_key(&domain) {
            return Err(Error::Domain { call: CALL, domain, errno: Errno::EXIST });
        }
        let gic = state.gic;
        if wanted.gic_version.is_some_and(|version| version != gic) {
            return Err(Error::Call { call: CALL, errno: Errno::NODEV });
        }
        if gic == GicVersion::V2 && wanted.max_vcpus > 8 {
            return Err(Error::Call { call: CALL, errno: Errno::INVAL });
        }
        state.last_domain = domain.0;
        let made = FakeDomain {
            pool: 0,
            wanted: wanted.clone(),
            memory: new_memory()?,
            grants: new_memory()?,
            pauses: 1,
            vcpus: 0,
            boot: None,
            populated: BTreeSet::new(),
            max_pages: 0,
            params: BTreeMap::new(),
            ports: vec![Status::Closed],
            affinity: BTreeMap::new(),
            sched: SchedParams { weight: 256, cap: 0 },
            shutdown: None,
            handle: wanted.handle,
        };
        state.domains.insert(domain, made);
        Ok(Created { domain, gic_version: gic, clock_frequency: None })
    }

    fn destroy_domain(&self, domain: DomId) -> Result<()> {
        let mut state = self.state();
        if state.destroy(domain) {
            return Ok(());
        }
        let call = "XEN_DOMCTL_destroydomain";
        Err(Error::Domain { call, domain, errno: Errno::SRCH })
    }

    fn pause_domain(&self, domain: DomId) -> Result<()> {
        let mut state = self.state();
        match state.domains.get_mut(&domain) {
            Some(found) => found.pauses += 1,
            None => {
                let call = "XEN_DOMCTL_pausedomain";
                return Err(Error::Domain { call, domain, errno: Errno::SRCH });
            }
        }
        Ok(())
    }

    fn unpause_domain(&self, domain: DomId) -> Result<()> {
        self.change("XEN_DOMCTL_unpausedomain", domain, |found| {
            found.pauses = found.pauses.checked_sub(1).ok_or(Errno::INVAL)?;
            Ok(())
        })
    }

    fn domain_info(&self, domain: DomId) -> Result<DomainInfo> {
        let call = "XEN_DOMCTL_getdomaininfo";
        let state = self.state();
        let found = state.domains.get(&domain).map(|found| found.info(domain));
        found.ok_or(Error::Domain { call, domain, errno: Errno::SRCH })
    }

    fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()> {
        self.change("XEN_DOMCTL_max_mem", domain, |found| {
            found.max_pages = kib / 4;
            Ok(())
        })
    }

    fn set_max_vcpus(&self, domain: DomId, count: u32) -> Result<()> {
        self.change("XEN_DOMCTL_max_vcpus", domain, |found| {
            if count != found.wanted.max_vcpus {
                return Err(Errno::INVAL);
            }
            found.vcpus = count;
            Ok(())
        })
    }

    fn set_boot_context(&self, domain: DomId, vcpu: u32, entry: u64, argument: u64) -> Result<()> {
        self.change("XEN_DOMCTL_setvcpucontext", domain, |found| {
            if vcpu >= found.vcpus {
                return Err(Errno::INVAL);
            }
            found.boot = Some((entry, argument));
            Ok(())
        })
    }

    fn vcpu_info(&self, domain: DomId, vcpu: u32) -> Result<VcpuInfo> {
        self.change("XEN_DOMCTL_getvcpuinfo", domain, |found| {
            if vcpu >= found.vcpus {
                return Err(Errno::SRCH);
            }
            Ok(VcpuInfo { online: vcpu == 0, blocked: false, running: false, cpu_time: 0, cpu: 0 })
        })
    }

    fn vcpu_affinity(&self, domain: DomId, vcpu: u32, cpus: u32) -> Result<Affinity> {
        self.change("XEN_DOMCTL_getvcpuaffinity", domain, |found| {
            let all = || Affinity { hard: (0..cpus).collect(), soft: (0..cpus).collect() };
            Ok(found.affinity.get(&vcpu).cloned().unwrap_or_else(all))
        })
    }

    fn set_vcpu_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        hard: Option<&BTreeSet<u32>>,
        soft: Option<&BTreeSet<u32>>,
    ) -> Result<()> {
        self.change("XEN_DOMCTL_setvcpuaffinity", domain, |found| {
            let affinity = found.affinity.entry(vcpu).or_default();
            affinity.hard = hard.cloned().unwrap_or_default();
            affinity.soft = soft.cloned().unwrap_or_default();
            Ok(())
        })
    }

    fn sched_params(&self, domain: DomId) -> Result<SchedParams> {
        self.change("XEN_DOMCTL_scheduler_op", domain, |found| Ok(found.sched))
    }

    fn set_sched_params(&self, domain: DomId, params: SchedParams) -> Result<()> {
        self.change("XEN_DOMCTL_scheduler_op", domain, |found| {
            found.sched = params;
            Ok(())
        })
    }

    fn set_address_size(&self, domain: DomId, bits: u32) -> Result<()> {
        self.change("XEN_DOMCTL_set_address_size", domain, |found| match (bits, found) {
            (32 | 64, found) if found.populated.is_empty() => Ok(()),
            (32 | 64, _) => Err(Errno::BUSY),
            _ => Err(Errno::INVAL),
        })
    }

    fn flush_cache(&self, domain: DomId, _: Gfn, _: u64) -> Result<()> {
        self.change("XEN_DOMCTL_cacheflush", domain, |_| Ok(()))
    }

    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()> {
        self.change("XEN_DOMCTL_set_paging_mempool_size", domain, |_| {
            if bytes.is_multiple_of(PAGE_SIZE as u64) { Ok(()) } else { Err(Errno::INVAL) }
        })
    }

    fn set_default_colors(&self, domain: DomId) -> Result<()> {
        self.change("XEN_DOMCTL_set_llc_colors", domain, |_| Ok(()))
    }

    fn init_vuart(&self, domain: DomId, _: Gfn, console: DomId) -> Result<Port> {
        self.change("XEN_DOMCTL_vuart_op", domain, |found| Ok(found.new_port(console)))
    }

    fn set_handle(&self, domain: DomId, handle: [u8; 16]) -> Result<()> {
        self.change("XEN_DOMCTL_setdomainhandle", domain, |found| {
            found.handle = handle;
            Ok(())
        })
    }
}

impl FakeDomain {
    fn new_port(&mut self, remote: DomId) -> Port {
        let port = Port(u32::try_from(self.ports.len()).unwrap_or(u32::MAX));
        self.ports.push(Status::Unbound(remote));
        port
    }
}

impl Sysctl for FakeXen {
    fn phys_info(&self) -> Result<PhysInfo> {
        let state = self.state();
        Ok(PhysInfo {
            threads_per_core: 1,
            cores_per_socket: state.cpus,
            cpus: state.cpus,
            max_cpu: state.cpus - 1,
            nodes: 1,
            total_pages: state.total_pages,
            free_pages: state.free_pages,
            ..PhysInfo::default()
        })
    }

    fn domains(&self, first: DomId) -> Result<Vec<DomainInfo>> {
        let state = self.state();
        Ok(state.domains.range(first..).map(|(domain, found)| found.info(*domain)).collect())
    }

    fn read_console(&self, _: bool) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn debug_keys(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn cpu_topology(&self) -> Result<Vec<Option<CpuTopology>>> {
        let cpus = self.state().cpus;
        Ok((0..cpus).map(|core| Some(CpuTopology { core, socket: 0, node: 0 })).collect())
    }

    fn numa_info(&self) -> Result<Vec<Node>> {
        let state = self.state();
        let page = PAGE_SIZE as u64;
        let (size, free) = (state.total_pages * page, state.free_pages * page);
        Ok(vec![Node { size, free, distances: vec![10] }])
    }

    fn scheduler(&self) -> Result<u32> {
        Ok(6)
    }

    fn cpupool(&self, id: u32) -> Result<Option<Cpupool>> {
        let state = self.state();
        let pool = state.pools.range(id..).next();
        Ok(pool.map(|(id, pool)| {
            let domains = state.domains.values().filter(|domain| domain.pool == *id).count();
            let domains = u32::try_from(domains).unwrap_or(u32::MAX);
            Cpupool { id: *id, scheduler: pool.scheduler, domains, cpus: pool.cpus.clone() }
        }))
    }

    fn free_cpus(&self) -> Result<BTreeSet<u32>> {
        let state = self.state();
        let free = |cpu: &u32| !state.pools.values().any(|pool| pool.cpus.contains(cpu));
        Ok((0..state.cpus).filter(free).collect())
    }

    fn change_pool(&self, change: PoolChange) -> Result<u32> {
        const CALL: &str = "XEN_SYSCTL_cpupool_op";
        let free = self.free_cpus()?;
        let mut state = self.changing(CALL)?;
        state.change_pool(change, &free).map_err(|errno| Error::Call { call: CALL, errno })
    }

    fn credit2_rate_limit(&self, _: u32) -> Result<u32> {
        Ok(self.state().rate_limit)
    }

    fn set_credit2_rate_limit(&self, _: u32, microseconds: u32) -> Result<()> {
        self.changing("XEN_SYSCTL_scheduler_op")?.rate_limit = microseconds;
        Ok(())
    }
}

impl State {
    /// As Xen 4.20 does it: a pool that is in use stays, and one with domains keeps a CPU.
    fn change_pool(
        &mut self,
        change: PoolChange,
        free: &BTreeSet<u32>,
    ) -> core::result::Result<u32, Errno> {
        let used = |domains: &BTreeMap<DomId, FakeDomain>, pool: u32| {
            domains.values().any(|domain| domain.pool == pool)
        };
        match change {
            PoolChange::Create(scheduler) => {
                let id = (0..).find(|id| !self.pools.contains_key(id)).ok_or(Errno::NOSPC)?;
                self.pools.insert(id, FakePool { scheduler, cpus: BTreeSet::new() });
                Ok(id)
            }
            PoolChange::Destroy(id) => {
                let pool = self.pools.get(&id).ok_or(Errno::NOENT)?;
                if id == 0 || !pool.cpus.is_empty() || used(&self.domains, id) {
                    return Err(Errno::BUSY);
                }
                self.pools.remove(&id);
                Ok(id)
            }
            PoolChange::AddCpu(id, cpu) => {
                let pool = self.pools.get_mut(&id).ok_or(Errno::NOENT)?;
                if !free.contains(&cpu) {
                    return Err(Errno::BUSY);
                }
                pool.cpus.insert(cpu);
                Ok(id)
            }
            PoolChange::RemoveCpu(id, cpu) => {
                let keep = id == 0 || used(&self.domains, id);
                let pool = self.pools.get_mut(&id).ok_or(Errno::NOENT)?;
                if !pool.cpus.contains(&cpu) {
                    return Err(Errno::INVAL);
                }
                if keep && pool.cpus.len() == 1 {
                    return Err(Errno::BUSY);
                }
                pool.cpus.remove(&cpu);
                Ok(id)
            }
            PoolChange::Move(id, domain) => {
                let cpus = self.pools.get(&id).ok_or(Errno::NOENT)?.cpus.len();
                let domain = self.domains.get_mut(&domain).ok_or(Errno::SRCH)?;
                if cpus == 0 {
                    return Err(Errno::BUSY);
                }
                domain.pool = id;
                Ok(id)
            }
        }
    }
}

impl Memory for FakeXen {
    fn populate(&self, domain: DomId, order: u32, extents: &[Gfn]) -> Result<usize> {
        let call = "XENMEM_populate_physmap";
        let mut guard = self.changing(call)?;
        let state = &mut *guard;
        let Some(found) = state.domains.get_mut(&domain) else {
            return Err(Error::Domain { call, domain, errno: Errno::SRCH });
        };
        let pages = 1_u64 << order;
        let mut done = 0;
        for extent in extents {
            let allowed = found.populated.len() as u64 + pages <= found.max_pages;
            if state.free_pages < pages || !allowed {
                break;
            }
            state.free_pages -= pages;
            found.populated.extend((extent.0..extent.0 + pages).map(Gfn));
            done += 1;
        }
        Ok(done)
    }

    fn map_foreign(&self, domain: DomId, frames: &[Gfn]) -> Result<ForeignMapping> {
        let call = "map foreign memory";
        self.change(call, domain, |found| {
            let first = frames.first().ok_or(Errno::INVAL)?;
            let row = (first.0..).zip(frames).all(|(expected, gfn)| gfn.0 == expected);
            if !row || !frames.iter().all(|gfn| found.populated.contains(gfn)) {
                return Err(Errno::INVAL);
            }
            let page = PAGE_SIZE as u64;
            SharedPages::map(&found.memory, first.0 * page, frames.len() * PAGE_SIZE, true)
        })
    }

    fn load(&self, domain: DomId, to: u64, from: Source<'_>) -> Result<bool> {
        if self.state().plain_xen {
            return Ok(false);
        }
        let page = PAGE_SIZE as u64;
        let bytes = match from {
            Source::Bytes(bytes) => bytes.to_vec(),
            Source::Pages(pages, length) => {
                let mut bytes = vec![0; length];
                pages.read(0, &mut bytes);
                bytes
            }
        };
        let end = to + bytes.len() as u64;
        if bytes.is_empty() {
            return Ok(true);
        }
        let frames: Vec<Gfn> = (to / page..end.div_ceil(page)).map(Gfn).collect();
        let offset = usize::try_from(to % page).unwrap_or_default();
        Memory::map_foreign(self, domain, &frames)?.write(offset, &bytes);
        Ok(true)
    }

    fn map_grant_table(&self, domain: DomId, frame: u32) -> Result<ForeignMapping> {
        self.change("map a domain's resource", domain, |found| {
            SharedPages::map(&found.grants, u64::from(frame) * PAGE_SIZE as u64, PAGE_SIZE, true)
        })
    }

    fn sharing(&self) -> Result<(u32, u32)> {
        Ok((0, 0))
    }

    fn set_target(&self, domain: DomId, _: u64) -> Result<()> {
        self.change("XENMEM_set_pod_target", domain, |_| Ok(()))
    }
}

impl Version for FakeXen {
    fn version(&self) -> Result<(u32, u32)> {
        Ok((4, 20))
    }

    fn text(&self, text: Text) -> Result<String> {
        Ok(match text {
            Text::Extra => ".0",
            Text::Capabilities => "xen-3.0-aarch64 ",
            Text::Changeset | Text::CommandLine => "",
        }
        .into())
    }

    fn compile_info(&self) -> Result<CompileInfo> {
        Ok(CompileInfo::default())
    }

    fn build_id(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn page_size(&self) -> Result<u32> {
        Ok(4096)
    }

    fn virt_start(&self) -> Result<u64> {
        Ok(0)
    }
}

impl EventChannel for FakeXen {
    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port> {
        self.change("EVTCHNOP_alloc_unbound", domain, |found| Ok(found.new_port(remote)))
    }

    fn port_status(&self, domain: DomId, port: Port) -> Result<Status> {
        self.change("EVTCHNOP_status", domain, |found| {
            found.ports.get(port.0 as usize).copied().ok_or(Errno::INVAL)
        })
    }
}

impl Hvm for FakeXen {
    fn set_param(&self, domain: DomId, param: Param, value: u64) -> Result<()> {
        self.change("HVMOP_set_param", domain, |found| {
            found.params.insert(param.index(), (param, value));
            Ok(())
        })
    }

    fn param(&self, domain: DomId, param: Param) -> Result<u64> {
        self.change("HVMOP_get_param", domain, |found| {
            Ok(found.params.get(&param.index()).map_or(0, |(_, value)| *value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> CreateDomain {
        CreateDomain {
            domain: None,
            handle: [7; 16],
            max_vcpus: 2,
            max_event_channel: 1023,
            max_grant_frames: None,
            max_maptrack_frames: None,
            vpmu: false,
            gic_version: None,
            spis: 0,
        }
    }

    #[test]
    fn memory_is_taken_kept_and_given_back() {
        let xen = FakeXen::new(2, 8);
        let domain = xen.create_domain(&wanted()).unwrap().domain;
        xen.set_max_memory(domain, 6 << 10).unwrap();
        let extents = [Gfn(0x4_0000), Gfn(0x4_0200), Gfn(0x4_0400), Gfn(0x4_0600)];
        assert_eq!(xen.populate(domain, 9, &extents).unwrap(), 3);
        xen.map_foreign(domain, &[Gfn(0x4_0000), Gfn(0x4_0001)]).unwrap().write(4090, b"across");
        let again = xen.map_foreign(domain, &[Gfn(0x4_0001)]).unwrap();
        assert_eq!(again.load_u16(0), 0);
        let mut bytes = [0; 6];
        xen.map_foreign(domain, &[Gfn(0x4_0000)]).unwrap().read(4090, &mut bytes);
        assert_eq!(&bytes, b"across");
        assert!(xen.map_foreign(domain, &[Gfn(0x5_0000)]).unwrap_err().is(Errno::INVAL));
        assert_eq!(xen.phys_info().unwrap().free_pages, 512);
        xen.destroy_domain(domain).unwrap();
        assert_eq!(xen.phys_info().unwrap().free_pages, 2048);
        assert!(xen.domain_info(domain).unwrap_err().is(Errno::SRCH));
    }

    #[test]
    fn calls_fail_when_told_to() {
        let xen = FakeXen::new(1, 8);
        xen.fail_after(Some(1));
        let domain = xen.create_domain(&wanted()).unwrap().domain;
        assert!(xen.set_max_vcpus(domain, 2).unwrap_err().is(Errno::NOMEM));
        xen.fail_after(None);
        assert!(xen.set_max_vcpus(domain, 3).unwrap_err().is(Errno::INVAL));
        xen.set_max_vcpus(domain, 2).unwrap();
    }
}
