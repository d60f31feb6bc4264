//! A network interface as a device of the TCP/IP stack smoltcp.
//!
//! Checksums of TCP and UDP are left to the other side where it can; those of frames nobody has checked are checked here. Long TCP segments
//! are sent and received whole, to be cut where a wire needs it.

mod stack;

pub use stack::Stack;

use super::{Checksum, Interface, MAX_FRAME, SegmentKind, Segments, checksum};
use crate::time;
use crate::xenbus::BusError;
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use smoltcp::phy::{Checksum as Who, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

/// An Ethernet frame of the usual greatest size.
const FRAME: usize = 1514;
/// How long to wait at least while there is no room for a frame.
const FULL: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(10);
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Returns the time as the stack wants it.
pub fn now() -> Instant {
    Instant::from_micros(i64::try_from(time::nanoseconds() / 1000).unwrap_or(i64::MAX))
}

/// The device.
pub struct Device {
    interface: Interface,
    frame: Vec<u8>,
    error: Option<BusError>,
}

impl Device {
    /// Makes an interface a device.
    pub fn new(interface: Interface) -> Self {
        Self { interface, frame: Vec::new(), error: None }
    }

    /// Returns the interface.
    pub fn interface(&mut self) -> &mut Interface {
        &mut self.interface
    }

    /// Returns what went wrong since it was last asked; the stack has no place for it.
    pub fn take_error(&mut self) -> Option<BusError> {
        self.error.take()
    }

    /// Waits until the stack should be polled: at `delay`, when a frame came, or when the back end moved.
    pub fn wait(&mut self, delay: Option<smoltcp::time::Duration>) {
        // Without room for a frame the stack has nothing to do before there is some.
        let can = self.interface.can_send();
        let full = self.note(can) == Some(false);
        let delay = delay.map(|delay| if full { delay.max(FULL) } else { delay });
        let ticks = |delay: smoltcp::time::Duration| time::microseconds(delay.total_micros());
        let deadline = delay.map_or(u64::MAX, |delay| time::now().saturating_add(ticks(delay)));
        self.interface.wait(deadline, || false);
    }

    fn note<R>(&mut self, result: Result<R, BusError>) -> Option<R> {
        result.map_err(|error| self.error = Some(error)).ok()
    }

    /// Sends what is in `self.frame`.
    fn send(&mut self, segment: Option<u16>) {
        let mut frame = core::mem::take(&mut self.frame);
        let is_v6 = frame.get(12..14) == Some(&IPV6);
        let kind = if is_v6 { SegmentKind::TcpV6 } else { SegmentKind::TcpV4 };
        let blank = if is_v6 && !self.interface.features().checksum_v6 {
            checksum::fill(&mut frame);
            false
        } else {
            checksum::prepare(&mut frame)
        };
        let offload = super::Offload {
            checksum: if blank { Checksum::Blank } else { Checksum::Present },
            segments: segment.map(|size| Segments { size, kind }),
        };
        // A frame without room is lost, as on a wire.
        let sent = self.interface.send(&frame, offload);
        self.note(sent);
        self.frame = frame;
    }
}

impl smoltcp::phy::Device for Device {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        loop {
            let mut frame = Vec::new();
            let received = self.interface.receive(&mut frame);
            let offload = self.note(received)??;
            if offload.checksum == Checksum::Present && !checksum::is_right(&frame) {
                self.interface.count_in_vain();
                continue;
            }
            return Some((Received(frame), Sending { device: self, segment: None }));
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        let can = self.interface.can_send();
        self.note(can)?.then_some(Sending { device: self, segment: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.checksum.tcp = Who::None;
        capabilities.checksum.udp = Who::None;
        if self.interface.segments_v4() {
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(MAX_FRAME);
        }
        capabilities
    }
}

/// A frame that came.
pub struct Received(Vec<u8>);

impl smoltcp::phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(&self.0)
    }
}

/// A frame to be sent.
pub struct Sending<'a> {
    device: &'a mut Device,
    segment: Option<u16>,
}

impl smoltcp::phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, work: F) -> R {
        self.device.frame.clear();
        self.device.frame.resize(len, 0);
        let result = work(&mut self.device.frame);
        self.device.send(self.segment);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size.map(core::num::NonZeroU16::get);
    }
}
