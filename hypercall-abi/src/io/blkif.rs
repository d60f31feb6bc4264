//! Block device requests (`public/io/blkif.h`).

/// Read.
pub const BLKIF_OP_READ: u8 = 0;
/// Write.
pub const BLKIF_OP_WRITE: u8 = 1;
/// Write after all before and before all after.
pub const BLKIF_OP_WRITE_BARRIER: u8 = 2;
/// Flush.
pub const BLKIF_OP_FLUSH_DISKCACHE: u8 = 3;
/// Discard.
pub const BLKIF_OP_DISCARD: u8 = 5;
/// The segments stand in granted pages.
pub const BLKIF_OP_INDIRECT: u8 = 6;
/// Segments a request can hold itself.
pub const BLKIF_MAX_SEGMENTS_PER_REQUEST: usize = 11;
/// Pages of segments a request can name.
pub const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;
/// Bit of a discard's `flag`: the data must be beyond recovery.
pub const BLKIF_DISCARD_SECURE: u8 = 1;
/// Segments in a page of them.
pub const BLKIF_SEGMENTS_PER_PAGE: usize = 512;
/// Operation not supported.
pub const BLKIF_RSP_EOPNOTSUPP: i16 = -2;
/// Operation failed.
pub const BLKIF_RSP_ERROR: i16 = -1;
/// Operation done.
pub const BLKIF_RSP_OKAY: i16 = 0;
/// Bit of the `info` node: a CD-ROM.
pub const VDISK_CDROM: u32 = 0x1;
/// Bit of the `info` node: removable.
pub const VDISK_REMOVABLE: u32 = 0x2;
/// Bit of the `info` node: read-only.
pub const VDISK_READONLY: u32 = 0x4;

crate::layout::wire! {
    /// A part of a page.
    pub struct BlkifRequestSegment = "struct blkif_request_segment", 8 {
        /// The granted page.
        0 => gref: u32,
        /// First 512-byte sector in it.
        4 => first_sect: u8,
        /// Last sector in it.
        5 => last_sect: u8,
        /// Padding.
        6 => pad: u16,
    }
}

crate::layout::wire! {
    /// A request.
    pub struct BlkifRequest = "struct blkif_request", 112 {
        /// One of `BLKIF_OP_`.
        0 => operation: u8,
        /// Segments.
        1 => nr_segments: u8,
        /// The device.
        2 => handle: u16,
        /// Padding.
        4 => pad: u32,
        /// Comes back in the response.
        8 => id: u64,
        /// First sector on the device.
        16 => sector_number: u64,
        /// Where the data is.
        24 => seg: [BlkifRequestSegment; BLKIF_MAX_SEGMENTS_PER_REQUEST],
    }
}

crate::layout::wire! {
    /// A request whose segments stand in granted pages.
    pub struct BlkifRequestIndirect = "struct blkif_request_indirect", 64 {
        /// `BLKIF_OP_INDIRECT`.
        0 => operation: u8,
        /// What is really asked: `BLKIF_OP_READ` or `BLKIF_OP_WRITE`.
        1 => indirect_op: u8,
        /// Segments.
        2 => nr_segments: u16,
        /// Padding.
        4 => pad: u32,
        /// Comes back in the response.
        8 => id: u64,
        /// First sector on the device.
        16 => sector_number: u64,
        /// The device.
        24 => handle: u16,
        /// Padding.
        26 => pad2: u16,
        /// The granted pages.
        28 => indirect_grefs: [u32; BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST],
        /// Padding.
        60 => pad3: u32,
    }
}

crate::layout::wire! {
    /// A request to forget sectors.
    pub struct BlkifRequestDiscard = "struct blkif_request_discard", 32 {
        /// `BLKIF_OP_DISCARD`.
        0 => operation: u8,
        /// `BLKIF_DISCARD_SECURE`, or 0.
        1 => flag: u8,
        /// The device.
        2 => handle: u16,
        /// Padding.
        4 => pad: u32,
        /// Comes back in the response.
        8 => id: u64,
        /// First sector.
        16 => sector_number: u64,
        /// Sectors.
        24 => nr_sectors: u64,
    }
}

crate::layout::wire! {
    /// A response.
    pub struct BlkifResponse = "struct blkif_response", 16 {
        /// The request's.
        0 => id: u64,
        /// The request's.
        8 => operation: u8,
        /// Padding.
        9 => pad: u8,
        /// One of `BLKIF_RSP_`.
        10 => status: i16,
        /// Padding.
        12 => pad2: u32,
    }
}
