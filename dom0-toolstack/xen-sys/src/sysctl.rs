//! Operations on the whole machine (`public/sysctl.h`, interface version 0x15).

use std::collections::BTreeSet;

use hypercall_abi::domctl::{GetDomainInfo, XEN_SCHEDULER_CREDIT2};
use hypercall_abi::hypercall::SYSCTL;
use hypercall_abi::sysctl as abi;
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::domctl::DomainInfo;
use crate::error::{Error, Result};
use crate::ids::DomId;
use crate::privcmd::{Buffer, Privcmd};

/// The machine (XEN_SYSCTL_physinfo).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PhysInfo {
    /// Threads of a core.
    pub threads_per_core: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// CPUs online.
    pub cpus: u32,
    /// Highest CPU number.
    pub max_cpu: u32,
    /// NUMA nodes.
    pub nodes: u32,
    /// Highest NUMA node.
    pub max_node: u32,
    /// The clock, in kHz: the timer's on Arm.
    pub cpu_khz: u32,
    /// What the hypervisor can do, XEN_SYSCTL_PHYSCAP_*.
    pub capabilities: u32,
    /// What this architecture can do.
    pub arch_capabilities: u32,
    /// All memory, in pages.
    pub total_pages: u64,
    /// Free memory, in pages.
    pub free_pages: u64,
    /// Memory yet to be cleared, in pages.
    pub scrub_pages: u64,
    /// Claimed memory, in pages.
    pub outstanding_pages: u64,
    /// Hardware features, on x86.
    pub hw_cap: [u32; 8],
}

/// Where a CPU sits (XEN_SYSCTL_cputopoinfo).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CpuTopology {
    /// Core within the socket.
    pub core: u32,
    /// Socket.
    pub socket: u32,
    /// NUMA node.
    pub node: u32,
}

/// A NUMA node (XEN_SYSCTL_numainfo).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its memory in bytes.
    pub size: u64,
    /// Of which free.
    pub free: u64,
    /// How far it is to each node.
    pub distances: Vec<u32>,
}

/// A CPU pool (XEN_SYSCTL_cpupool_op).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cpupool {
    /// Its number.
    pub id: u32,
    /// Its scheduler, XEN_SCHEDULER_*.
    pub scheduler: u32,
    /// How many domains it has.
    pub domains: u32,
    /// Its CPUs.
    pub cpus: BTreeSet<u32>,
}

/// What can be done to CPU pools (XEN_SYSCTL_cpupool_op).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PoolChange {
    /// Make one without CPUs, with this scheduler (XEN_SCHEDULER_*).
    Create(u32),
    /// Remove one that has neither CPUs nor domains.
    Destroy(u32),
    /// Give a pool a CPU that is in none.
    AddCpu(u32, u32),
    /// Take a CPU out of a pool.
    RemoveCpu(u32, u32),
    /// Move a domain to a pool.
    Move(u32, DomId),
}

impl PoolChange {
    /// The operation's number.
    pub const fn number(self) -> u32 {
        match self {
            Self::Create(_) => abi::XEN_SYSCTL_CPUPOOL_OP_CREATE,
            Self::Destroy(_) => abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY,
            Self::AddCpu(..) => abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU,
            Self::RemoveCpu(..) => abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU,
            Self::Move(..) => abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN,
        }
    }
}

/// Operations on the whole machine.
pub trait Sysctl {
    /// The machine's size and state.
    fn phys_info(&self) -> Result<PhysInfo>;
    /// All domains from `first` on, by number.
    fn domains(&self, first: DomId) -> Result<Vec<DomainInfo>>;
    /// The hypervisor's log; `clear` empties it.
    fn read_console(&self, clear: bool) -> Result<Vec<u8>>;
    /// Presses debug keys.
    fn debug_keys(&self, keys: &str) -> Result<()>;
    /// Where each CPU sits; nothing for one that is not there.
    fn cpu_topology(&self) -> Result<Vec<Option<CpuTopology>>>;
    /// The NUMA nodes.
    fn numa_info(&self) -> Result<Vec<Node>>;
    /// The default scheduler, XEN_SCHEDULER_*.
    fn scheduler(&self) -> Result<u32>;
    /// The first pool from `id` on.
    fn cpupool(&self, id: u32) -> Result<Option<Cpupool>>;
    /// CPUs in no pool.
    fn free_cpus(&self) -> Result<BTreeSet<u32>>;
    /// Changes a CPU pool; returns its number.
    fn change_pool(&self, change: PoolChange) -> Result<u32>;
    /// How long credit2 lets a vCPU of `pool` run at least, in microseconds.
    fn credit2_rate_limit(&self, pool: u32) -> Result<u32>;
    /// Sets how long credit2 lets a vCPU of `pool` run at least, in microseconds.
    fn set_credit2_rate_limit(&self, pool: u32, microseconds: u32) -> Result<()>;
}

impl Privcmd {
    /// # Safety
    /// Addresses inside `argument` are those of [`Buffer`]s held over the call and large enough.
    unsafe fn sysctl<T>(&self, call: &'static str, number: u32, argument: &T) -> Result<T>
    where
        T: FromBytes + Immutable + IntoBytes,
    {
        let mut request = abi::Sysctl::with(number, argument);
        // SAFETY: passed on to the caller.
        let answer = unsafe { self.call_with(SYSCTL, [0; 5], 0, &mut request) };
        answer.map_err(|errno| Error::Call { call, errno })?;
        Ok(request.payload())
    }

    /// An operation whose argument holds no address, or null ones.
    fn plain_sysctl<T>(&self, call: &'static str, number: u32, argument: &T) -> Result<T>
    where
        T: FromBytes + Immutable + IntoBytes,
    {
        // SAFETY: by this function's purpose there is no address in the argument; its callers are below.
        unsafe { self.sysctl(call, number, argument) }
    }

    /// The hypervisor's log from `index` on, as a follower reads it: the text, and the index to go on from.
    pub fn read_console_from(&self, index: u32) -> Result<(Vec<u8>, u32)> {
        self.console(false, index)
    }

    /// Reads piece by piece, as a log may be longer than any buffer.
    fn console(&self, clear: bool, index: u32) -> Result<(Vec<u8>, u32)> {
        const SIZE: u32 = 64 * 1024;
        let buffer = self.buffer(SIZE as usize)?;
        let (mut log, mut index) = (Vec::new(), index);
        loop {
            let argument = abi::ReadConsole {
                clear: u8::from(clear && log.is_empty()),
                incremental: 1,
                index,
                buffer: buffer.address(),
                count: SIZE,
                ..abi::ReadConsole::default()
            };
            let number = abi::XEN_SYSCTL_READCONSOLE;
            // SAFETY: the one address is that of a buffer as long as said.
            let answer = unsafe { self.sysctl("XEN_SYSCTL_readconsole", number, &argument) }?;
            index = answer.index;
            if answer.count == 0 {
                return Ok((log, index));
            }
            let mut bytes = vec![0; answer.count.min(SIZE) as usize];
            buffer.read(0, &mut bytes);
            log.extend_from_slice(&bytes);
        }
    }

    fn credit2(&self, pool: u32, cmd: u32, rate_limit: u32) -> Result<[u32; 3]> {
        let argument = abi::SchedulerOp {
            cpupool_id: pool,
            sched_id: XEN_SCHEDULER_CREDIT2,
            cmd,
            parameters: [rate_limit, 0, 0],
            ..abi::SchedulerOp::default()
        };
        let number = abi::XEN_SYSCTL_SCHEDULER_OP;
        Ok(self.plain_sysctl("XEN_SYSCTL_scheduler_op", number, &argument)?.parameters)
    }

    fn cpupool_op(&self, op: u32, cpupool_id: u32) -> Result<(abi::CpupoolOp, BTreeSet<u32>)> {
        let cpus = self.empty_bitmap(self.phys_info()?.max_cpu + 1)?;
        let argument =
            abi::CpupoolOp { op, cpupool_id, cpumap: cpus.refer(), ..abi::CpupoolOp::default() };
        let number = abi::XEN_SYSCTL_CPUPOOL_OP;
        // SAFETY: the one address is that of a bitmap with as many bits as said.
        let answer = unsafe { self.sysctl("XEN_SYSCTL_cpupool_op", number, &argument) }?;
        Ok((answer, cpus.set()))
    }
}

/// Element `index` of an array that the hypervisor filled.
fn element<T: FromBytes + IntoBytes>(array: &Buffer<'_>, index: usize) -> T {
    let mut element = T::new_zeroed();
    array.read(index * size_of::<T>(), element.as_mut_bytes());
    element
}

impl Sysctl for Privcmd {
    fn phys_info(&self) -> Result<PhysInfo> {
        let argument = abi::PhysInfo::default();
        let info = self.plain_sysctl("XEN_SYSCTL_physinfo", abi::XEN_SYSCTL_PHYSINFO, &argument)?;
        Ok(PhysInfo {
            threads_per_core: info.threads_per_core,
            cores_per_socket: info.cores_per_socket,
            cpus: info.nr_cpus,
            max_cpu: info.max_cpu_id,
            nodes: info.nr_nodes,
            max_node: info.max_node_id,
            cpu_khz: info.cpu_khz,
            capabilities: info.capabilities,
            arch_capabilities: info.arch_capabilities,
            total_pages: info.total_pages,
            free_pages: info.free_pages,
            scrub_pages: info.scrub_pages,
            outstanding_pages: info.outstanding_pages,
            hw_cap: info.hw_cap,
        })
    }

    fn domains(&self, first: DomId) -> Result<Vec<DomainInfo>> {
        /// Two pages' worth; there is another round for more.
        const BATCH: u32 = 64;
        let list = self.buffer(BATCH as usize * size_of::<GetDomainInfo>())?;
        let (mut domains, mut next) = (Vec::new(), first);
        loop {
            let argument = abi::GetDomainInfoList {
                first_domain: next.0,
                max_domains: BATCH,
                buffer: list.address(),
                ..abi::GetDomainInfoList::default()
            };
            let number = abi::XEN_SYSCTL_GETDOMAININFOLIST;
            // SAFETY: the one address is that of a list as long as said.
            let answer = unsafe { self.sysctl("XEN_SYSCTL_getdomaininfolist", number, &argument) }?;
            let count = answer.num_domains.min(BATCH);
            domains.extend((0..count as usize).map(|i| DomainInfo::decode(&element(&list, i))));
            match domains.last() {
                Some(last) if count == BATCH => next = DomId(last.domain.0 + 1),
                _ => return Ok(domains),
            }
        }
    }

    fn read_console(&self, clear: bool) -> Result<Vec<u8>> {
        Ok(self.console(clear, 0)?.0)
    }

    fn debug_keys(&self, keys: &str) -> Result<()> {
        const CALL: &str = "XEN_SYSCTL_debug_keys";
        let buffer = self.buffer(keys.len().max(1))?;
        buffer.write(0, keys.as_bytes());
        let nr_keys = u32::try_from(keys.len())
            .map_err(|_too_long| Error::Call { call: CALL, errno: Errno::TOOBIG })?;
        let argument = abi::DebugKeys { keys: buffer.address(), nr_keys, pad: 0 };
        // SAFETY: the one address is that of a buffer as long as said.
        unsafe { self.sysctl(CALL, abi::XEN_SYSCTL_DEBUG_KEYS, &argument) }.map(drop)
    }

    fn cpu_topology(&self) -> Result<Vec<Option<CpuTopology>>> {
        const CALL: &str = "XEN_SYSCTL_cputopoinfo";
        const NUMBER: u32 = abi::XEN_SYSCTL_CPUTOPOINFO;
        let mut argument = self.plain_sysctl(CALL, NUMBER, &abi::CpuTopoInfo::default())?;
        let count = argument.num_cpus;
        let list = self.buffer(count as usize * size_of::<abi::CpuTopo>())?;
        argument.cputopo = list.address();
        // SAFETY: the one address is that of a list as long as said.
        let answer = unsafe { self.sysctl(CALL, NUMBER, &argument) }?;
        let there = (0..count.min(answer.num_cpus) as usize).map(|cpu| {
            let abi::CpuTopo { core, socket, node } = element(&list, cpu);
            (core != abi::XEN_INVALID_CORE_ID).then_some(CpuTopology { core, socket, node })
        });
        Ok(there.collect())
    }

    fn numa_info(&self) -> Result<Vec<Node>> {
        const CALL: &str = "XEN_SYSCTL_numainfo";
        const NUMBER: u32 = abi::XEN_SYSCTL_NUMAINFO;
        let mut argument = self.plain_sysctl(CALL, NUMBER, &abi::NumaInfo::default())?;
        let count = argument.num_nodes as usize;
        let memory = self.buffer(count * size_of::<abi::MemInfo>())?;
        let distances = self.buffer(count * count * size_of::<u32>())?;
        argument.meminfo = memory.address();
        argument.distance = distances.address();
        // SAFETY: both addresses are those of lists as long as said, the second squared.
        let answer = unsafe { self.sysctl(CALL, NUMBER, &argument) }?;
        let count = count.min(answer.num_nodes as usize);
        let nodes = (0..count).map(|node| {
            let info: abi::MemInfo = element(&memory, node);
            let to = |to| element(&distances, node * count + to);
            Node { size: info.memsize, free: info.memfree, distances: (0..count).map(to).collect() }
        });
        Ok(nodes.collect())
    }

    fn scheduler(&self) -> Result<u32> {
        let argument = abi::SchedId::default();
        let number = abi::XEN_SYSCTL_SCHED_ID;
        Ok(self.plain_sysctl("XEN_SYSCTL_sched_id", number, &argument)?.sched_id)
    }

    fn cpupool(&self, id: u32) -> Result<Option<Cpupool>> {
        match self.cpupool_op(abi::XEN_SYSCTL_CPUPOOL_OP_INFO, id) {
            Ok((pool, cpus)) => Ok(Some(Cpupool {
                id: pool.cpupool_id,
                scheduler: pool.sched_id,
                domains: pool.n_dom,
                cpus,
            })),
            Err(error) if error.is(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn free_cpus(&self) -> Result<BTreeSet<u32>> {
        Ok(self.cpupool_op(abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO, 0)?.1)
    }

    fn change_pool(&self, change: PoolChange) -> Result<u32> {
        let mut argument = abi::CpupoolOp {
            op: change.number(),
            cpu: abi::XEN_SYSCTL_CPUPOOL_PAR_ANY,
            ..abi::CpupoolOp::default()
        };
        match change {
            PoolChange::Create(scheduler) => {
                argument.cpupool_id = abi::XEN_SYSCTL_CPUPOOL_PAR_ANY;
                argument.sched_id = scheduler;
            }
            PoolChange::Destroy(pool) => argument.cpupool_id = pool,
            PoolChange::AddCpu(pool, cpu) | PoolChange::RemoveCpu(pool, cpu) => {
                argument.cpupool_id = pool;
                argument.cpu = cpu;
            }
            PoolChange::Move(pool, domain) => {
                argument.cpupool_id = pool;
                argument.domid = u32::from(domain.0);
            }
        }
        let number = abi::XEN_SYSCTL_CPUPOOL_OP;
        Ok(self.plain_sysctl("XEN_SYSCTL_cpupool_op", number, &argument)?.cpupool_id)
    }

    fn credit2_rate_limit(&self, pool: u32) -> Result<u32> {
        let [rate_limit, ..] = self.credit2(pool, abi::XEN_SYSCTL_SCHEDOP_GETINFO, 0)?;
        Ok(rate_limit)
    }

    fn set_credit2_rate_limit(&self, pool: u32, microseconds: u32) -> Result<()> {
        self.credit2(pool, abi::XEN_SYSCTL_SCHEDOP_PUTINFO, microseconds).map(drop)
    }
}
