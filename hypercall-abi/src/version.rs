//! Questions about the hypervisor itself (`public/version.h`).

/// Returns major number << 16 | minor number.
pub const XENVER_VERSION: u32 = 0;
/// See [`EXTRAVERSION_LEN`].
pub const XENVER_EXTRAVERSION: u32 = 1;
/// See [`CompileInfo`].
pub const XENVER_COMPILE_INFO: u32 = 2;
/// See [`CAPABILITIES_INFO_LEN`].
pub const XENVER_CAPABILITIES: u32 = 3;
/// See [`CHANGESET_INFO_LEN`].
pub const XENVER_CHANGESET: u32 = 4;
/// See [`PlatformParameters`].
pub const XENVER_PLATFORM_PARAMETERS: u32 = 5;
/// See [`FeatureInfo`].
pub const XENVER_GET_FEATURES: u32 = 6;
/// Returns the page size.
pub const XENVER_PAGESIZE: u32 = 7;
/// Gives the caller's 16-byte handle.
pub const XENVER_GUEST_HANDLE: u32 = 8;
/// See [`COMMANDLINE_LEN`].
pub const XENVER_COMMANDLINE: u32 = 9;
/// See [`VarbufHeader`].
pub const XENVER_BUILD_ID: u32 = 10;
/// As 1, of any length; see [`VarbufHeader`].
pub const XENVER_EXTRAVERSION2: u32 = 11;
/// As 3, of any length; see [`VarbufHeader`].
pub const XENVER_CAPABILITIES2: u32 = 12;
/// As 4, of any length; see [`VarbufHeader`].
pub const XENVER_CHANGESET2: u32 = 13;
/// As 9, of any length; see [`VarbufHeader`].
pub const XENVER_COMMANDLINE2: u32 = 14;

/// Bytes of the buffer for `XENVER_extraversion`.
pub const EXTRAVERSION_LEN: usize = 16;
/// Bytes of the buffer for `XENVER_capabilities`.
pub const CAPABILITIES_INFO_LEN: usize = 1024;
/// Bytes of the buffer for `XENVER_changeset`.
pub const CHANGESET_INFO_LEN: usize = 64;
/// Bytes of the buffer for `XENVER_commandline`.
pub const COMMANDLINE_LEN: usize = 1024;

crate::layout::wire! {
    /// Who built it, with what and when; each a C string.
    pub struct CompileInfo = "struct xen_compile_info", 144 {
        /// The compiler.
        0 => compiler: [u8; 64],
        /// The user.
        64 => compile_by: [u8; 16],
        /// The host's domain.
        80 => compile_domain: [u8; 32],
        /// The date.
        112 => compile_date: [u8; 32],
    }
}

crate::layout::wire! {
    /// Argument of `XENVER_platform_parameters`.
    pub struct PlatformParameters = "struct xen_platform_parameters", 8 {
        /// OUT: start of the hypervisor's part of the address space; 0 on Arm.
        0 => virt_start: u64,
    }
}

crate::layout::wire! {
    /// Argument of `XENVER_get_features`.
    pub struct FeatureInfo = "struct xen_feature_info", 8 {
        /// IN: which word of features.
        0 => submap_idx: u32,
        /// OUT: its bits, see [`crate::features`].
        4 => submap: u32,
    }
}

crate::layout::wire! {
    /// What precedes the bytes of the answers of any length.
    pub struct VarbufHeader = "struct xen_varbuf", 4 {
        /// IN: room for so many bytes; OUT, as result: bytes there are.
        0 => len: u32,
    }
}
