//! Xenstore's messages and its shared page (`public/io/xs_wire.h`).

/// Control the daemon.
pub const XS_CONTROL: u32 = 0;
/// List a node's children.
pub const XS_DIRECTORY: u32 = 1;
/// Read a node.
pub const XS_READ: u32 = 2;
/// Read a node's permissions.
pub const XS_GET_PERMS: u32 = 3;
/// Be told of changes.
pub const XS_WATCH: u32 = 4;
/// Be told no longer.
pub const XS_UNWATCH: u32 = 5;
/// Begin a transaction.
pub const XS_TRANSACTION_START: u32 = 6;
/// End a transaction.
pub const XS_TRANSACTION_END: u32 = 7;
/// Introduce a domain.
pub const XS_INTRODUCE: u32 = 8;
/// Forget a domain.
pub const XS_RELEASE: u32 = 9;
/// Ask for a domain's home.
pub const XS_GET_DOMAIN_PATH: u32 = 10;
/// Write a node.
pub const XS_WRITE: u32 = 11;
/// Create a node.
pub const XS_MKDIR: u32 = 12;
/// Remove a node and all below it.
pub const XS_RM: u32 = 13;
/// Change a node's permissions.
pub const XS_SET_PERMS: u32 = 14;
/// A change was seen.
pub const XS_WATCH_EVENT: u32 = 15;
/// The answer is an error's name.
pub const XS_ERROR: u32 = 16;
/// Ask whether a domain was introduced.
pub const XS_IS_DOMAIN_INTRODUCED: u32 = 17;
/// A domain was resumed.
pub const XS_RESUME: u32 = 18;
/// Give a domain another's rights.
pub const XS_SET_TARGET: u32 = 19;
/// Drop all watches and transactions.
pub const XS_RESET_WATCHES: u32 = 21;
/// List a part of a node's children.
pub const XS_DIRECTORY_PART: u32 = 22;
/// One more than the last type.
pub const XS_TYPE_COUNT: u32 = 23;

/// Bytes of each ring.
pub const XENSTORE_RING_SIZE: usize = 1024;
/// Most bytes after a header.
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Most bytes of an absolute path.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Most bytes of a relative path.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;
/// The server understands `connection`.
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// The server fills in `error`.
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// `connection`: steady.
pub const XENSTORE_CONNECTED: u32 = 0;
/// `connection`: the guest asks for a fresh start.
pub const XENSTORE_RECONNECT: u32 = 1;

crate::layout::wire! {
    /// Header of every message.
    pub struct XsdSockmsg = "struct xsd_sockmsg", 16 {
        /// One of `XS_`.
        0 => kind: u32 as "type",
        /// Comes back in the answer.
        4 => req_id: u32,
        /// The transaction, or 0.
        8 => tx_id: u32,
        /// Bytes that follow.
        12 => len: u32,
    }
}

crate::layout::wire! {
    /// The page a guest shares with the daemon.
    pub struct XenstoreDomainInterface = "struct xenstore_domain_interface", 2076 {
        /// Bytes to the daemon.
        0 => req: [u8; XENSTORE_RING_SIZE],
        /// Bytes from the daemon.
        1024 => rsp: [u8; XENSTORE_RING_SIZE],
        /// Consumed by the daemon.
        2048 => req_cons: u32,
        /// Produced by the guest.
        2052 => req_prod: u32,
        /// Consumed by the guest.
        2056 => rsp_cons: u32,
        /// Produced by the daemon.
        2060 => rsp_prod: u32,
        /// `XENSTORE_SERVER_FEATURE_` bits.
        2064 => server_features: u32,
        /// State of the connection.
        2068 => connection: u32,
        /// What is wrong with it.
        2072 => error: u32,
    }
}
