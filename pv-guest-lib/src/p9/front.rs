//! A shared folder's front end: one ring of bytes each way, one request at a time.

use super::client::{Client, P9Error, Transport};
use super::message::HEADER;
use crate::byte_ring::{Layout, Reader, Writer};
use crate::event::Channel;
use crate::grant::{Access, Granted};
use crate::page::PAGE_SIZE;
use crate::time;
use crate::wait;
use crate::xenbus::front::{Front, FrontDriver};
use crate::xenbus::{BusError, Device};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

// The page with the indices and the entries of the other pages (`struct xen_9pfs_data_intf`).
const IN_CONSUMER: usize = 0;
const IN_PRODUCER: usize = 4;
const OUT_CONSUMER: usize = 64;
const OUT_PRODUCER: usize = 68;
const ORDER: usize = 128;
const REFERENCES: usize = 132;
/// Pages for both rings, as a power of two, if the back end takes as many.
const WANTED_ORDER: u32 = 4;
/// How long the back end may take, in milliseconds.
const LIMIT: u64 = 20_000;

/// Rings that a connected device has.
struct Rings {
    requests: Writer,
    answers: Reader,
    channel: Channel,
    _indices: Granted,
    _data: Granted,
}

/// The driver.
#[derive(Default)]
struct P9Front {
    rings: Option<Rings>,
    tag: String,
    /// Bytes of each ring.
    size: u32,
}

impl FrontDriver for P9Front {
    fn publish(&mut self, device: &Device) -> Result<(), BusError> {
        let versions: String = device.other("versions")?;
        if !versions.split(',').any(|version| version.trim() == "1") {
            return Err(BusError::Unsupported("the back end speaks another version"));
        }
        let order = device.other_or("max-ring-page-order", 1u32)?.min(WANTED_ORDER);
        if order == 0 {
            return Err(BusError::Unsupported("the back end takes too small a ring"));
        }
        let indices = Granted::new(device.peer(), 1, Access::ReadWrite)?;
        let data = Granted::new(device.peer(), 1 << order, Access::ReadWrite)?;
        let channel = Channel::unbound(device.peer())?;
        let page = indices.pages();
        page.word32(ORDER).store(order, core::sync::atomic::Ordering::SeqCst);
        for (number, reference) in data.references().iter().enumerate() {
            let word = page.word32(REFERENCES + 4 * number);
            word.store(*reference, core::sync::atomic::Ordering::SeqCst);
        }
        let half = PAGE_SIZE << (order - 1);
        self.size = u32::try_from(half).unwrap_or(u32::MAX);
        let ring = |start, producer, consumer| Layout {
            data: data.pages(),
            start,
            size: self.size,
            indices: page,
            producer,
            consumer,
        };
        device.write(&[
            ("version", "1"),
            ("num-rings", "1"),
            ("ring-ref0", &indices.reference(0).to_string()),
            ("event-channel-0", &channel.port().to_string()),
        ])?;
        self.rings = Some(Rings {
            requests: Writer::new(ring(half, OUT_PRODUCER, OUT_CONSUMER)),
            answers: Reader::new(ring(0, IN_PRODUCER, IN_CONSUMER)),
            channel,
            _indices: indices,
            _data: data,
        });
        Ok(())
    }

    fn connect(&mut self, device: &Device) -> Result<(), BusError> {
        self.tag = device.read("tag").unwrap_or_default();
        Ok(())
    }

    fn close(&mut self) {
        self.rings = None;
    }
}

impl Rings {
    /// Waits until `done` gives something.
    fn wait<R>(
        &mut self,
        mut done: impl FnMut(&mut Self) -> Result<Option<R>, BusError>,
    ) -> Result<R, BusError> {
        let mut result = Ok(None);
        let deadline = time::now() + time::microseconds(LIMIT * 1000);
        wait::until_tick(deadline, || {
            result = done(self);
            !matches!(result, Ok(None))
        });
        result?.ok_or(BusError::Timeout)
    }

    fn send(&mut self, mut request: &[u8]) -> Result<(), BusError> {
        while !request.is_empty() {
            let sent = self.wait(|rings| {
                let sent = rings.requests.write(request)?;
                Ok((sent > 0).then_some(sent))
            })?;
            request = request.get(sent..).unwrap_or_default();
            self.channel.notify()?;
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<(), BusError> {
        let mut at = 0;
        while at < bytes.len() {
            at += self.wait(|rings| {
                let came = rings.answers.read(bytes.get_mut(at..).unwrap_or_default())?;
                Ok((came > 0).then_some(came))
            })?;
            // There is room again.
            self.channel.notify()?;
        }
        Ok(())
    }
}

/// The device as a transport; what goes wrong closes it.
pub struct Bus {
    front: Front<P9Front>,
}

impl Bus {
    fn try_exchange(&mut self, request: &[u8], max: u32) -> Result<Vec<u8>, BusError> {
        let rings = self.front.driver().rings.as_mut().ok_or(BusError::Closed)?;
        rings.send(request)?;
        let mut answer = vec![0; HEADER];
        rings.receive(&mut answer)?;
        let size = answer.first_chunk().map_or(0, |size| u32::from_le_bytes(*size));
        if size > max || (size as usize) < HEADER {
            return Err(BusError::Lied("a message has a size that was not agreed on"));
        }
        answer.resize(size as usize, 0);
        rings.receive(answer.get_mut(HEADER..).unwrap_or_default())?;
        Ok(answer)
    }
}

impl Transport for Bus {
    type Error = BusError;

    fn exchange(&mut self, request: &[u8], max: u32) -> Result<Vec<u8>, BusError> {
        let result = self.try_exchange(request, max);
        if let Err(error) = &result {
            self.front.fail(error)?;
        }
        result
    }
}

/// A folder of Dom0's.
pub struct Share {
    client: Client<Bus>,
}

impl Share {
    /// Connects to shared folder `number`: 0 is the first of the domain's configuration. Waits for the back end, 20 seconds at most.
    pub fn open(number: u32) -> Result<Self, P9Error<BusError>> {
        let connect = || {
            let mut front = Front::new(Device::front("9pfs", number)?, P9Front::default())?;
            front.wait_connected(LIMIT)?;
            Ok(front)
        };
        let mut front = connect().map_err(P9Error::Transport)?;
        let max = front.driver().size;
        let mut share = Self { client: Client::new(Bus { front }, max) };
        share.with(Client::connect)?;
        Ok(share)
    }

    /// Returns the name the configuration gives the folder.
    pub fn tag(&mut self) -> &str {
        &self.client.transport().front.driver().tag
    }

    /// Does something with the folder; a server that lies is left.
    pub fn with<R>(
        &mut self,
        work: impl FnOnce(&mut Client<Bus>) -> Result<R, P9Error<BusError>>,
    ) -> Result<R, P9Error<BusError>> {
        let result = work(&mut self.client);
        if let Err(P9Error::Lied(what)) = &result {
            let error = BusError::Lied(what);
            self.client.transport().front.fail(&error).map_err(P9Error::Transport)?;
        }
        result
    }

    /// Ends the device and waits until the back end has let go.
    pub fn close(mut self) -> Result<(), BusError> {
        self.client.transport().front.close(LIMIT)
    }
}
