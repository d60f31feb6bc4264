//! The back half: this domain is another's disk.
//!
//! What the front end sends is copied once and checked ([`request`](super::request)); data is copied by the hypervisor, so none of the
//! front end's pages but its rings are mapped here. A front end that lies about its ring is closed; a bad request is answered with an error.

use super::SECTOR;
use super::request::{BadRequest, Part, Request, Segments, Transfer, check, id, parse, segments};
use crate::event::Channel;
use crate::grant::{Access, Copy, GrantError, Mapping, Side, copy};
use crate::page::{PAGE_SIZE, SharedPages};
use crate::ring::BackRing;
use crate::xenbus::back::{Back, BackDriver, BackStatus};
use crate::xenbus::{BusError, Device};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use hypercall_abi::io::blkif::{
    BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR, BLKIF_RSP_OKAY, BlkifRequest, BlkifResponse,
    VDISK_READONLY,
};

/// Segments of a request at most.
const MAX_SEGMENTS: usize = 256;
/// Pages of a ring at most, as a power of two.
const MAX_RING_ORDER: u32 = 3;
/// Rings at most.
const MAX_QUEUES: u32 = 4;
/// Pages that are copied at once.
const BOUNCE_PAGES: usize = 32;

/// What a disk's data is kept in.
pub trait Storage {
    /// Returns how many sectors of 512 bytes there are; it never changes.
    fn sectors(&self) -> u64;
    /// Returns whether it cannot be written.
    fn read_only(&self) -> bool {
        false
    }
    /// Reads from a sector on; the range was checked. `Err` is answered as a failure.
    fn read(&mut self, sector: u64, to: &mut [u8]) -> Result<(), Failed>;
    /// Writes from a sector on; the range was checked.
    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), Failed>;
    /// Makes lasting what was written.
    fn flush(&mut self) -> Result<(), Failed> {
        Ok(())
    }
    /// Forgets sectors, if it can.
    fn discard(&mut self, _sector: u64, _count: u64, _secure: bool) -> Result<(), Failed> {
        Ok(())
    }
}

/// The storage could not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// A disk in memory.
pub struct MemoryDisk {
    bytes: Vec<u8>,
}

impl MemoryDisk {
    /// Makes a disk of zeros.
    pub fn new(sectors: usize) -> Self {
        Self { bytes: alloc::vec![0; sectors * SECTOR] }
    }

    fn range(&mut self, sector: u64, len: usize) -> Result<&mut [u8], Failed> {
        let start = usize::try_from(sector).ok().and_then(|sector| sector.checked_mul(SECTOR));
        let start = start.ok_or(Failed)?;
        self.bytes.get_mut(start..).and_then(|rest| rest.get_mut(..len)).ok_or(Failed)
    }
}

impl Storage for MemoryDisk {
    fn sectors(&self) -> u64 {
        (self.bytes.len() / SECTOR) as u64
    }

    fn read(&mut self, sector: u64, to: &mut [u8]) -> Result<(), Failed> {
        to.copy_from_slice(self.range(sector, to.len())?);
        Ok(())
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), Failed> {
        self.range(sector, from.len())?.copy_from_slice(from);
        Ok(())
    }

    fn discard(&mut self, sector: u64, count: u64, _secure: bool) -> Result<(), Failed> {
        let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(SECTOR));
        self.range(sector, len.ok_or(Failed)?)?.fill(0);
        Ok(())
    }
}

/// A ring of the front end's.
struct Queue {
    ring: BackRing<BlkifRequest, BlkifResponse>,
    channel: Channel,
    /// Declared last: the ring is in it.
    _memory: Mapping,
}

/// What was done for a front end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Requests that made no sense.
    pub bad: u64,
}

/// One front end's disk.
pub struct Driver<S> {
    storage: S,
    peer: u16,
    queues: Vec<Queue>,
    bounce: SharedPages,
    statistics: Statistics,
}

/// The back end of a disk.
pub struct BlockBack<S> {
    back: Back<Driver<S>>,
}

impl<S: Storage> BlockBack<S> {
    /// Becomes the disk `number` of `domain`, as the toolstack arranged.
    pub fn new(domain: u16, number: u32, storage: S) -> Result<Self, BusError> {
        let device = Device::back("vbd", domain, number)?;
        let bounce = SharedPages::try_allocate(BOUNCE_PAGES).ok_or(GrantError::NoMemory)?;
        let driver = Driver {
            storage,
            peer: device.peer(),
            queues: Vec::new(),
            bounce,
            statistics: Statistics::default(),
        };
        Ok(Self { back: Back::new(device, driver)? })
    }

    /// Does what is to be done now; returns where the device stands. To be called after each event.
    ///
    /// A front end that lied is closed, and the error returned; it may connect again.
    pub fn serve(&mut self) -> Result<BackStatus, BusError> {
        let status = self.back.poll()?;
        if self.back.is_connected()
            && let Err(error) = self.back.driver().serve()
        {
            self.back.fail(&error)?;
            return Err(error);
        }
        Ok(status)
    }

    /// Returns whether there is something to be done.
    pub fn has_work(&mut self) -> bool {
        // A ring that is broken is found out when it is served.
        self.back.driver().queues.iter_mut().any(|queue| queue.ring.rearm() != Ok(false))
    }

    /// Returns what was done so far.
    pub fn statistics(&mut self) -> Statistics {
        self.back.driver().statistics
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        self.back.device()
    }
}

impl<S: Storage> BackDriver for Driver<S> {
    fn announce(&mut self, device: &Device) -> Result<(), BusError> {
        let (segments, order, queues) =
            (MAX_SEGMENTS.to_string(), MAX_RING_ORDER.to_string(), MAX_QUEUES.to_string());
        Ok(device.write(&[
            ("feature-flush-cache", "1"),
            ("feature-discard", "1"),
            ("discard-granularity", "512"),
            ("feature-max-indirect-segments", &segments),
            ("max-ring-page-order", &order),
            ("multi-queue-max-queues", &queues),
        ])?)
    }

    fn connect(&mut self, device: &Device) -> Result<(), BusError> {
        let protocol = device.other_or("protocol", String::from("arm-abi"))?;
        if protocol != "arm-abi" {
            return Err(BusError::Unsupported("the front end's protocol"));
        }
        let order: u32 = device.other_or("ring-page-order", 0)?;
        let count: u32 = device.other_or("multi-queue-num-queues", 1)?;
        if order > MAX_RING_ORDER || count == 0 || count > MAX_QUEUES {
            return Err(BusError::Lied("more ring pages or queues than were offered"));
        }
        for number in 0..count {
            let place = if count > 1 { format!("queue-{number}/") } else { String::new() };
            let mut references = Vec::new();
            for page in 0..1 << order {
                let page = if order > 0 { format!("{page}") } else { String::new() };
                references.push(device.other(&format!("{place}ring-ref{page}"))?);
            }
            let port = device.other(&format!("{place}event-channel"))?;
            let memory = Mapping::new(device.peer(), &references, Access::ReadWrite)?;
            let channel = Channel::interdomain(device.peer(), port)?;
            let ring = BackRing::new(memory.pages());
            self.queues.push(Queue { ring, channel, _memory: memory });
        }
        let sectors = self.storage.sectors().to_string();
        let info = if self.storage.read_only() { VDISK_READONLY } else { 0 }.to_string();
        Ok(device.write(&[("sectors", &sectors), ("sector-size", "512"), ("info", &info)])?)
    }

    fn close(&mut self) {
        self.queues.clear();
    }
}

impl<S: Storage> Driver<S> {
    fn serve(&mut self) -> Result<(), BusError> {
        let mut queues = core::mem::take(&mut self.queues);
        let mut result = Ok(());
        for queue in &mut queues {
            result = result.and_then(|()| self.serve_queue(queue));
        }
        self.queues = queues;
        result
    }

    fn serve_queue(&mut self, queue: &mut Queue) -> Result<(), BusError> {
        loop {
            // One ring's worth at most, then others have their turn.
            for _ in 0..queue.ring.size() {
                let Some(slot) = queue.ring.take()? else { break };
                let status = self.answer(&slot);
                let operation = slot.operation;
                let response =
                    BlkifResponse { id: id(&slot), operation, status, ..Default::default() };
                // There is a request without a response: the one just taken.
                let _ = queue.ring.push(&response);
                self.statistics.requests += 1;
            }
            if queue.ring.publish() {
                queue.channel.notify()?;
            }
            if !queue.ring.rearm()? {
                return Ok(());
            }
        }
    }

    /// Does what a request asks; returns the response's status.
    fn answer(&mut self, slot: &BlkifRequest) -> i16 {
        let done = match parse(slot, MAX_SEGMENTS) {
            Ok(Request::Transfer(transfer)) => self.transfer(&transfer),
            Ok(Request::Flush) => self.storage.flush().map_err(|Failed| ()),
            Ok(Request::Discard { sector, count, secure }) => {
                let end = sector.checked_add(count);
                if end.is_some_and(|end| end <= self.storage.sectors()) && !self.storage.read_only()
                {
                    self.storage.discard(sector, count, secure).map_err(|Failed| ())
                } else {
                    self.bad(BadRequest::Sectors)
                }
            }
            Ok(Request::Unknown(_)) => return BLKIF_RSP_EOPNOTSUPP,
            Err(bad) => self.bad(bad),
        };
        if done.is_ok() { BLKIF_RSP_OKAY } else { BLKIF_RSP_ERROR }
    }

    fn bad(&mut self, bad: BadRequest) -> Result<(), ()> {
        self.statistics.bad += 1;
        log::debug!("a bad request of domain {}: {bad:?}", self.peer);
        Err(())
    }

    fn transfer(&mut self, transfer: &Transfer) -> Result<(), ()> {
        if transfer.write && self.storage.read_only() {
            return Err(());
        }
        let found = match &transfer.segments {
            Segments::Here(segments) => segments.clone(),
            Segments::InPages { count, references } => self.fetch(*count, references)?,
        };
        let parts = match check(&found, transfer.sector, self.storage.sectors()) {
            Ok(parts) => parts,
            Err(bad) => return self.bad(bad),
        };
        if transfer.barrier {
            self.storage.flush().map_err(|Failed| ())?;
        }
        let mut sector = transfer.sector;
        for group in parts.chunks(BOUNCE_PAGES) {
            let len: usize = group.iter().map(|part| usize::from(part.len)).sum();
            let mut bytes = alloc::vec![0; len];
            if transfer.write {
                self.copy_parts(group, true)?;
                self.gather(group, &mut bytes);
                self.storage.write(sector, &bytes).map_err(|Failed| ())?;
                self.statistics.written += len as u64;
            } else {
                self.storage.read(sector, &mut bytes).map_err(|Failed| ())?;
                self.scatter(group, &bytes);
                self.copy_parts(group, false)?;
                self.statistics.read += len as u64;
            }
            sector += (len / SECTOR) as u64;
        }
        Ok(())
    }

    /// Copies a request's pages of segments, once.
    fn fetch(
        &mut self,
        count: usize,
        references: &[u32],
    ) -> Result<Vec<hypercall_abi::io::blkif::BlkifRequestSegment>, ()> {
        let whole = |reference: &u32| Part { reference: *reference, offset: 0, len: 4096 };
        let parts: Vec<Part> = references.iter().map(whole).collect();
        self.copy_parts(&parts, true)?;
        let mut bytes = alloc::vec![0; parts.len() * PAGE_SIZE];
        self.gather(&parts, &mut bytes);
        Ok(segments(&bytes, count))
    }

    /// Lets the hypervisor copy parts of the front end's pages, each to the beginning of a page here (`inwards`) or from there.
    fn copy_parts(&self, parts: &[Part], inwards: bool) -> Result<(), ()> {
        let copies: Vec<Copy> = parts
            .iter()
            .zip(self.bounce.iter())
            .map(|(part, page)| {
                let there = Side::Granted {
                    domain: self.peer,
                    reference: part.reference,
                    offset: part.offset,
                };
                let here = Side::Own { frame: page.frame(), offset: 0 };
                let (from, to) = if inwards { (there, here) } else { (here, there) };
                Copy { from, to, len: part.len }
            })
            .collect();
        let outcomes = copy(&copies).map_err(|_| ())?;
        if outcomes.iter().all(Result::is_ok) { Ok(()) } else { Err(()) }
    }

    fn gather(&self, parts: &[Part], bytes: &mut [u8]) {
        let mut rest = bytes;
        for (number, part) in parts.iter().enumerate() {
            let Some((now, later)) = rest.split_at_mut_checked(usize::from(part.len)) else {
                return;
            };
            self.bounce.read(number * PAGE_SIZE, now);
            rest = later;
        }
    }

    fn scatter(&self, parts: &[Part], bytes: &[u8]) {
        let mut rest = bytes;
        for (number, part) in parts.iter().enumerate() {
            let Some((now, later)) = rest.split_at_checked(usize::from(part.len)) else { return };
            self.bounce.write(number * PAGE_SIZE, now);
            rest = later;
        }
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.bounce.recycle();
    }
}
