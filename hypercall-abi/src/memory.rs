//! Memory operations (`public/memory.h`).

/// Bits of the command that name the operation; those above hold how far a preempted one has come.
pub const OPERATION_BITS: u32 = 6;

/// `XENMEM_increase_reservation`
pub const INCREASE_RESERVATION: u64 = 0;
/// `XENMEM_decrease_reservation`
pub const DECREASE_RESERVATION: u64 = 1;
/// `XENMEM_maximum_ram_page`
pub const MAXIMUM_RAM_PAGE: u64 = 2;
/// `XENMEM_current_reservation`
pub const CURRENT_RESERVATION: u64 = 3;
/// `XENMEM_maximum_reservation`
pub const MAXIMUM_RESERVATION: u64 = 4;
/// `XENMEM_populate_physmap`
pub const POPULATE_PHYSMAP: u64 = 6;
/// `XENMEM_add_to_physmap`
pub const ADD_TO_PHYSMAP: u64 = 7;
/// `XENMEM_memory_map`
pub const MEMORY_MAP: u64 = 9;
/// `XENMEM_machine_memory_map`
pub const MACHINE_MEMORY_MAP: u64 = 10;
/// `XENMEM_exchange`
pub const EXCHANGE: u64 = 11;
/// `XENMEM_set_memory_map`
pub const SET_MEMORY_MAP: u64 = 13;
/// `XENMEM_maximum_gpfn`
pub const MAXIMUM_GPFN: u64 = 14;
/// `XENMEM_remove_from_physmap`
pub const REMOVE_FROM_PHYSMAP: u64 = 15;
/// `XENMEM_set_pod_target`
pub const SET_POD_TARGET: u64 = 16;
/// `XENMEM_get_pod_target`
pub const GET_POD_TARGET: u64 = 17;
/// `XENMEM_get_sharing_freed_pages`
pub const GET_SHARING_FREED_PAGES: u64 = 18;
/// `XENMEM_get_sharing_shared_pages`
pub const GET_SHARING_SHARED_PAGES: u64 = 19;
/// `XENMEM_add_to_physmap_batch`
pub const ADD_TO_PHYSMAP_BATCH: u64 = 23;
/// `XENMEM_claim_pages`
pub const CLAIM_PAGES: u64 = 24;
/// `XENMEM_get_vnumainfo`
pub const GET_VNUMAINFO: u64 = 26;
/// `XENMEM_reserved_device_memory_map`
pub const RESERVED_DEVICE_MEMORY_MAP: u64 = 27;
/// `XENMEM_acquire_resource`
pub const ACQUIRE_RESOURCE: u64 = 28;

/// `XENMAPSPACE_shared_info`
pub const SPACE_SHARED_INFO: u16 = 0;
/// `XENMAPSPACE_grant_table`
pub const SPACE_GRANT_TABLE: u16 = 1;
/// `XENMAPSPACE_gmfn`
pub const SPACE_GMFN: u16 = 2;
/// `XENMAPSPACE_gmfn_range`
pub const SPACE_GMFN_RANGE: u16 = 3;
/// `XENMAPSPACE_gmfn_foreign`
pub const SPACE_GMFN_FOREIGN: u16 = 4;
/// `XENMAPSPACE_dev_mmio`
pub const SPACE_DEV_MMIO: u16 = 5;
/// `XENMAPIDX_grant_table_status`: the index names a frame of the status table, which version 1 lacks.
pub const GRANT_TABLE_STATUS: u64 = 0x8000_0000;

/// `XENMEMF_address_bits` of reservation flags: addresses must have no more bits; 0 for no limit.
pub const FLAGS_ADDRESS_BITS: u32 = 0xff;
/// `XENMEMF_populate_on_demand`
pub const FLAGS_POPULATE_ON_DEMAND: u32 = 1 << 16;
/// `XENMEMF_exact_node_request`
pub const FLAGS_EXACT_NODE: u32 = 1 << 17;
/// `XENMEMF_vnode`
pub const FLAGS_VNODE: u32 = 1 << 18;

/// `XENMEM_resource_ioreq_server`
pub const RESOURCE_IOREQ_SERVER: u16 = 0;
/// `XENMEM_resource_grant_table`
pub const RESOURCE_GRANT_TABLE: u16 = 1;
/// `XENMEM_resource_grant_table_id_shared`
pub const RESOURCE_GRANT_TABLE_SHARED: u32 = 0;
/// `XENMEM_resource_grant_table_id_status`
pub const RESOURCE_GRANT_TABLE_STATUS: u32 = 1;

crate::layout::wire! {
    /// Argument of populate_physmap, increase_reservation, decrease_reservation and claim_pages.
    pub struct MemoryReservation = "struct xen_memory_reservation", 32 {
        /// IN: handle of an array of guest frame numbers, the first of each extent.
        0 => extent_start: u64,
        /// IN: how many extents.
        8 => nr_extents: u64,
        /// IN: each has 2^`extent_order` frames.
        16 => extent_order: u32,
        /// IN: `FLAGS_*`.
        20 => mem_flags: u32,
        /// IN: whose memory.
        24 => domid: u16,
        /// Padding.
        26 => pad: [u16; 3],
    }
}

crate::layout::wire! {
    /// Argument of current_reservation, maximum_reservation and maximum_gpfn.
    pub struct MemoryDomain = "struct xen_memory_domain", 2 {
        /// IN: whose memory.
        0 => domid: u16,
    }
}

crate::layout::wire! {
    /// Argument of add_to_physmap.
    pub struct AddToPhysmap = "struct xen_add_to_physmap", 24 {
        /// IN: whose guest frame is to be mapped.
        0 => domid: u16,
        /// IN: number of pages, for `SPACE_GMFN_RANGE`.
        2 => size: u16,
        /// IN: `SPACE_*`.
        4 => space: u32,
        /// IN: what is to be mapped, in that space.
        8 => idx: u64,
        /// IN: the guest frame where it is to be mapped.
        16 => gpfn: u64,
    }
}

crate::layout::wire! {
    /// Argument of add_to_physmap_batch.
    pub struct AddToPhysmapBatch = "struct xen_add_to_physmap_batch", 32 {
        /// IN: whose guest frames are to be mapped.
        0 => domid: u16,
        /// IN: `SPACE_*`.
        2 => space: u16,
        /// IN: how many.
        4 => size: u16,
        /// IN: the source, for `SPACE_GMFN_FOREIGN`; otherwise 0.
        6 => foreign_domid: u16 as "u.foreign_domid",
        /// IN: handle of an array of u64, what is to be mapped.
        8 => idxs: u64,
        /// IN: handle of an array of u64, where.
        16 => gpfns: u64,
        /// OUT: handle of an array of i32, one outcome each.
        24 => errs: u64,
    }
}

crate::layout::wire! {
    /// Argument of remove_from_physmap.
    pub struct RemoveFromPhysmap = "struct xen_remove_from_physmap", 16 {
        /// IN: whose guest frame.
        0 => domid: u16,
        /// Padding.
        2 => pad: [u16; 3],
        /// IN: the guest frame that will be a hole.
        8 => gpfn: u64,
    }
}

crate::layout::wire! {
    /// Argument of set_pod_target and get_pod_target.
    pub struct PodTarget = "struct xen_pod_target", 40 {
        /// IN: the new target.
        0 => target_pages: u64,
        /// OUT: frames the domain owns.
        8 => tot_pages: u64,
        /// OUT: frames that wait to be populated.
        16 => pod_cache_pages: u64,
        /// OUT: guest frames that are not populated.
        24 => pod_entries: u64,
        /// IN: whose memory.
        32 => domid: u16,
        /// Padding.
        34 => pad: [u16; 3],
    }
}

crate::layout::wire! {
    /// Argument of acquire_resource.
    pub struct AcquireResource = "struct xen_mem_acquire_resource", 32 {
        /// IN: whose resource.
        0 => domid: u16,
        /// IN: `RESOURCE_*`.
        2 => kind: u16 as "type",
        /// IN: which of that kind.
        4 => id: u32,
        /// IN: how many frames; OUT: how many there are, if `frame_list` is null.
        8 => nr_frames: u32,
        /// Must be 0.
        12 => pad: u32,
        /// IN: the first frame of the resource.
        16 => frame: u64,
        /// IN: handle of an array of u64, the caller's guest frames where they are to be mapped.
        24 => frame_list: u64,
    }
}

crate::layout::wire! {
    /// Argument of get_vnumainfo.
    pub struct VnumaTopologyInfo = "struct xen_vnuma_topology_info", 40 {
        /// IN: the domain concerned.
        0 => domid: u16,
        /// Padding.
        2 => pad: u16,
        /// IN/OUT: room for, then number of nodes.
        4 => nr_vnodes: u32,
        /// IN/OUT: room for, then number of vCPUs.
        8 => nr_vcpus: u32,
        /// IN/OUT: room for, then number of memory ranges.
        12 => nr_vmemranges: u32,
        /// OUT: array of distances.
        16 => vdistance: u64 as "vdistance.pad",
        /// OUT: array of nodes, one for each vCPU.
        24 => vcpu_to_vnode: u64 as "vcpu_to_vnode.pad",
        /// OUT: array of memory ranges.
        32 => vmemrange: u64 as "vmemrange.pad",
    }
}
