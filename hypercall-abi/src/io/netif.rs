//! Network packets (`public/io/netif.h`).

/// Transmit: the checksum is to be filled in.
pub const NETTXF_CSUM_BLANK: u16 = 1 << 0;
/// Transmit: the data is known to be good.
pub const NETTXF_DATA_VALIDATED: u16 = 1 << 1;
/// Transmit: the packet goes on in the next request.
pub const NETTXF_MORE_DATA: u16 = 1 << 2;
/// Transmit: extra information follows.
pub const NETTXF_EXTRA_INFO: u16 = 1 << 3;
/// Receive: the data is known to be good.
pub const NETRXF_DATA_VALIDATED: u16 = 1 << 0;
/// Receive: the checksum is to be filled in.
pub const NETRXF_CSUM_BLANK: u16 = 1 << 1;
/// Receive: the packet goes on in the next response.
pub const NETRXF_MORE_DATA: u16 = 1 << 2;
/// Receive: extra information follows.
pub const NETRXF_EXTRA_INFO: u16 = 1 << 3;
/// The packet was dropped.
pub const NETIF_RSP_DROPPED: i16 = -2;
/// The packet was bad.
pub const NETIF_RSP_ERROR: i16 = -1;
/// Done.
pub const NETIF_RSP_OKAY: i16 = 0;
/// No response to this slot.
pub const NETIF_RSP_NULL: i16 = 1;

/// Slots that a packet to send may take at any back end, its extra information not counted.
pub const XEN_NETIF_NR_SLOTS_MIN: usize = 18;
/// Extra information: large packets are to be cut.
pub const XEN_NETIF_EXTRA_TYPE_GSO: u8 = 1;
/// Extra information: a multicast address is wanted.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_ADD: u8 = 2;
/// Extra information: a multicast address is no longer wanted.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_DEL: u8 = 3;
/// Extra information: the packet's hash.
pub const XEN_NETIF_EXTRA_TYPE_HASH: u8 = 4;
/// More extra information follows.
pub const XEN_NETIF_EXTRA_FLAG_MORE: u8 = 1 << 0;
/// To be cut as TCP over IPv4.
pub const XEN_NETIF_GSO_TYPE_TCPV4: u8 = 1;
/// To be cut as TCP over IPv6.
pub const XEN_NETIF_GSO_TYPE_TCPV6: u8 = 2;

crate::layout::wire! {
    /// Extra information about a packet, in a slot of its own behind the packet's first.
    pub struct NetifExtraInfo = "struct netif_extra_info", 8 {
        /// One of `XEN_NETIF_EXTRA_TYPE_`.
        0 => kind: u8 as "type",
        /// `XEN_NETIF_EXTRA_FLAG_MORE` or nothing.
        1 => flags: u8,
        /// Payload of each packet it is cut into, in bytes.
        2 => gso_size: u16 as "u.gso.size",
        /// One of `XEN_NETIF_GSO_TYPE_`.
        4 => gso_type: u8 as "u.gso.type",
        /// Padding.
        5 => gso_pad: u8 as "u.gso.pad",
        /// None are defined.
        6 => gso_features: u16 as "u.gso.features",
    }
}

crate::layout::wire! {
    /// A packet, or part of one, to send.
    pub struct NetifTxRequest = "struct netif_tx_request", 12 {
        /// The granted page.
        0 => gref: u32,
        /// Offset in it.
        4 => offset: u16,
        /// `NETTXF_` bits.
        6 => flags: u16,
        /// Comes back in the response.
        8 => id: u16,
        /// Bytes of the whole packet in its first request.
        10 => size: u16,
    }
}

crate::layout::wire! {
    /// What became of it.
    pub struct NetifTxResponse = "struct netif_tx_response", 4 {
        /// The request's.
        0 => id: u16,
        /// One of `NETIF_RSP_`.
        2 => status: i16,
    }
}

crate::layout::wire! {
    /// A page to receive into.
    pub struct NetifRxRequest = "struct netif_rx_request", 8 {
        /// Comes back in the response.
        0 => id: u16,
        /// Padding.
        2 => pad: u16,
        /// The granted page.
        4 => gref: u32,
    }
}

crate::layout::wire! {
    /// A packet, or part of one, received.
    pub struct NetifRxResponse = "struct netif_rx_response", 8 {
        /// The request's.
        0 => id: u16,
        /// Offset in the page.
        2 => offset: u16,
        /// `NETRXF_` bits.
        4 => flags: u16,
        /// Bytes, or one of `NETIF_RSP_`.
        6 => status: i16,
    }
}
