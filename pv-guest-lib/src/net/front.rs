//! A front end's driver: queues made, told of, used and taken back as the bus says.

use super::receive::Receive;
use super::transmit::Transmit;
use super::{Buffer, Mac, NetError};
use crate::event::Channel;
use crate::grant::{Access, Granted};
use crate::hypercall::HypercallError;
use crate::xenbus::front::FrontDriver;
use crate::xenbus::{BusError, Device};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The most queues a device has.
const MAX_QUEUES: usize = 8;

/// How much a device gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// Queues, if the back end has as many: each is two rings and an event channel.
    pub queues: usize,
    /// Pages to send from, for each queue; a frame of the greatest size needs 16.
    pub transmit_buffers: usize,
    /// Pages to receive into, for each queue; 256 can be offered at a time.
    pub receive_buffers: usize,
}

impl Default for NetConfig {
    /// One queue with 1.5 MiB of buffers.
    fn default() -> Self {
        Self { queues: 1, transmit_buffers: 128, receive_buffers: 256 }
    }
}

/// What the back end can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Frames of several parts, and so longer than a page.
    pub scatter_gather: bool,
    /// Frames to be cut as TCP over IPv4.
    pub segment_v4: bool,
    /// Frames to be cut as TCP over IPv6.
    pub segment_v6: bool,
    /// Blank checksums of IPv6 packets; of IPv4 packets it always can.
    pub checksum_v6: bool,
}

/// One queue of a connected device.
pub(super) struct Queue {
    pub(super) transmit: Transmit,
    pub(super) receive: Receive,
    pub(super) channel: Channel,
    transmit_ring: Granted,
    receive_ring: Granted,
    _buffers: [Granted; 2],
}

fn buffers(granted: &Granted) -> Vec<Buffer> {
    let pairs = granted.references().iter().zip(granted.pages().iter());
    pairs.map(|(reference, page)| Buffer { reference: *reference, page }).collect()
}

impl Queue {
    fn new(peer: u16, config: &NetConfig) -> Result<Self, BusError> {
        let transmit_ring = Granted::new(peer, 1, Access::ReadWrite)?;
        let receive_ring = Granted::new(peer, 1, Access::ReadWrite)?;
        let to_send = Granted::new(peer, config.transmit_buffers, Access::Read)?;
        let to_fill = Granted::new(peer, config.receive_buffers, Access::ReadWrite)?;
        Ok(Self {
            transmit: Transmit::new(transmit_ring.pages(), buffers(&to_send)),
            receive: Receive::new(receive_ring.pages(), buffers(&to_fill)),
            channel: Channel::unbound(peer)?,
            transmit_ring,
            receive_ring,
            _buffers: [to_send, to_fill],
        })
    }

    /// Returns what the back end must know, for keys below `prefix`.
    fn keys(&self, prefix: &str) -> [(String, String); 3] {
        let key = |name, value: u32| (format!("{prefix}{name}"), value.to_string());
        [
            key("tx-ring-ref", self.transmit_ring.reference(0)),
            key("rx-ring-ref", self.receive_ring.reference(0)),
            key("event-channel", self.channel.port()),
        ]
    }

    /// Offers buffers that were emptied.
    pub(super) fn refill(&mut self) -> Result<(), HypercallError> {
        if self.receive.publish() { self.channel.notify() } else { Ok(()) }
    }
}

impl From<NetError> for BusError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Ring(error) => Self::Ring(error),
            NetError::Lied(what) => Self::Lied(what),
        }
    }
}

/// The driver of a network front end.
pub struct NetFront {
    config: NetConfig,
    pub(super) queues: Vec<Queue>,
    features: Features,
    mac: Mac,
}

impl NetFront {
    /// Makes a driver that will ask for so much.
    pub fn new(config: NetConfig) -> Self {
        Self { config, queues: Vec::new(), features: Features::default(), mac: Mac([0; 6]) }
    }

    /// Returns what the back end can do; it is known once the device is connected.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Returns the device's address; it is known once the device is connected.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Returns how many queues there are; none, if the device is not connected.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }
}

impl FrontDriver for NetFront {
    const EARLY: bool = true;

    fn publish(&mut self, device: &Device) -> Result<(), BusError> {
        if !device.other_has("feature-rx-copy")? {
            return Err(BusError::Unsupported("the back end cannot copy what is received"));
        }
        let scatter_gather = device.other_has("feature-sg")?;
        self.features = Features {
            scatter_gather,
            segment_v4: scatter_gather && device.other_has("feature-gso-tcpv4")?,
            segment_v6: scatter_gather && device.other_has("feature-gso-tcpv6")?,
            checksum_v6: device.other_has("feature-ipv6-csum-offload")?,
        };
        let most = device.other_or("multi-queue-max-queues", 1usize)?.min(MAX_QUEUES);
        let count = self.config.queues.min(most).max(1);
        self.queues.clear();
        for _ in 0..count {
            self.queues.push(Queue::new(device.peer(), &self.config)?);
        }
        let mut keys: Vec<(String, String)> = Vec::new();
        if most > 1 {
            keys.push((String::from("multi-queue-num-queues"), count.to_string()));
        }
        for (number, queue) in self.queues.iter().enumerate() {
            let prefix = if count > 1 { format!("queue-{number}/") } else { String::new() };
            keys.extend(queue.keys(&prefix));
        }
        let wishes = [
            "request-rx-copy",
            "feature-rx-notify",
            "feature-sg",
            "feature-gso-tcpv4",
            "feature-gso-tcpv6",
            "feature-ipv6-csum-offload",
        ];
        keys.extend(wishes.map(|wish| (String::from(wish), String::from("1"))));
        let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        Ok(device.write(&keys)?)
    }

    fn connect(&mut self, device: &Device) -> Result<(), BusError> {
        let mac = device.read("mac")?;
        self.mac =
            mac.trim().parse().map_err(|_| BusError::Unsupported("the device has no address"))?;
        for queue in &mut self.queues {
            queue.refill()?;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.queues.clear();
    }
}
