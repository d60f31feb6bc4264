//! The page of a guest's console (`public/io/console.h`).

/// Bytes of the ring to the guest.
pub const XENCONS_IN_SIZE: usize = 1024;
/// Bytes of the ring from the guest.
pub const XENCONS_OUT_SIZE: usize = 2048;

crate::layout::wire! {
    /// The page a guest shares with the console daemon.
    pub struct XenconsInterface = "struct xencons_interface", 3088 {
        /// Bytes to the guest.
        0 => input: [u8; XENCONS_IN_SIZE] as "in",
        /// Bytes from the guest.
        1024 => output: [u8; XENCONS_OUT_SIZE] as "out",
        /// Consumed by the guest.
        3072 => in_cons: u32,
        /// Produced by the daemon.
        3076 => in_prod: u32,
        /// Consumed by the daemon.
        3080 => out_cons: u32,
        /// Produced by the guest.
        3084 => out_prod: u32,
    }
}
