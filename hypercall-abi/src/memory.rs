//! Memory operations (`public/memory.h`).

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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

/// Argument of populate_physmap, increase_reservation, decrease_reservation and claim_pages.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct MemoryReservation {
    /// IN: handle of an array of guest frame numbers, the first of each extent.
    pub extent_start: u64,
    /// IN: how many extents.
    pub nr_extents: u64,
    /// IN: each has 2^`extent_order` frames.
    pub extent_order: u32,
    /// IN: `FLAGS_*`.
    pub mem_flags: u32,
    /// IN: whose memory.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
}

const _: () = assert!(size_of::<MemoryReservation>() == 32);
const _: () = assert!(offset_of!(MemoryReservation, extent_start) == 0);
const _: () = assert!(offset_of!(MemoryReservation, nr_extents) == 8);
const _: () = assert!(offset_of!(MemoryReservation, extent_order) == 16);
const _: () = assert!(offset_of!(MemoryReservation, mem_flags) == 20);
const _: () = assert!(offset_of!(MemoryReservation, domid) == 24);

/// Argument of current_reservation, maximum_reservation and maximum_gpfn.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct MemoryDomain {
    /// IN: whose memory.
    pub domid: u16,
}

const _: () = assert!(size_of::<MemoryDomain>() == 2);
const _: () = assert!(offset_of!(MemoryDomain, domid) == 0);

/// Argument of add_to_physmap.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct AddToPhysmap {
    /// IN: whose guest frame is to be mapped.
    pub domid: u16,
    /// IN: number of pages, for `SPACE_GMFN_RANGE`.
    pub size: u16,
    /// IN: `SPACE_*`.
    pub space: u32,
    /// IN: what is to be mapped, in that space.
    pub idx: u64,
    /// IN: the guest frame where it is to be mapped.
    pub gpfn: u64,
}

const _: () = assert!(size_of::<AddToPhysmap>() == 24);
const _: () = assert!(offset_of!(AddToPhysmap, domid) == 0);
const _: () = assert!(offset_of!(AddToPhysmap, size) == 2);
const _: () = assert!(offset_of!(AddToPhysmap, space) == 4);
const _: () = assert!(offset_of!(AddToPhysmap, idx) == 8);
const _: () = assert!(offset_of!(AddToPhysmap, gpfn) == 16);

/// Argument of add_to_physmap_batch.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct AddToPhysmapBatch {
    /// IN: whose guest frames are to be mapped.
    pub domid: u16,
    /// IN: `SPACE_*`.
    pub space: u16,
    /// IN: how many.
    pub size: u16,
    /// IN: the source, for `SPACE_GMFN_FOREIGN`; otherwise 0.
    pub foreign_domid: u16,
    /// IN: handle of an array of u64, what is to be mapped.
    pub idxs: u64,
    /// IN: handle of an array of u64, where.
    pub gpfns: u64,
    /// OUT: handle of an array of i32, one outcome each.
    pub errs: u64,
}

const _: () = assert!(size_of::<AddToPhysmapBatch>() == 32);
const _: () = assert!(offset_of!(AddToPhysmapBatch, domid) == 0);
const _: () = assert!(offset_of!(AddToPhysmapBatch, space) == 2);
const _: () = assert!(offset_of!(AddToPhysmapBatch, size) == 4);
const _: () = assert!(offset_of!(AddToPhysmapBatch, foreign_domid) == 6);
const _: () = assert!(offset_of!(AddToPhysmapBatch, idxs) == 8);
const _: () = assert!(offset_of!(AddToPhysmapBatch, gpfns) == 16);
const _: () = assert!(offset_of!(AddToPhysmapBatch, errs) == 24);

/// Argument of remove_from_physmap.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// IN: whose guest frame.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// IN: the guest frame that will be a hole.
    pub gpfn: u64,
}

const _: () = assert!(size_of::<RemoveFromPhysmap>() == 16);
const _: () = assert!(offset_of!(RemoveFromPhysmap, domid) == 0);
const _: () = assert!(offset_of!(RemoveFromPhysmap, gpfn) == 8);

/// Argument of set_pod_target and get_pod_target.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct PodTarget {
    /// IN: the new target.
    pub target_pages: u64,
    /// OUT: frames the domain owns.
    pub tot_pages: u64,
    /// OUT: frames that wait to be populated.
    pub pod_cache_pages: u64,
    /// OUT: guest frames that are not populated.
    pub pod_entries: u64,
    /// IN: whose memory.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
}

const _: () = assert!(size_of::<PodTarget>() == 40);
const _: () = assert!(offset_of!(PodTarget, target_pages) == 0);
const _: () = assert!(offset_of!(PodTarget, tot_pages) == 8);
const _: () = assert!(offset_of!(PodTarget, pod_cache_pages) == 16);
const _: () = assert!(offset_of!(PodTarget, pod_entries) == 24);
const _: () = assert!(offset_of!(PodTarget, domid) == 32);

/// Argument of acquire_resource.
#[derive(
    Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq,
)]
#[repr(C)]
pub struct AcquireResource {
    /// IN: whose resource.
    pub domid: u16,
    /// IN: `RESOURCE_*`.
    pub kind: u16,
    /// IN: which of that kind.
    pub id: u32,
    /// IN: how many frames; OUT: how many there are, if `frame_list` is null.
    pub nr_frames: u32,
    /// Must be 0.
    pub pad: u32,
    /// IN: the first frame of the resource.
    pub frame: u64,
    /// IN: handle of an array of u64, the caller's guest frames where they are to be mapped.
    pub frame_list: u64,
}

const _: () = assert!(size_of::<AcquireResource>() == 32);
const _: () = assert!(offset_of!(AcquireResource, domid) == 0);
const _: () = assert!(offset_of!(AcquireResource, kind) == 2);
const _: () = assert!(offset_of!(AcquireResource, id) == 4);
const _: () = assert!(offset_of!(AcquireResource, nr_frames) == 8);
const _: () = assert!(offset_of!(AcquireResource, frame) == 16);
const _: () = assert!(offset_of!(AcquireResource, frame_list) == 24);
