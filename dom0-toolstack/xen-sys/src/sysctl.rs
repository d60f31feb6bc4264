//! Operations on the whole machine (`public/sysctl.h`, interface version 0x15).

use std::collections::BTreeSet;

use rustix::io::Errno;

use crate::domctl::{DomainInfo, INFO_SIZE, read_bitmap};
use crate::error::{Error, Result};
use crate::ids::DomId;
use crate::payload::Payload;
use crate::privcmd::Privcmd;

/// `__HYPERVISOR_sysctl`.
const SYSCTL: u64 = 35;
/// XEN_SYSCTL_INTERFACE_VERSION of Xen 4.20.
const INTERFACE: u32 = 0x15;
/// Where the operation's own fields begin.
const U: usize = 8;
/// Size of `struct xen_sysctl`.
const SIZE: usize = 136;

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
    /// How long credit2 lets a vCPU of `pool` run at least, in microseconds.
    fn credit2_rate_limit(&self, pool: u32) -> Result<u32>;
}

impl Privcmd {
    /// The hypervisor's log from `index` on, as a follower reads it: the text, and the index to go on from.
    pub fn read_console_from(&self, index: u32) -> Result<(Vec<u8>, u32)> {
        const SIZE: u32 = 64 * 1024;
        let buffer = self.buffer(SIZE as usize)?;
        let (mut text, mut index) = (Vec::new(), index);
        loop {
            let payload = Payload::new()
                .u8(U + 1, 1)
                .u32(U + 4, index)
                .u64(U + 8, buffer.address())
                .u32(U + 16, SIZE);
            // SAFETY: the one address is that of a buffer as long as said.
            let answer = unsafe { self.sysctl("XEN_SYSCTL_readconsole", 1, payload) }?;
            let count = answer.get_u32(U + 16).min(SIZE);
            index = answer.get_u32(U + 4);
            if count == 0 {
                return Ok((text, index));
            }
            let mut bytes = vec![0; count as usize];
            buffer.read(0, &mut bytes);
            text.extend_from_slice(&bytes);
        }
    }
}

impl Privcmd {
    /// # Safety
    /// Addresses inside `payload` are those of buffers held over the call and large enough.
    unsafe fn sysctl(
        &self,
        call: &'static str,
        number: u32,
        payload: Payload<SIZE>,
    ) -> Result<Payload<SIZE>> {
        let mut payload = payload.u32(0, number).u32(4, INTERFACE);
        // SAFETY: passed on to the caller.
        let answer = unsafe { self.call_with(SYSCTL, [0; 5], 0, &mut payload) };
        answer.map_err(|errno| Error::Call { call, errno })?;
        Ok(payload)
    }

    fn plain_sysctl(
        &self,
        call: &'static str,
        number: u32,
        payload: Payload<SIZE>,
    ) -> Result<Payload<SIZE>> {
        // SAFETY: by this function's purpose there is no address in the payload; its callers are below.
        unsafe { self.sysctl(call, number, payload) }
    }

    fn cpupool_op(&self, operation: u32, id: u32) -> Result<(Payload<SIZE>, BTreeSet<u32>)> {
        let bits = (self.phys_info()?.max_cpu + 1).next_multiple_of(64);
        let bitmap = self.buffer(bits as usize / 8)?;
        let payload = Payload::new()
            .u32(U, operation)
            .u32(U + 4, id)
            .u64(U + 24, bitmap.address())
            .u32(U + 32, bits);
        // SAFETY: the one address is that of a bitmap with as many bits as said.
        let answer = unsafe { self.sysctl("XEN_SYSCTL_cpupool_op", 18, payload) }?;
        Ok((answer, read_bitmap(&bitmap, bits)))
    }
}

impl Sysctl for Privcmd {
    fn phys_info(&self) -> Result<PhysInfo> {
        let answer = self.plain_sysctl("XEN_SYSCTL_physinfo", 3, Payload::new())?;
        let mut hw_cap = [0; 8];
        for (index, word) in hw_cap.iter_mut().enumerate() {
            *word = answer.get_u32(U + 80 + 4 * index);
        }
        Ok(PhysInfo {
            threads_per_core: answer.get_u32(U),
            cores_per_socket: answer.get_u32(U + 4),
            cpus: answer.get_u32(U + 8),
            max_cpu: answer.get_u32(U + 12),
            nodes: answer.get_u32(U + 16),
            max_node: answer.get_u32(U + 20),
            cpu_khz: answer.get_u32(U + 24),
            capabilities: answer.get_u32(U + 28),
            arch_capabilities: answer.get_u32(U + 32),
            total_pages: answer.get_u64(U + 40),
            free_pages: answer.get_u64(U + 48),
            scrub_pages: answer.get_u64(U + 56),
            outstanding_pages: answer.get_u64(U + 64),
            hw_cap,
        })
    }

    fn domains(&self, first: DomId) -> Result<Vec<DomainInfo>> {
        /// Two pages' worth; there is another round for more.
        const BATCH: u32 = 64;
        let list = self.buffer(BATCH as usize * INFO_SIZE)?;
        let (mut domains, mut next) = (Vec::new(), first);
        loop {
            let payload =
                Payload::new().u16(U, next.0).u32(U + 4, BATCH).u64(U + 8, list.address());
            // SAFETY: the one address is that of a list as long as said.
            let answer = unsafe { self.sysctl("XEN_SYSCTL_getdomaininfolist", 6, payload) }?;
            let count = answer.get_u32(U + 16).min(BATCH);
            for index in 0..count as usize {
                let mut bytes = [0; INFO_SIZE];
                list.read(index * INFO_SIZE, &mut bytes);
                domains.push(DomainInfo::decode(&Payload::new().bytes(0, &bytes)));
            }
            match domains.last() {
                Some(last) if count == BATCH => next = DomId(last.domain.0 + 1),
                _ => return Ok(domains),
            }
        }
    }

    fn read_console(&self, clear: bool) -> Result<Vec<u8>> {
        const SIZE: u32 = 64 * 1024;
        let buffer = self.buffer(SIZE as usize)?;
        let (mut log, mut index) = (Vec::new(), 0);
        // Incremental reads, as a log may be longer than any buffer; `index` is how far we are.
        loop {
            let payload = Payload::new()
                .u8(U, u8::from(clear && log.is_empty()))
                .u8(U + 1, 1)
                .u32(U + 4, index)
                .u64(U + 8, buffer.address())
                .u32(U + 16, SIZE);
            // SAFETY: the one address is that of a buffer as long as said.
            let answer = unsafe { self.sysctl("XEN_SYSCTL_readconsole", 1, payload) }?;
            let count = answer.get_u32(U + 16).min(SIZE);
            if count == 0 {
                return Ok(log);
            }
            let mut bytes = vec![0; count as usize];
            buffer.read(0, &mut bytes);
            log.extend_from_slice(&bytes);
            index = answer.get_u32(U + 4);
        }
    }

    fn debug_keys(&self, keys: &str) -> Result<()> {
        const NAME: &str = "XEN_SYSCTL_debug_keys";
        let buffer = self.buffer(keys.len().max(1))?;
        buffer.write(0, keys.as_bytes());
        let length = u32::try_from(keys.len())
            .map_err(|_too_long| Error::Call { call: NAME, errno: Errno::TOOBIG })?;
        let payload = Payload::new().u64(U, buffer.address()).u32(U + 8, length);
        // SAFETY: the one address is that of a buffer as long as said.
        unsafe { self.sysctl(NAME, 7, payload) }.map(drop)
    }

    fn cpu_topology(&self) -> Result<Vec<Option<CpuTopology>>> {
        const NAME: &str = "XEN_SYSCTL_cputopoinfo";
        const ENTRY: usize = 12;
        let count = self.plain_sysctl(NAME, 16, Payload::new())?.get_u32(U);
        let list = self.buffer(count as usize * ENTRY)?;
        let payload = Payload::new().u32(U, count).u64(U + 8, list.address());
        // SAFETY: the one address is that of a list as long as said.
        let answer = unsafe { self.sysctl(NAME, 16, payload) }?;
        let word = |index: u32, field| list.load_u32(index as usize * ENTRY + field);
        Ok((0..count.min(answer.get_u32(U)))
            .map(|cpu| {
                let (core, socket, node) = (word(cpu, 0), word(cpu, 4), word(cpu, 8));
                (core != u32::MAX).then_some(CpuTopology { core, socket, node })
            })
            .collect())
    }

    fn numa_info(&self) -> Result<Vec<Node>> {
        const NAME: &str = "XEN_SYSCTL_numainfo";
        let count = self.plain_sysctl(NAME, 17, Payload::new())?.get_u32(U);
        let memory = self.buffer(count as usize * 16)?;
        let distances = self.buffer(count as usize * count as usize * 4)?;
        let payload = Payload::new()
            .u32(U, count)
            .u64(U + 8, memory.address())
            .u64(U + 16, distances.address());
        // SAFETY: both addresses are those of lists as long as said, the second squared.
        let answer = unsafe { self.sysctl(NAME, 17, payload) }?;
        let count = count.min(answer.get_u32(U)) as usize;
        Ok((0..count)
            .map(|node| Node {
                size: memory.load_u64(node * 16),
                free: memory.load_u64(node * 16 + 8),
                distances: (0..count)
                    .map(|to| distances.load_u32((node * count + to) * 4))
                    .collect(),
            })
            .collect())
    }

    fn scheduler(&self) -> Result<u32> {
        Ok(self.plain_sysctl("XEN_SYSCTL_sched_id", 4, Payload::new())?.get_u32(U))
    }

    fn cpupool(&self, id: u32) -> Result<Option<Cpupool>> {
        const INFO: u32 = 3;
        match self.cpupool_op(INFO, id) {
            Ok((answer, cpus)) => Ok(Some(Cpupool {
                id: answer.get_u32(U + 4),
                scheduler: answer.get_u32(U + 8),
                domains: answer.get_u32(U + 20),
                cpus,
            })),
            Err(error) if error.is(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn free_cpus(&self) -> Result<BTreeSet<u32>> {
        const FREE_INFO: u32 = 7;
        Ok(self.cpupool_op(FREE_INFO, 0)?.1)
    }

    fn credit2_rate_limit(&self, pool: u32) -> Result<u32> {
        const CREDIT2: u32 = 6;
        let payload = Payload::new().u32(U, pool).u32(U + 4, CREDIT2).u32(U + 8, 1);
        Ok(self.plain_sysctl("XEN_SYSCTL_scheduler_op", 19, payload)?.get_u32(U + 16))
    }
}
