//! Grant table operations (`public/grant_table.h`).

/// `GNTTABOP_map_grant_ref`: see [`GnttabMapGrantRef`].
pub const GNTTABOP_MAP_GRANT_REF: u32 = 0;
/// `GNTTABOP_unmap_grant_ref`: see [`GnttabUnmapGrantRef`].
pub const GNTTABOP_UNMAP_GRANT_REF: u32 = 1;
/// `GNTTABOP_setup_table`: see [`GnttabSetupTable`].
pub const GNTTABOP_SETUP_TABLE: u32 = 2;
/// `GNTTABOP_dump_table`.
pub const GNTTABOP_DUMP_TABLE: u32 = 3;
/// `GNTTABOP_transfer`.
pub const GNTTABOP_TRANSFER: u32 = 4;
/// `GNTTABOP_copy`: see [`GnttabCopy`].
pub const GNTTABOP_COPY: u32 = 5;
/// `GNTTABOP_query_size`: see [`GnttabQuerySize`].
pub const GNTTABOP_QUERY_SIZE: u32 = 6;
/// `GNTTABOP_unmap_and_replace`: see [`GnttabUnmapAndReplace`].
pub const GNTTABOP_UNMAP_AND_REPLACE: u32 = 7;
/// `GNTTABOP_set_version`: see [`GnttabSetVersion`].
pub const GNTTABOP_SET_VERSION: u32 = 8;
/// `GNTTABOP_get_status_frames`.
pub const GNTTABOP_GET_STATUS_FRAMES: u32 = 9;
/// `GNTTABOP_get_version`: see [`GnttabGetVersion`].
pub const GNTTABOP_GET_VERSION: u32 = 10;
/// `GNTTABOP_swap_grant_ref`: see [`GnttabSwapGrantRef`].
pub const GNTTABOP_SWAP_GRANT_REF: u32 = 11;
/// `GNTTABOP_cache_flush`: see [`GnttabCacheFlush`].
pub const GNTTABOP_CACHE_FLUSH: u32 = 12;
/// Bits of a command that name the operation; the rest hold a continuation's progress.
pub const GNTTABOP_CMD_MASK: u32 = 0xff;

/// Entries at the start of a table that tools use.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// Entry that grants the console page.
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// Entry that grants the xenstore page.
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;
/// Version 1 entries in a frame.
pub const GNTTAB_ENTRIES_PER_FRAME: u32 = 512;

/// Entry type: not in use.
pub const GTF_INVALID: u16 = 0;
/// Entry type: allow access to the frame.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// Entry type: accept a frame.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// Entry type: refers to a grant of another domain (version 2).
pub const GTF_TRANSITIVE: u16 = 3;
/// Bits of the entry's type.
pub const GTF_TYPE_MASK: u16 = 3;
/// Only reading is allowed.
pub const GTF_READONLY: u16 = 1 << 2;
/// Set by the hypervisor: mapped for reading.
pub const GTF_READING: u16 = 1 << 3;
/// Set by the hypervisor: mapped for writing.
pub const GTF_WRITING: u16 = 1 << 4;
/// Only a part of the page is granted (version 2).
pub const GTF_SUB_PAGE: u16 = 1 << 8;

/// Map for the use of devices.
pub const GNTMAP_DEVICE_MAP: u32 = 1 << 0;
/// Map for the use of processors.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// Map for reading only.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// Map for applications.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// The address is that of a page table entry.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;

/// The source of a copy is a grant.
pub const GNTCOPY_SOURCE_GREF: u16 = 1 << 0;
/// The destination of a copy is a grant.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

/// Clean the range.
pub const GNTTAB_CACHE_CLEAN: u32 = 1 << 0;
/// Invalidate the range.
pub const GNTTAB_CACHE_INVAL: u32 = 1 << 1;
/// The address is a grant reference.
pub const GNTTAB_CACHE_SOURCE_GREF: u32 = 1 << 31;

/// Normal return.
pub const GNTST_OKAY: i16 = 0;
/// Undefined error.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// Unrecognised domain.
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// Unrecognised or inappropriate reference.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// Unrecognised or inappropriate handle.
pub const GNTST_BAD_HANDLE: i16 = -4;
/// Inappropriate address to map at.
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// Inappropriate device address.
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// Out of space in the I/O MMU.
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// Not privileged enough.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// The page is invalid for the operation.
pub const GNTST_BAD_PAGE: i16 = -9;
/// A copy crosses a page boundary.
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// Page address too large for the domain.
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// Not done; try again.
pub const GNTST_EAGAIN: i16 = -12;
/// Out of space for handles.
pub const GNTST_NO_SPACE: i16 = -13;

/// A mapping's handle that names none.
pub const GRANT_HANDLE_INVALID: u32 = u32::MAX;

crate::layout::wire! {
    /// An entry of a version 1 table.
    pub struct GrantEntryV1 = "struct grant_entry_v1", 8 {
        /// Type and `GTF_` bits; changed by both sides.
        0 => flags: u16,
        /// The domain that is allowed access.
        2 => domid: u16,
        /// The granter's frame number.
        4 => frame: u32,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_map_grant_ref`.
    pub struct GnttabMapGrantRef = "struct gnttab_map_grant_ref", 32 {
        /// IN: address to map at.
        0 => host_addr: u64,
        /// IN: `GNTMAP_` bits.
        8 => flags: u32,
        /// IN: the grant.
        12 => reference: u32 as "ref",
        /// IN: the domain that granted it.
        16 => dom: u16,
        /// OUT: one of `GNTST_`.
        18 => status: i16,
        /// OUT: names the mapping.
        20 => handle: u32,
        /// OUT: the frame's address for devices.
        24 => dev_bus_addr: u64,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_unmap_grant_ref`.
    pub struct GnttabUnmapGrantRef = "struct gnttab_unmap_grant_ref", 24 {
        /// IN: the address it is mapped at.
        0 => host_addr: u64,
        /// IN: the device address to unmap, or 0.
        8 => dev_bus_addr: u64,
        /// IN: the mapping.
        16 => handle: u32,
        /// OUT: one of `GNTST_`.
        20 => status: i16,
        /// Padding.
        22 => pad: u16,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_unmap_and_replace`.
    pub struct GnttabUnmapAndReplace = "struct gnttab_unmap_and_replace", 24 {
        /// IN: the address it is mapped at.
        0 => host_addr: u64,
        /// IN: the address whose mapping takes its place.
        8 => new_addr: u64,
        /// IN: the mapping.
        16 => handle: u32,
        /// OUT: one of `GNTST_`.
        20 => status: i16,
        /// Padding.
        22 => pad: u16,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_setup_table`.
    pub struct GnttabSetupTable = "struct gnttab_setup_table", 24 {
        /// IN: the domain whose table it is.
        0 => dom: u16,
        /// Padding.
        2 => pad: u16,
        /// IN: frames wanted.
        4 => nr_frames: u32,
        /// OUT: one of `GNTST_`.
        8 => status: i16,
        /// Padding.
        10 => pad2: [u8; 6],
        /// OUT: array of frame numbers.
        16 => frame_list: u64,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_transfer`.
    pub struct GnttabTransfer = "struct gnttab_transfer", 24 {
        /// IN: the frame given away.
        0 => mfn: u64,
        /// IN: who gets it.
        8 => domid: u16,
        /// Padding.
        10 => pad: u16,
        /// IN: the entry that accepts it.
        12 => reference: u32 as "ref",
        /// OUT: one of `GNTST_`.
        16 => status: i16,
        /// Padding.
        18 => pad2: [u8; 6],
    }
}

crate::layout::wire! {
    /// One side of a copy.
    pub struct GnttabCopyPtr = "struct gnttab_copy_ptr", 16 {
        /// A grant reference (low half) or a frame number, as the copy's flags say.
        0 => frame_or_ref: u64 as "u.gmfn",
        /// The domain whose memory it is.
        8 => domid: u16,
        /// Offset in the page.
        10 => offset: u16,
        /// Padding.
        12 => pad: u32,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_copy`.
    pub struct GnttabCopy = "struct gnttab_copy", 40 {
        /// IN: where from.
        0 => source: GnttabCopyPtr,
        /// IN: where to.
        16 => dest: GnttabCopyPtr,
        /// IN: bytes.
        32 => len: u16,
        /// IN: `GNTCOPY_` bits.
        34 => flags: u16,
        /// OUT: one of `GNTST_`.
        36 => status: i16,
        /// Padding.
        38 => pad: u16,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_query_size`.
    pub struct GnttabQuerySize = "struct gnttab_query_size", 16 {
        /// IN: the domain whose table it is.
        0 => dom: u16,
        /// Padding.
        2 => pad: u16,
        /// OUT: frames it has.
        4 => nr_frames: u32,
        /// OUT: frames it can have.
        8 => max_nr_frames: u32,
        /// OUT: one of `GNTST_`.
        12 => status: i16,
        /// Padding.
        14 => pad2: u16,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_set_version`.
    pub struct GnttabSetVersion = "struct gnttab_set_version", 4 {
        /// IN: the version wanted; OUT: the version in use.
        0 => version: u32,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_get_version`.
    pub struct GnttabGetVersion = "struct gnttab_get_version", 8 {
        /// IN: the domain whose table it is.
        0 => dom: u16,
        /// Padding.
        2 => pad: u16,
        /// OUT: the version in use.
        4 => version: u32,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_swap_grant_ref`.
    pub struct GnttabSwapGrantRef = "struct gnttab_swap_grant_ref", 12 {
        /// IN: one entry.
        0 => ref_a: u32,
        /// IN: the other.
        4 => ref_b: u32,
        /// OUT: one of `GNTST_`.
        8 => status: i16,
        /// Padding.
        10 => pad: u16,
    }
}

crate::layout::wire! {
    /// Item of `GNTTABOP_cache_flush`.
    pub struct GnttabCacheFlush = "struct gnttab_cache_flush", 16 {
        /// IN: address for devices, or a grant reference (low half).
        0 => dev_bus_addr: u64 as "a.dev_bus_addr",
        /// IN: offset in the page.
        8 => offset: u16,
        /// IN: bytes.
        10 => length: u16,
        /// IN: `GNTTAB_CACHE_` bits.
        12 => op: u32,
    }
}
