//! Network interfaces, both halves (`public/io/netif.h`).
//!
//! [`transmit`] and [`receive`] are a front end's two rings, [`back`] a back end's. They decide what a slot means and refuse what no honest other
//! side puts there; they touch nothing but shared pages, so they run on the host too. `NetFront` and `NetBack` join them with the bus,
//! `Interface` is what a program uses, and `net::smoltcp` (feature `smoltcp`) makes it a device of that TCP/IP stack.
//!
//! Frames are copied between the guest's own memory and pages that are granted for as long as the device is connected: nothing is granted
//! or taken back for a single frame, and nothing the other side may change is ever looked at twice.

pub mod back;
#[cfg(target_os = "none")]
mod backend;
pub mod checksum;
#[cfg(target_os = "none")]
mod front;
#[cfg(target_os = "none")]
mod interface;
mod mac;
pub mod receive;
#[cfg(all(target_os = "none", feature = "smoltcp"))]
pub mod smoltcp;
pub mod transmit;

#[cfg(target_os = "none")]
pub use backend::NetBack;
#[cfg(target_os = "none")]
pub use front::{Features, NetConfig, NetFront};
#[cfg(target_os = "none")]
pub use interface::{Interface, Statistics};
pub use mac::{Mac, NoMac};

use crate::page::SharedPage;
use crate::ring::RingError;
use hypercall_abi::io::netif::{
    NetifExtraInfo, XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6,
};
use zerocopy::{FromBytes, IntoBytes};

/// The longest frame: its length travels in 16 bits.
pub const MAX_FRAME: usize = 65_535;
/// The shortest: an Ethernet header.
pub const MIN_FRAME: usize = 14;
/// Slots a frame may take, extra information not counted.
pub const MAX_SLOTS: usize = hypercall_abi::io::netif::XEN_NETIF_NR_SLOTS_MIN;
/// Slots of extra information a frame may have.
const MAX_EXTRAS: usize = 4;

/// A slot of the ring of frames to send: a request or extra information.
pub type TransmitSlot = [u8; 12];
/// A slot of the ring of received frames: a response or extra information.
pub type ReceiveSlot = [u8; 8];

/// Why a ring of frames is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// The other side's indices make no sense.
    Ring(RingError),
    /// The other side put something in a slot that no honest one does; it says what.
    Lied(&'static str),
}

impl From<RingError> for NetError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

/// A page that the other side may use by an entry of the grant table.
#[derive(Clone, Copy)]
pub struct Buffer {
    /// The entry.
    pub reference: u32,
    /// The page.
    pub page: SharedPage,
}

/// What is known of a frame's TCP or UDP checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It is in the frame, and nobody has checked it.
    #[default]
    Present,
    /// Somebody has checked it.
    Validated,
    /// It has only the sum of the pseudo header: the frame never was on a wire. It is to be filled in, and needs no check.
    Blank,
}

/// How a long frame is to be cut into frames that fit a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Bytes of TCP payload in each.
    pub size: u16,
    /// Which protocol's headers they get.
    pub kind: SegmentKind,
}

/// The protocols that can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

/// What goes with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Its checksum.
    pub checksum: Checksum,
    /// How it is to be cut, if it must be.
    pub segments: Option<Segments>,
}

impl Segments {
    /// Returns the extra information that says so.
    fn extra(self) -> NetifExtraInfo {
        NetifExtraInfo {
            kind: XEN_NETIF_EXTRA_TYPE_GSO,
            gso_size: self.size,
            gso_type: match self.kind {
                SegmentKind::TcpV4 => XEN_NETIF_GSO_TYPE_TCPV4,
                SegmentKind::TcpV6 => XEN_NETIF_GSO_TYPE_TCPV6,
            },
            ..Default::default()
        }
    }

    /// Reads extra information of that type.
    fn parse(extra: &NetifExtraInfo) -> Result<Self, NetError> {
        let kind = match extra.gso_type {
            XEN_NETIF_GSO_TYPE_TCPV4 => SegmentKind::TcpV4,
            XEN_NETIF_GSO_TYPE_TCPV6 => SegmentKind::TcpV6,
            _ => return Err(NetError::Lied("a frame is to be cut in an unknown way")),
        };
        if extra.gso_size == 0 {
            return Err(NetError::Lied("a frame is to be cut into nothing"));
        }
        Ok(Self { size: extra.gso_size, kind })
    }
}

/// Puts a structure into a slot that may be longer.
fn slot<T: IntoBytes + zerocopy::Immutable, const N: usize>(value: &T) -> [u8; N] {
    let mut slot = [0; N];
    for (to, from) in slot.iter_mut().zip(value.as_bytes()) {
        *to = *from;
    }
    slot
}

/// Reads a structure from the start of a slot.
fn from_slot<T: FromBytes, const N: usize>(slot: &[u8; N]) -> T {
    const { assert!(size_of::<T>() <= N, "a slot has room for each of its kinds") };
    T::read_from_prefix(slot).expect("a slot has room for each of its kinds").0
}

#[cfg(test)]
mod tests;
