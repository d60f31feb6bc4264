//! The hypervisor's file system (`public/hypfs.h`): what it says of itself, and settings that can be changed.

/// The one version of the interface.
pub const XEN_HYPFS_VERSION: u64 = 1;
/// Bytes of a path, its final zero included.
pub const XEN_HYPFS_MAX_PATHLEN: u64 = 1024;
/// Which version of the interface there is.
pub const XEN_HYPFS_OP_GET_VERSION: u32 = 0;
/// Read an entry.
pub const XEN_HYPFS_OP_READ: u32 = 1;
/// Replace what an entry holds.
pub const XEN_HYPFS_OP_WRITE_CONTENTS: u32 = 2;
/// [`Direntry`]: a directory.
pub const XEN_HYPFS_TYPE_DIR: u8 = 0;
/// [`Direntry`]: text with a final zero.
pub const XEN_HYPFS_TYPE_STRING: u8 = 2;
/// [`Direntry`]: an unsigned number.
pub const XEN_HYPFS_TYPE_UINT: u8 = 3;
/// [`Direntry`]: what is held is not compressed.
pub const XEN_HYPFS_ENC_PLAIN: u8 = 0;
/// Where the name stands in `struct xen_hypfs_dirlistentry`, after a [`Direntry`] and the 16-bit distance to the
/// next entry (0 in the last).
pub const XEN_HYPFS_NAME_OFFSET: usize = 14;

crate::layout::wire! {
    /// Describes an entry.
    pub struct Direntry = "struct xen_hypfs_direntry", 12 {
        /// One of `XEN_HYPFS_TYPE_`.
        0 => entry_type: u8 as "type",
        /// How what it holds is encoded.
        1 => encoding: u8,
        /// Zero.
        2 => pad: u16,
        /// Bytes it holds.
        4 => content_len: u32,
        /// Bytes that may be written; 0 for what cannot be written.
        8 => max_write_len: u32,
    }
}
