//! The generic ring of requests and responses (`public/io/ring.h`).

/// Where the entries start in the shared page.
pub const ENTRIES_OFFSET: usize = 64;

crate::layout::wire! {
    /// What precedes the entries in the shared page.
    pub struct RingHeader = "struct blkif_sring", 64 {
        /// Requests produced by the front end.
        0 => req_prod: u32,
        /// The back end wants an event at this request.
        4 => req_event: u32,
        /// Responses produced by the back end.
        8 => rsp_prod: u32,
        /// The front end wants an event at this response.
        12 => rsp_event: u32,
        /// Private words and padding.
        16 => pad: [u8; 48],
    }
}

/// Returns how many entries of `entry` bytes a ring of `ring` bytes has: a power of two.
pub const fn entries(ring: usize, entry: usize) -> usize {
    let fit = ring.saturating_sub(ENTRIES_OFFSET) / entry;
    if fit == 0 { 0 } else { 1 << fit.ilog2() }
}
