//! Control of the machine by the toolstack (`public/sysctl.h`), interface version 0x15.

use crate::domctl::XenctlBitmap;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The version a request must carry.
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;

/// See [`ReadConsole`].
pub const XEN_SYSCTL_READCONSOLE: u32 = 1;
/// See [`TbufOp`].
pub const XEN_SYSCTL_TBUF_OP: u32 = 2;
/// See [`PhysInfo`].
pub const XEN_SYSCTL_PHYSINFO: u32 = 3;
/// See [`SchedId`].
pub const XEN_SYSCTL_SCHED_ID: u32 = 4;
/// Performance counters.
pub const XEN_SYSCTL_PERFC_OP: u32 = 5;
/// See [`GetDomainInfoList`].
pub const XEN_SYSCTL_GETDOMAININFOLIST: u32 = 6;
/// See [`DebugKeys`].
pub const XEN_SYSCTL_DEBUG_KEYS: u32 = 7;
/// See [`GetCpuInfo`].
pub const XEN_SYSCTL_GETCPUINFO: u32 = 8;
/// See [`AvailHeap`].
pub const XEN_SYSCTL_AVAILHEAP: u32 = 9;
/// Power statistics.
pub const XEN_SYSCTL_GET_PMSTAT: u32 = 10;
/// See [`CpuHotplug`].
pub const XEN_SYSCTL_CPU_HOTPLUG: u32 = 11;
/// Power management.
pub const XEN_SYSCTL_PM_OP: u32 = 12;
/// Take frames out of use.
pub const XEN_SYSCTL_PAGE_OFFLINE_OP: u32 = 14;
/// Profile of locks.
pub const XEN_SYSCTL_LOCKPROF_OP: u32 = 15;
/// See [`CpuTopoInfo`].
pub const XEN_SYSCTL_CPUTOPOINFO: u32 = 16;
/// See [`NumaInfo`].
pub const XEN_SYSCTL_NUMAINFO: u32 = 17;
/// See [`CpupoolOp`].
pub const XEN_SYSCTL_CPUPOOL_OP: u32 = 18;
/// See [`SchedulerOp`].
pub const XEN_SYSCTL_SCHEDULER_OP: u32 = 19;
/// Coverage.
pub const XEN_SYSCTL_COVERAGE_OP: u32 = 20;
/// Cache monitoring; x86 only.
pub const XEN_SYSCTL_PSR_CMT_OP: u32 = 21;
/// Nodes of PCI devices.
pub const XEN_SYSCTL_PCITOPOINFO: u32 = 22;
/// Cache allocation; x86 only.
pub const XEN_SYSCTL_PSR_ALLOC: u32 = 23;
/// Hiding processor features; x86 only.
pub const XEN_SYSCTL_GET_CPU_LEVELLING_CAPS: u32 = 25;
/// Processor features; x86 only.
pub const XEN_SYSCTL_GET_CPU_FEATURESET: u32 = 26;
/// Live patching.
pub const XEN_SYSCTL_LIVEPATCH_OP: u32 = 27;
/// Processor features; x86 only.
pub const XEN_SYSCTL_GET_CPU_POLICY: u32 = 29;
/// Add a device tree overlay.
pub const XEN_SYSCTL_DT_OVERLAY: u32 = 30;

/// Capability: hardware-assisted guests.
pub const XEN_SYSCTL_PHYSCAP_HVM: u32 = 1 << 0;
/// Capability: paravirtual guests.
pub const XEN_SYSCTL_PHYSCAP_PV: u32 = 1 << 1;
/// Capability: devices can be given away.
pub const XEN_SYSCTL_PHYSCAP_DIRECTIO: u32 = 1 << 2;
/// Capability: second-stage translation.
pub const XEN_SYSCTL_PHYSCAP_HAP: u32 = 1 << 3;
/// Capability: shadow page tables.
pub const XEN_SYSCTL_PHYSCAP_SHADOW: u32 = 1 << 4;
/// Capability: the I/O MMU shares page tables.
pub const XEN_SYSCTL_PHYSCAP_IOMMU_HAP_PT_SHARE: u32 = 1 << 5;
/// Capability: processor tracing.
pub const XEN_SYSCTL_PHYSCAP_VMTRACE: u32 = 1 << 6;
/// Capability: performance monitors for guests.
pub const XEN_SYSCTL_PHYSCAP_VPMU: u32 = 1 << 7;
/// Capability: grant tables of version 1.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V1: u32 = 1 << 8;
/// Capability: grant tables of version 2.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V2: u32 = 1 << 9;

/// [`TbufOp`]: ask where the buffers are.
pub const XEN_SYSCTL_TBUFOP_GET_INFO: u32 = 0;
/// [`TbufOp`]: choose processors.
pub const XEN_SYSCTL_TBUFOP_SET_CPU_MASK: u32 = 1;
/// [`TbufOp`]: choose events.
pub const XEN_SYSCTL_TBUFOP_SET_EVT_MASK: u32 = 2;
/// [`TbufOp`]: set the buffers' size.
pub const XEN_SYSCTL_TBUFOP_SET_SIZE: u32 = 3;
/// [`TbufOp`]: start.
pub const XEN_SYSCTL_TBUFOP_ENABLE: u32 = 4;
/// [`TbufOp`]: stop.
pub const XEN_SYSCTL_TBUFOP_DISABLE: u32 = 5;

/// [`CpupoolOp`]: create a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_CREATE: u32 = 1;
/// [`CpupoolOp`]: destroy a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_DESTROY: u32 = 2;
/// [`CpupoolOp`]: describe the first pool with that number or a later one.
pub const XEN_SYSCTL_CPUPOOL_OP_INFO: u32 = 3;
/// [`CpupoolOp`]: add a processor.
pub const XEN_SYSCTL_CPUPOOL_OP_ADDCPU: u32 = 4;
/// [`CpupoolOp`]: remove a processor.
pub const XEN_SYSCTL_CPUPOOL_OP_RMCPU: u32 = 5;
/// [`CpupoolOp`]: move a domain.
pub const XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN: u32 = 6;
/// [`CpupoolOp`]: name processors in no pool.
pub const XEN_SYSCTL_CPUPOOL_OP_FREEINFO: u32 = 7;
/// [`CpupoolOp`]: any pool, any processor.
pub const XEN_SYSCTL_CPUPOOL_PAR_ANY: u32 = u32::MAX;
/// [`SchedulerOp`]: set parameters.
pub const XEN_SYSCTL_SCHEDOP_PUTINFO: u32 = 0;
/// [`SchedulerOp`]: read parameters.
pub const XEN_SYSCTL_SCHEDOP_GETINFO: u32 = 1;
/// [`CpuHotplug`]: bring up.
pub const XEN_SYSCTL_CPU_HOTPLUG_ONLINE: u32 = 0;
/// [`CpuHotplug`]: take down.
pub const XEN_SYSCTL_CPU_HOTPLUG_OFFLINE: u32 = 1;
/// [`CpuTopo`]: no such core.
pub const XEN_INVALID_CORE_ID: u32 = u32::MAX;
/// [`CpuTopo`]: no such socket.
pub const XEN_INVALID_SOCKET_ID: u32 = u32::MAX;
/// [`CpuTopo`]: no such node.
pub const XEN_INVALID_NODE_ID: u32 = u32::MAX;

/// Bytes of the union in [`Sysctl`].
const PAYLOAD: usize = 128;

crate::layout::wire! {
    /// The envelope of every operation on the machine.
    pub struct Sysctl = "struct xen_sysctl", 136 {
        /// One of the `XEN_SYSCTL_` numbers.
        0 => cmd: u32,
        /// Must be [`XEN_SYSCTL_INTERFACE_VERSION`].
        4 => interface_version: u32,
        /// The operation's own argument.
        8 => payload: [u8; PAYLOAD] as "u",
    }
}

impl Sysctl {
    /// Makes a request with a zero argument.
    pub const fn new(cmd: u32) -> Self {
        Self { cmd, interface_version: XEN_SYSCTL_INTERFACE_VERSION, payload: [0; PAYLOAD] }
    }

    /// Makes a request with the argument `payload`.
    pub fn with<T: Immutable + IntoBytes>(cmd: u32, payload: &T) -> Self {
        let mut request = Self::new(cmd);
        request.set_payload(payload);
        request
    }

    /// Returns the operation's argument.
    pub fn payload<T: FromBytes>(&self) -> T {
        crate::layout::read_payload(&self.payload)
    }

    /// Replaces the operation's argument; bytes after it stay as they are.
    pub fn set_payload<T: Immutable + IntoBytes>(&mut self, payload: &T) {
        crate::layout::write_payload(&mut self.payload, payload);
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_readconsole`.
    pub struct ReadConsole = "struct xen_sysctl_readconsole", 24 {
        /// IN: clear the ring afterwards.
        0 => clear: u8,
        /// IN: start at `index`.
        1 => incremental: u8,
        /// Padding.
        2 => pad0: [u8; 2],
        /// IN/OUT: where to start, then where it ended.
        4 => index: u32,
        /// IN: where to put the bytes.
        8 => buffer: u64,
        /// IN/OUT: room for, then number of bytes.
        16 => count: u32,
        /// Padding.
        20 => pad: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_tbuf_op`.
    pub struct TbufOp = "struct xen_sysctl_tbuf_op", 48 {
        /// IN: one of `XEN_SYSCTL_TBUFOP_`.
        0 => cmd: u32,
        /// Padding.
        4 => pad: u32,
        /// IN: processors.
        8 => cpu_mask: XenctlBitmap,
        /// IN/OUT: events.
        24 => evt_mask: u32,
        /// Padding.
        28 => pad2: u32,
        /// OUT: first frame.
        32 => buffer_mfn: u64,
        /// IN/OUT: size.
        40 => size: u32,
        /// Padding.
        44 => pad3: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_physinfo`.
    pub struct PhysInfo = "struct xen_sysctl_physinfo", 112 {
        /// OUT: threads in a core.
        0 => threads_per_core: u32,
        /// OUT: cores in a socket.
        4 => cores_per_socket: u32,
        /// OUT: processors that are up.
        8 => nr_cpus: u32,
        /// OUT: last processor's number.
        12 => max_cpu_id: u32,
        /// OUT: nodes.
        16 => nr_nodes: u32,
        /// OUT: last node's number.
        20 => max_node_id: u32,
        /// OUT: frequency of the timer.
        24 => cpu_khz: u32,
        /// OUT: `XEN_SYSCTL_PHYSCAP_` bits.
        28 => capabilities: u32,
        /// OUT: Arm's capabilities.
        32 => arch_capabilities: u32,
        /// Padding.
        36 => pad: u32,
        /// OUT: frames.
        40 => total_pages: u64,
        /// OUT: free frames.
        48 => free_pages: u64,
        /// OUT: free frames to be cleared yet.
        56 => scrub_pages: u64,
        /// OUT: free frames that are claimed.
        64 => outstanding_pages: u64,
        /// OUT: last frame's number.
        72 => max_mfn: u64,
        /// OUT: processor features; x86 only.
        80 => hw_cap: [u32; 8],
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_sched_id`.
    pub struct SchedId = "struct xen_sysctl_sched_id", 4 {
        /// OUT: one of `XEN_SCHEDULER_`.
        0 => sched_id: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_getdomaininfolist`.
    pub struct GetDomainInfoList = "struct xen_sysctl_getdomaininfolist", 24 {
        /// IN: start at this number.
        0 => first_domain: u16,
        /// Padding.
        2 => pad: u16,
        /// IN: room for so many.
        4 => max_domains: u32,
        /// IN: array of [`crate::domctl::GetDomainInfo`].
        8 => buffer: u64,
        /// OUT: how many.
        16 => num_domains: u32,
        /// Padding.
        20 => pad2: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_debug_keys`.
    pub struct DebugKeys = "struct xen_sysctl_debug_keys", 16 {
        /// IN: array of characters.
        0 => keys: u64,
        /// IN: how many.
        8 => nr_keys: u32,
        /// Padding.
        12 => pad: u32,
    }
}

crate::layout::wire! {
    /// Element of the array of `XEN_SYSCTL_getcpuinfo`.
    pub struct CpuInfo = "struct xen_sysctl_cpuinfo", 8 {
        /// Nanoseconds it was idle.
        0 => idletime: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_getcpuinfo`.
    pub struct GetCpuInfo = "struct xen_sysctl_getcpuinfo", 24 {
        /// IN: room for so many.
        0 => max_cpus: u32,
        /// Padding.
        4 => pad: u32,
        /// IN: array of [`CpuInfo`].
        8 => info: u64,
        /// OUT: how many.
        16 => nr_cpus: u32,
        /// Padding.
        20 => pad2: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_availheap`.
    pub struct AvailHeap = "struct xen_sysctl_availheap", 24 {
        /// IN: least address bits, or 0.
        0 => min_bitwidth: u32,
        /// IN: most address bits, or 0.
        4 => max_bitwidth: u32,
        /// IN: a node, or -1.
        8 => node: i32,
        /// Padding.
        12 => pad: u32,
        /// OUT: free bytes.
        16 => avail_bytes: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_cpu_hotplug`.
    pub struct CpuHotplug = "struct xen_sysctl_cpu_hotplug", 8 {
        /// IN: the processor.
        0 => cpu: u32,
        /// IN: one of `XEN_SYSCTL_CPU_HOTPLUG_`.
        4 => op: u32,
    }
}

crate::layout::wire! {
    /// Element of the array of `XEN_SYSCTL_cputopoinfo`.
    pub struct CpuTopo = "struct xen_sysctl_cputopo", 12 {
        /// Its core.
        0 => core: u32,
        /// Its socket.
        4 => socket: u32,
        /// Its node.
        8 => node: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_cputopoinfo`.
    pub struct CpuTopoInfo = "struct xen_sysctl_cputopoinfo", 16 {
        /// IN/OUT: room for, then number of processors.
        0 => num_cpus: u32,
        /// Padding.
        4 => pad: u32,
        /// IN: array of [`CpuTopo`], or null.
        8 => cputopo: u64,
    }
}

crate::layout::wire! {
    /// Element of an array of `XEN_SYSCTL_numainfo`.
    pub struct MemInfo = "struct xen_sysctl_meminfo", 16 {
        /// Bytes of the node.
        0 => memsize: u64,
        /// Free bytes of the node.
        8 => memfree: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_numainfo`.
    pub struct NumaInfo = "struct xen_sysctl_numainfo", 24 {
        /// IN/OUT: room for, then number of nodes.
        0 => num_nodes: u32,
        /// Padding.
        4 => pad: u32,
        /// IN: array of [`MemInfo`], or null.
        8 => meminfo: u64,
        /// IN: square array of distances, `u32`, or null.
        16 => distance: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_cpupool_op`.
    pub struct CpupoolOp = "struct xen_sysctl_cpupool_op", 40 {
        /// IN: one of `XEN_SYSCTL_CPUPOOL_OP_`.
        0 => op: u32,
        /// IN/OUT: the pool.
        4 => cpupool_id: u32,
        /// IN/OUT: its scheduler.
        8 => sched_id: u32,
        /// IN: the domain to move.
        12 => domid: u32,
        /// IN: the processor to add or remove.
        16 => cpu: u32,
        /// OUT: domains in the pool.
        20 => n_dom: u32,
        /// OUT: its processors.
        24 => cpumap: XenctlBitmap,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_SYSCTL_scheduler_op`.
    pub struct SchedulerOp = "struct xen_sysctl_scheduler_op", 32 {
        /// IN: the pool.
        0 => cpupool_id: u32,
        /// IN: its scheduler.
        4 => sched_id: u32,
        /// IN: one of `XEN_SYSCTL_SCHEDOP_`.
        8 => cmd: u32,
        /// Padding.
        12 => pad: u32,
        /// IN/OUT: credit2: rate limit in µs; credit: time slice in ms, rate limit in µs, migration delay in µs.
        16 => parameters: [u32; 3] as "u",
        /// Padding.
        28 => pad2: u32,
    }
}
