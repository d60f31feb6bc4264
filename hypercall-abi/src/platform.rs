//! Platform operations of Dom0 (`public/platform.h`).

use zerocopy::FromBytes;

/// The version a request must carry.
pub const XENPF_INTERFACE_VERSION: u32 = 0x0300_0001;
/// `XENPF_settime32`.
pub const XENPF_SETTIME32: u32 = 17;
/// `XENPF_settime64`: see [`SetTime64`].
pub const XENPF_SETTIME64: u32 = 62;
/// `XENPF_get_cpuinfo`.
pub const XENPF_GET_CPUINFO: u32 = 55;
/// `XENPF_get_symbol`.
pub const XENPF_GET_SYMBOL: u32 = 63;

crate::layout::wire! {
    /// The envelope of every platform operation.
    pub struct PlatformOp = "struct xen_platform_op", 136 {
        /// One of `XENPF_`.
        0 => cmd: u32,
        /// Must be [`XENPF_INTERFACE_VERSION`].
        4 => interface_version: u32,
        /// The operation's own argument.
        8 => payload: [u8; 128] as "u",
    }
}

crate::layout::wire! {
    /// Argument of `XENPF_settime64`.
    pub struct SetTime64 = "struct xenpf_settime64", 24 {
        /// Seconds since 1970.
        0 => secs: u64,
        /// Nanoseconds.
        8 => nsecs: u32,
        /// Must be zero.
        12 => mbz: u32,
        /// System time at which that was the time, in nanoseconds.
        16 => system_time: u64,
    }
}

impl PlatformOp {
    /// Returns the operation's argument.
    pub fn payload<T: FromBytes>(&self) -> T {
        crate::layout::read_payload(&self.payload)
    }
}
