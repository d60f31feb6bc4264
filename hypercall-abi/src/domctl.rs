//! Control of one domain by the toolstack (`public/domctl.h`), interface version 0x17.

use crate::arch_arm::ArchDomainconfig;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The version a request must carry.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x17;

/// See [`CreateDomain`].
pub const XEN_DOMCTL_CREATEDOMAIN: u32 = 1;
/// Destroy the domain.
pub const XEN_DOMCTL_DESTROYDOMAIN: u32 = 2;
/// Pause the domain.
pub const XEN_DOMCTL_PAUSEDOMAIN: u32 = 3;
/// Undo one pause.
pub const XEN_DOMCTL_UNPAUSEDOMAIN: u32 = 4;
/// See [`GetDomainInfo`].
pub const XEN_DOMCTL_GETDOMAININFO: u32 = 5;
/// See [`VcpuAffinity`].
pub const XEN_DOMCTL_SETVCPUAFFINITY: u32 = 9;
/// See [`ShadowOp`].
pub const XEN_DOMCTL_SHADOW_OP: u32 = 10;
/// See [`MaxMem`].
pub const XEN_DOMCTL_MAX_MEM: u32 = 11;
/// See [`VcpuContext`].
pub const XEN_DOMCTL_SETVCPUCONTEXT: u32 = 12;
/// See [`VcpuContext`].
pub const XEN_DOMCTL_GETVCPUCONTEXT: u32 = 13;
/// See [`GetVcpuInfo`].
pub const XEN_DOMCTL_GETVCPUINFO: u32 = 14;
/// See [`MaxVcpus`].
pub const XEN_DOMCTL_MAX_VCPUS: u32 = 15;
/// See [`SchedulerOp`].
pub const XEN_DOMCTL_SCHEDULER_OP: u32 = 16;
/// See [`SetDomainHandle`].
pub const XEN_DOMCTL_SETDOMAINHANDLE: u32 = 17;
/// Allow a debugger.
pub const XEN_DOMCTL_SETDEBUGGING: u32 = 18;
/// See [`IrqPermission`].
pub const XEN_DOMCTL_IRQ_PERMISSION: u32 = 19;
/// See [`IomemPermission`].
pub const XEN_DOMCTL_IOMEM_PERMISSION: u32 = 20;
/// See [`SetTimeOffset`].
pub const XEN_DOMCTL_SETTIMEOFFSET: u32 = 24;
/// See [`VcpuAffinity`].
pub const XEN_DOMCTL_GETVCPUAFFINITY: u32 = 25;
/// Let a suspended domain go on.
pub const XEN_DOMCTL_RESUMEDOMAIN: u32 = 27;
/// Send a power or reset trigger.
pub const XEN_DOMCTL_SENDTRIGGER: u32 = 28;
/// Name a port to be told of a suspend.
pub const XEN_DOMCTL_SUBSCRIBE: u32 = 29;
/// See [`HvmContext`].
pub const XEN_DOMCTL_GETHVMCONTEXT: u32 = 33;
/// See [`HvmContext`].
pub const XEN_DOMCTL_SETHVMCONTEXT: u32 = 34;
/// See [`AddressSize`].
pub const XEN_DOMCTL_SET_ADDRESS_SIZE: u32 = 35;
/// See [`AddressSize`].
pub const XEN_DOMCTL_GET_ADDRESS_SIZE: u32 = 36;
/// Give a device to the domain.
pub const XEN_DOMCTL_ASSIGN_DEVICE: u32 = 37;
/// See [`BindPtIrq`].
pub const XEN_DOMCTL_BIND_PT_IRQ: u32 = 38;
/// See [`MemoryMapping`].
pub const XEN_DOMCTL_MEMORY_MAPPING: u32 = 39;
/// Ask whether a device could be given.
pub const XEN_DOMCTL_TEST_ASSIGN_DEVICE: u32 = 45;
/// See [`SetTarget`].
pub const XEN_DOMCTL_SET_TARGET: u32 = 46;
/// Take a device back.
pub const XEN_DOMCTL_DEASSIGN_DEVICE: u32 = 47;
/// See [`BindPtIrq`].
pub const XEN_DOMCTL_UNBIND_PT_IRQ: u32 = 48;
/// Single-step a vCPU.
pub const XEN_DOMCTL_DEBUG_OP: u32 = 54;
/// One record of the saved context.
pub const XEN_DOMCTL_GETHVMCONTEXT_PARTIAL: u32 = 55;
/// Memory events.
pub const XEN_DOMCTL_VM_EVENT_OP: u32 = 56;
/// Memory sharing.
pub const XEN_DOMCTL_MEM_SHARING_OP: u32 = 57;
/// See [`GetPageFrameInfo3`].
pub const XEN_DOMCTL_GETPAGEFRAMEINFO3: u32 = 61;
/// A listener for memory events is required.
pub const XEN_DOMCTL_SET_ACCESS_REQUIRED: u32 = 64;
/// See [`SetVirqHandler`].
pub const XEN_DOMCTL_SET_VIRQ_HANDLER: u32 = 66;
/// See [`NodeAffinity`].
pub const XEN_DOMCTL_SETNODEAFFINITY: u32 = 68;
/// See [`NodeAffinity`].
pub const XEN_DOMCTL_GETNODEAFFINITY: u32 = 69;
/// See [`CacheFlush`].
pub const XEN_DOMCTL_CACHEFLUSH: u32 = 71;
/// Set the virtual topology of nodes.
pub const XEN_DOMCTL_SETVNUMAINFO: u32 = 74;
/// Monitoring.
pub const XEN_DOMCTL_MONITOR_OP: u32 = 77;
/// Start over, keeping memory.
pub const XEN_DOMCTL_SOFT_RESET: u32 = 79;
/// See [`VuartOp`].
pub const XEN_DOMCTL_VUART_OP: u32 = 81;
/// Processor tracing.
pub const XEN_DOMCTL_VMTRACE_OP: u32 = 84;
/// See [`PagingMempool`].
pub const XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE: u32 = 85;
/// See [`PagingMempool`].
pub const XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE: u32 = 86;
/// Attach a device tree overlay.
pub const XEN_DOMCTL_DT_OVERLAY: u32 = 87;
/// Access to a global interrupt; x86 only.
pub const XEN_DOMCTL_GSI_PERMISSION: u32 = 88;
/// See [`SetLlcColors`].
pub const XEN_DOMCTL_SET_LLC_COLORS: u32 = 89;
/// Debugger: read or write memory.
pub const XEN_DOMCTL_GDBSX_GUESTMEMIO: u32 = 1000;
/// Debugger: pause a vCPU.
pub const XEN_DOMCTL_GDBSX_PAUSEVCPU: u32 = 1001;
/// Debugger: let a vCPU go on.
pub const XEN_DOMCTL_GDBSX_UNPAUSEVCPU: u32 = 1002;
/// Debugger: ask for the state.
pub const XEN_DOMCTL_GDBSX_DOMSTATUS: u32 = 1003;

/// Creation flag: hardware-assisted.
pub const XEN_DOMCTL_CDF_HVM: u32 = 1 << 0;
/// Creation flag: second-stage translation.
pub const XEN_DOMCTL_CDF_HAP: u32 = 1 << 1;
/// Creation flag: check memory over a host's sleep.
pub const XEN_DOMCTL_CDF_S3_INTEGRITY: u32 = 1 << 2;
/// Creation flag: no out-of-sync page tables.
pub const XEN_DOMCTL_CDF_OOS_OFF: u32 = 1 << 3;
/// Creation flag: the domain runs xenstore.
pub const XEN_DOMCTL_CDF_XS_DOMAIN: u32 = 1 << 4;
/// Creation flag: devices may be given to it.
pub const XEN_DOMCTL_CDF_IOMMU: u32 = 1 << 5;
/// Creation flag: nested virtualization.
pub const XEN_DOMCTL_CDF_NESTED_VIRT: u32 = 1 << 6;
/// Creation flag: performance monitors.
pub const XEN_DOMCTL_CDF_VPMU: u32 = 1 << 7;
/// Bits of `grant_opts` that hold the highest version of grant tables.
pub const XEN_DOMCTL_GRANT_VERSION_MASK: u32 = 0xf;

/// State: being destroyed.
pub const XEN_DOMINF_DYING: u32 = 1 << 0;
/// State: hardware-assisted.
pub const XEN_DOMINF_HVM_GUEST: u32 = 1 << 1;
/// State: shut down; the reason is in bits 23:16.
pub const XEN_DOMINF_SHUTDOWN: u32 = 1 << 2;
/// State: paused by the toolstack.
pub const XEN_DOMINF_PAUSED: u32 = 1 << 3;
/// State: all vCPUs wait for events.
pub const XEN_DOMINF_BLOCKED: u32 = 1 << 4;
/// State: a vCPU is running.
pub const XEN_DOMINF_RUNNING: u32 = 1 << 5;
/// State: paused for a debugger.
pub const XEN_DOMINF_DEBUGGED: u32 = 1 << 6;
/// State: the domain runs xenstore.
pub const XEN_DOMINF_XS_DOMAIN: u32 = 1 << 7;
/// State: second-stage translation.
pub const XEN_DOMINF_HAP: u32 = 1 << 8;
/// Mask of the shutdown reason, after the shift.
pub const XEN_DOMINF_SHUTDOWNMASK: u32 = 255;
/// Where the shutdown reason stands.
pub const XEN_DOMINF_SHUTDOWNSHIFT: u32 = 16;
/// `max_vcpu_id` of a domain without vCPUs.
pub const XEN_INVALID_MAX_VCPU_ID: u32 = u32::MAX;

/// Where a vCPU may run.
pub const XEN_VCPUAFFINITY_HARD: u32 = 1 << 0;
/// Where a vCPU would rather run.
pub const XEN_VCPUAFFINITY_SOFT: u32 = 1 << 1;
/// Even if it was pinned temporarily.
pub const XEN_VCPUAFFINITY_FORCE: u32 = 1 << 2;

/// Scheduler: credit.
pub const XEN_SCHEDULER_CREDIT: u32 = 5;
/// Scheduler: credit2.
pub const XEN_SCHEDULER_CREDIT2: u32 = 6;
/// Scheduler: ARINC 653.
pub const XEN_SCHEDULER_ARINC653: u32 = 7;
/// Scheduler: real-time deferrable server.
pub const XEN_SCHEDULER_RTDS: u32 = 8;
/// Scheduler: one vCPU per processor.
pub const XEN_SCHEDULER_NULL: u32 = 9;
/// Set a domain's parameters.
pub const XEN_DOMCTL_SCHEDOP_PUTINFO: u32 = 0;
/// Read a domain's parameters.
pub const XEN_DOMCTL_SCHEDOP_GETINFO: u32 = 1;
/// Set vCPUs' parameters.
pub const XEN_DOMCTL_SCHEDOP_PUTVCPUINFO: u32 = 2;
/// Read vCPUs' parameters.
pub const XEN_DOMCTL_SCHEDOP_GETVCPUINFO: u32 = 3;

/// Kind of interrupt in [`BindPtIrq`]: shared peripheral.
pub const PT_IRQ_TYPE_SPI: u32 = 4;
/// [`MemoryMapping`]: add.
pub const DPCI_ADD_MAPPING: u32 = 1;
/// [`MemoryMapping`]: remove.
pub const DPCI_REMOVE_MAPPING: u32 = 0;
/// [`VuartOp`]: create it.
pub const XEN_DOMCTL_VUART_OP_INIT: u32 = 0;
/// [`VuartOp`]: a PL011.
pub const XEN_DOMCTL_VUART_TYPE_VPL011: u32 = 0;

/// [`ShadowOp`]: stop recording.
pub const XEN_DOMCTL_SHADOW_OP_OFF: u32 = 0;
/// [`ShadowOp`]: start as `mode` says.
pub const XEN_DOMCTL_SHADOW_OP_ENABLE: u32 = 32;
/// [`ShadowOp`]: give the bitmap and clear it.
pub const XEN_DOMCTL_SHADOW_OP_CLEAN: u32 = 11;
/// [`ShadowOp`]: give the bitmap.
pub const XEN_DOMCTL_SHADOW_OP_PEEK: u32 = 12;
/// [`ShadowOp`]: start recording.
pub const XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY: u32 = 2;

/// Bytes of the union in [`Domctl`].
const PAYLOAD: usize = 128;

crate::layout::wire! {
    /// The envelope of every operation on a domain.
    pub struct Domctl = "struct xen_domctl", 144 {
        /// One of the `XEN_DOMCTL_` numbers.
        0 => cmd: u32,
        /// Must be [`XEN_DOMCTL_INTERFACE_VERSION`].
        4 => interface_version: u32,
        /// The domain concerned.
        8 => domain: u16,
        /// Padding.
        10 => pad: [u16; 3] as "_pad",
        /// The operation's own argument.
        16 => payload: [u8; PAYLOAD] as "u",
    }
}

impl Domctl {
    /// Makes a request with a zero argument.
    pub const fn new(cmd: u32, domain: u16) -> Self {
        Self {
            cmd,
            interface_version: XEN_DOMCTL_INTERFACE_VERSION,
            domain,
            pad: [0; 3],
            payload: [0; PAYLOAD],
        }
    }

    /// Makes a request with the argument `payload`.
    pub fn with<T: Immutable + IntoBytes>(cmd: u32, domain: u16, payload: &T) -> Self {
        let mut request = Self::new(cmd, domain);
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
    /// A set of processors or nodes in the caller's memory.
    pub struct XenctlBitmap = "struct xenctl_bitmap", 16 {
        /// Array of bytes.
        0 => bitmap: u64,
        /// Bits it has.
        8 => nr_bits: u32,
        /// Padding.
        12 => pad: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_createdomain`.
    pub struct CreateDomain = "struct xen_domctl_createdomain", 72 {
        /// IN: security label.
        0 => ssidref: u32,
        /// IN: UUID.
        4 => handle: [u8; 16],
        /// IN: `XEN_DOMCTL_CDF_` bits.
        20 => flags: u32,
        /// IN: options of the I/O MMU.
        24 => iommu_opts: u32,
        /// IN: vCPUs it will have.
        28 => max_vcpus: u32,
        /// IN: last port it can use.
        32 => max_evtchn_port: u32,
        /// IN: frames of its grant table, or -1.
        36 => max_grant_frames: i32,
        /// IN: frames to track its mappings, or -1.
        40 => max_maptrack_frames: i32,
        /// IN: version of its grant table.
        44 => grant_opts: u32,
        /// IN: alternate memory maps.
        48 => altp2m_opts: u32,
        /// IN: bytes of trace buffer.
        52 => vmtrace_size: u32,
        /// IN: its pool of processors.
        56 => cpupool_id: u32,
        /// IN/OUT: Arm's part.
        60 => arch: ArchDomainconfig,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_getdomaininfo`; element of the list of `XEN_SYSCTL_getdomaininfolist`.
    pub struct GetDomainInfo = "struct xen_domctl_getdomaininfo", 120 {
        /// OUT: the domain.
        0 => domain: u16,
        /// Padding.
        2 => pad1: u16,
        /// OUT: `XEN_DOMINF_` bits.
        4 => flags: u32,
        /// OUT: frames it has.
        8 => tot_pages: u64,
        /// OUT: frames it can have.
        16 => max_pages: u64,
        /// OUT: frames it claimed and does not have yet.
        24 => outstanding_pages: u64,
        /// OUT: shared frames.
        32 => shr_pages: u64,
        /// OUT: frames paged out.
        40 => paged_pages: u64,
        /// OUT: guest frame of its shared page.
        48 => shared_info_frame: u64,
        /// OUT: nanoseconds it ran.
        56 => cpu_time: u64,
        /// OUT: vCPUs that are up.
        64 => nr_online_vcpus: u32,
        /// OUT: number of its last vCPU.
        68 => max_vcpu_id: u32,
        /// OUT: security label.
        72 => ssidref: u32,
        /// OUT: UUID.
        76 => handle: [u8; 16],
        /// OUT: its pool of processors.
        92 => cpupool: u32,
        /// OUT: bits of its physical addresses.
        96 => gpaddr_bits: u8,
        /// Padding.
        97 => pad2: [u8; 7],
        /// OUT: Arm's part.
        104 => arch_config: ArchDomainconfig,
        /// Padding.
        116 => pad3: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_getpageframeinfo3`.
    pub struct GetPageFrameInfo3 = "struct xen_domctl_getpageframeinfo3", 16 {
        /// IN: frames.
        0 => num: u64,
        /// IN/OUT: array of frame numbers, then types.
        8 => array: u64,
    }
}

crate::layout::wire! {
    /// Counts of `XEN_DOMCTL_shadow_op`.
    pub struct ShadowOpStats = "struct xen_domctl_shadow_op_stats", 8 {
        /// Faults.
        0 => fault_count: u32,
        /// Frames written.
        4 => dirty_count: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_shadow_op`: recording which frames are written.
    pub struct ShadowOp = "struct xen_domctl_shadow_op", 40 {
        /// IN: one of `XEN_DOMCTL_SHADOW_OP_`.
        0 => op: u32,
        /// IN: what to record; or flags.
        4 => mode: u32,
        /// Shadow memory; x86 only.
        8 => mb: u32,
        /// Padding.
        12 => pad: u32,
        /// OUT: bitmap of frames.
        16 => dirty_bitmap: u64,
        /// IN/OUT: frames the bitmap has room for, then covers.
        24 => pages: u64,
        /// OUT: counts.
        32 => stats: ShadowOpStats,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_max_mem`.
    pub struct MaxMem = "struct xen_domctl_max_mem", 8 {
        /// IN: most memory it may have, in KiB.
        0 => max_memkb: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_setvcpucontext` and `XEN_DOMCTL_getvcpucontext`.
    pub struct VcpuContext = "struct xen_domctl_vcpucontext", 16 {
        /// IN: the vCPU.
        0 => vcpu: u32,
        /// Padding.
        4 => pad: u32,
        /// IN/OUT: a [`crate::arch_arm::VcpuGuestContext`]; null when setting resets the vCPU.
        8 => ctxt: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_getvcpuinfo`.
    pub struct GetVcpuInfo = "struct xen_domctl_getvcpuinfo", 24 {
        /// IN: the vCPU.
        0 => vcpu: u32,
        /// OUT: it is up.
        4 => online: u8,
        /// OUT: it waits for events.
        5 => blocked: u8,
        /// OUT: it runs.
        6 => running: u8,
        /// Padding.
        7 => pad: u8,
        /// OUT: nanoseconds it ran.
        8 => cpu_time: u64,
        /// OUT: the processor it runs or last ran on.
        16 => cpu: u32,
        /// Padding.
        20 => pad2: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_setnodeaffinity` and `XEN_DOMCTL_getnodeaffinity`.
    pub struct NodeAffinity = "struct xen_domctl_nodeaffinity", 16 {
        /// IN or OUT: nodes to take memory from.
        0 => nodemap: XenctlBitmap,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_setvcpuaffinity` and `XEN_DOMCTL_getvcpuaffinity`.
    pub struct VcpuAffinity = "struct xen_domctl_vcpuaffinity", 40 {
        /// IN: the vCPU.
        0 => vcpu: u32,
        /// IN: `XEN_VCPUAFFINITY_` bits.
        4 => flags: u32,
        /// IN/OUT: where it may run.
        8 => cpumap_hard: XenctlBitmap,
        /// IN/OUT: where it would rather run.
        24 => cpumap_soft: XenctlBitmap,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_max_vcpus`.
    pub struct MaxVcpus = "struct xen_domctl_max_vcpus", 4 {
        /// IN: vCPUs it has.
        0 => max: u32,
    }
}

crate::layout::wire! {
    /// Parameters of the credit schedulers.
    pub struct SchedCredit = "struct xen_domctl_sched_credit2", 4 {
        /// Share.
        0 => weight: u16,
        /// Limit in percent of a processor; 0 for none.
        2 => cap: u16,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_scheduler_op`.
    pub struct SchedulerOp = "struct xen_domctl_scheduler_op", 24 {
        /// IN: one of `XEN_SCHEDULER_`.
        0 => sched_id: u32,
        /// IN: one of `XEN_DOMCTL_SCHEDOP_`.
        4 => cmd: u32,
        /// IN/OUT: parameters of credit and credit2.
        8 => credit: SchedCredit as "u.credit2",
        /// IN/OUT: what other schedulers have here.
        12 => rest: [u8; 12],
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_setdomainhandle`.
    pub struct SetDomainHandle = "struct xen_domctl_setdomainhandle", 16 {
        /// IN: UUID.
        0 => handle: [u8; 16],
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_irq_permission`.
    pub struct IrqPermission = "struct xen_domctl_irq_permission", 8 {
        /// IN: the interrupt.
        0 => pirq: u32,
        /// IN: allow it or not.
        4 => allow_access: u8,
        /// Padding.
        5 => pad: [u8; 3],
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_iomem_permission`.
    pub struct IomemPermission = "struct xen_domctl_iomem_permission", 24 {
        /// IN: first machine frame.
        0 => first_mfn: u64,
        /// IN: frames.
        8 => nr_mfns: u64,
        /// IN: allow access or not.
        16 => allow_access: u8,
        /// Padding.
        17 => pad: [u8; 7],
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_settimeoffset`.
    pub struct SetTimeOffset = "struct xen_domctl_settimeoffset", 8 {
        /// IN: seconds to add to the wall clock.
        0 => time_offset_seconds: i64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_gethvmcontext` and `XEN_DOMCTL_sethvmcontext`.
    pub struct HvmContext = "struct xen_domctl_hvmcontext", 16 {
        /// IN/OUT: bytes.
        0 => size: u32,
        /// Padding.
        4 => pad: u32,
        /// IN or OUT: the saved context.
        8 => buffer: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_set_address_size` and `XEN_DOMCTL_get_address_size`.
    pub struct AddressSize = "struct xen_domctl_address_size", 4 {
        /// Bits: 32 or 64.
        0 => size: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_bind_pt_irq` and `XEN_DOMCTL_unbind_pt_irq`.
    pub struct BindPtIrq = "struct xen_domctl_bind_pt_irq", 24 {
        /// IN: the machine's interrupt.
        0 => machine_irq: u32,
        /// IN: must be [`PT_IRQ_TYPE_SPI`].
        4 => irq_type: u32,
        /// IN: the guest's interrupt.
        8 => spi: u16 as "u.spi.spi",
        /// What other kinds have here.
        10 => rest: [u8; 14],
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_memory_mapping`.
    pub struct MemoryMapping = "struct xen_domctl_memory_mapping", 32 {
        /// IN: first guest frame.
        0 => first_gfn: u64,
        /// IN: first machine frame.
        8 => first_mfn: u64,
        /// IN: frames.
        16 => nr_mfns: u64,
        /// IN: [`DPCI_ADD_MAPPING`] or [`DPCI_REMOVE_MAPPING`].
        24 => add_mapping: u32,
        /// Must be zero.
        28 => padding: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_set_target`.
    pub struct SetTarget = "struct xen_domctl_set_target", 2 {
        /// IN: the domain it may control.
        0 => target: u16,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_set_virq_handler`.
    pub struct SetVirqHandler = "struct xen_domctl_set_virq_handler", 4 {
        /// IN: the global virtual interrupt the domain is to get.
        0 => virq: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_cacheflush`.
    pub struct CacheFlush = "struct xen_domctl_cacheflush", 16 {
        /// IN: first guest frame.
        0 => start_pfn: u64,
        /// IN: frames.
        8 => nr_pfns: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_vuart_op`.
    pub struct VuartOp = "struct xen_domctl_vuart_op", 24 {
        /// IN: [`XEN_DOMCTL_VUART_OP_INIT`].
        0 => cmd: u32,
        /// IN: [`XEN_DOMCTL_VUART_TYPE_VPL011`].
        4 => kind: u32 as "type",
        /// IN: frame of its ring.
        8 => gfn: u64,
        /// IN: the domain that reads it.
        16 => console_domid: u16,
        /// Must be zero.
        18 => pad: [u8; 2],
        /// OUT: port of its channel.
        20 => evtchn: u32,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_get_paging_mempool_size` and `XEN_DOMCTL_set_paging_mempool_size`.
    pub struct PagingMempool = "struct xen_domctl_paging_mempool", 8 {
        /// IN or OUT: bytes.
        0 => size: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XEN_DOMCTL_set_llc_colors`.
    pub struct SetLlcColors = "struct xen_domctl_set_llc_colors", 16 {
        /// IN: colours.
        0 => num_llc_colors: u32,
        /// Must be zero.
        4 => pad: u32,
        /// IN: array of them.
        8 => llc_colors: u64,
    }
}
