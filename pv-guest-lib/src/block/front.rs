//! The front end's queues: rings, buffers that stay granted, and what was asked.

use super::request::{discard, flush, transfer};
use super::{DiskError, SECTOR};
use crate::event::Channel;
use crate::grant::{Access, Granted};
use crate::lock::Lock;
use crate::page::PAGE_SIZE;
use crate::ring::FrontRing;
use crate::slots::Slots;
use crate::xenbus::front::FrontDriver;
use crate::xenbus::{BusError, Device};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;
use hypercall_abi::io::blkif::{
    BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_SEGMENTS_PER_PAGE, BlkifRequest, BlkifRequestSegment,
    BlkifResponse, VDISK_READONLY,
};
use zerocopy::IntoBytes;

/// Pages of buffers that a queue keeps for its requests.
const POOL_PAGES: usize = 512;

/// How a disk is used.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Queues at most; each has its own ring and event channel, and processors spread over them.
    pub queues: u32,
    /// Pages of a ring at most, as a power of two.
    pub ring_order: u32,
    /// Whether the back end may keep buffers mapped.
    pub persistent: bool,
    /// Segments (pages) of a request at most; above 11 they stand in pages of their own, where the back end can do that.
    pub segments: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { queues: 4, ring_order: 2, persistent: true, segments: 64 }
    }
}

/// What the back end says of a disk.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// What requests should be multiples of, in bytes.
    pub sector_size: u32,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether it can be told to make lasting what was written.
    pub flush: bool,
    /// Whether it can be told to forget sectors.
    pub discard: bool,
    /// Segments of a request at most.
    pub segments: usize,
    /// Whether the back end keeps buffers mapped.
    pub persistent: bool,
    /// Queues in use.
    pub queues: u32,
    /// Pages of a ring.
    pub ring_pages: u32,
}

/// One request under way, and its buffers.
struct Pending {
    data: Vec<Granted>,
    indirect: Option<Granted>,
    status: Option<i16>,
    /// Nobody waits for it any more.
    abandoned: bool,
}

/// A ring with its channel and buffers.
pub(super) struct Queue {
    channel: Arc<Channel>,
    ring: FrontRing<BlkifRequest, BlkifResponse>,
    /// The ring's pages, kept granted.
    memory: Granted,
    pending: Slots<Pending>,
    pool: Vec<Granted>,
    pages: usize,
    peer: u16,
    handle: u16,
}

/// What a request is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation<'a> {
    Read { sector: u64, len: usize },
    Write { sector: u64, data: &'a [u8] },
    Flush,
    Discard { sector: u64, count: u64, secure: bool },
}

impl Queue {
    fn new(device: &Device, order: u32, handle: u16) -> Result<Self, BusError> {
        let memory = Granted::new(device.peer(), 1 << order, Access::ReadWrite)?;
        let ring = FrontRing::new(memory.pages());
        let channel = Arc::new(Channel::unbound(device.peer())?);
        let pending = Slots::new(ring.size());
        let peer = device.peer();
        Ok(Self { channel, ring, memory, pending, pool: Vec::new(), pages: 0, peer, handle })
    }

    /// Takes buffers; `None` when there are none now and some will come back.
    fn buffers(&mut self, count: usize) -> Result<Option<Vec<Granted>>, BusError> {
        while self.pool.len() < count {
            let page = if self.pages < POOL_PAGES {
                Granted::new(self.peer, 1, Access::ReadWrite)
            } else {
                Err(crate::grant::GrantError::NoMemory)
            };
            match page {
                Ok(page) => {
                    self.pool.push(page);
                    self.pages += 1;
                }
                // What is under way comes back.
                Err(_) if self.pending.used() > 0 => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(self.pool.split_off(self.pool.len() - count)))
    }

    /// Puts a request in; returns its number, or `None` when there is no room now.
    pub(super) fn submit(&mut self, operation: Operation<'_>) -> Result<Option<u64>, BusError> {
        if self.ring.free() == 0 || !self.pending.has_room() {
            return Ok(None);
        }
        let len = match operation {
            Operation::Read { len, .. } => len,
            Operation::Write { data, .. } => data.len(),
            Operation::Flush | Operation::Discard { .. } => 0,
        };
        let pages = len.div_ceil(PAGE_SIZE);
        let more = usize::from(pages > BLKIF_MAX_SEGMENTS_PER_REQUEST);
        let Some(mut data) = self.buffers(pages + more)? else { return Ok(None) };
        let indirect = if more > 0 { data.pop() } else { None };
        let mut left = len;
        let segments: Vec<BlkifRequestSegment> = data
            .iter()
            .map(|page| {
                let here = left.min(PAGE_SIZE);
                left -= here;
                let last = u8::try_from(here / SECTOR).unwrap_or(8).saturating_sub(1);
                BlkifRequestSegment {
                    gref: page.reference(0),
                    last_sect: last,
                    ..Default::default()
                }
            })
            .collect();
        if let Operation::Write { data: bytes, .. } = operation {
            for (page, bytes) in data.iter().zip(bytes.chunks(PAGE_SIZE)) {
                page.pages().write(0, bytes);
            }
        }
        let mut references = Vec::new();
        if let Some(page) = &indirect {
            page.pages().write(0, segments.as_bytes());
            references.push(page.reference(0));
        }
        let pending = Pending { data, indirect, status: None, abandoned: false };
        let Ok(id) = self.pending.insert(pending) else { return Ok(None) };
        let id = u64::from(id);
        let slot = match operation {
            Operation::Read { sector, .. } => {
                transfer(id, self.handle, false, sector, &segments, &references)
            }
            Operation::Write { sector, .. } => {
                transfer(id, self.handle, true, sector, &segments, &references)
            }
            Operation::Flush => flush(id, self.handle),
            Operation::Discard { sector, count, secure } => {
                discard(id, self.handle, sector, count, secure)
            }
        };
        // There is room: it was looked at above.
        let _ = self.ring.push(&slot);
        Ok(Some(id))
    }

    /// Lets the back end see what was put in.
    pub(super) fn publish(&mut self) -> Result<(), BusError> {
        if self.ring.publish() {
            self.channel.notify()?;
        }
        Ok(())
    }

    /// Takes what the back end answered.
    fn reap(&mut self) -> Result<bool, BusError> {
        let mut any = false;
        loop {
            while let Some(response) = self.ring.take()? {
                any = true;
                let pending = self.pending.get_mut(response.id);
                let pending = pending.map_err(|_| BusError::Lied("an answer to nothing"))?;
                if pending.status.is_some() {
                    return Err(BusError::Lied("a second answer"));
                }
                pending.status = Some(response.status);
                if pending.abandoned {
                    self.finish(response.id);
                }
            }
            if !self.ring.rearm()? {
                return Ok(any);
            }
        }
    }

    /// Returns a request's status, if it was answered.
    pub(super) fn status(&mut self, id: u64) -> Option<i16> {
        self.pending.get_mut(id).ok()?.status
    }

    /// Copies what was read.
    pub(super) fn copy_out(&mut self, id: u64, to: &mut [u8]) {
        if let Ok(pending) = self.pending.get_mut(id) {
            for (page, part) in pending.data.iter().zip(to.chunks_mut(PAGE_SIZE)) {
                page.pages().read(0, part);
            }
        }
    }

    /// Gives a request's buffers back.
    pub(super) fn finish(&mut self, id: u64) {
        if let Ok(pending) = self.pending.remove(id) {
            self.pool.extend(pending.data);
            self.pool.extend(pending.indirect);
        }
    }

    /// Says that nobody waits for a request.
    pub(super) fn abandon(&mut self, id: u64) {
        if self.status(id).is_some() {
            self.finish(id);
        } else if let Ok(pending) = self.pending.get_mut(id) {
            pending.abandoned = true;
        }
    }
}

/// What the device's users and its channels' handlers share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) queues: Vec<Queue>,
    pub(super) info: Info,
    pub(super) connected: bool,
    /// How often the queues were made anew.
    pub(super) generation: u32,
    pub(super) error: Option<BusError>,
    wakers: Vec<Waker>,
}

impl Shared {
    /// Takes all answers; returns the tasks to wake.
    pub(super) fn reap(&mut self) -> Vec<Waker> {
        let mut any = false;
        for queue in &mut self.queues {
            match queue.reap() {
                Ok(found) => any |= found,
                Err(error) => {
                    self.error = Some(error);
                    any = true;
                }
            }
        }
        if any { core::mem::take(&mut self.wakers) } else { Vec::new() }
    }

    /// Wakes a task at the next answer.
    pub(super) fn set_waker(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|other| other.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }
}

/// The bus's driver of a disk.
pub(super) struct Driver {
    pub(super) shared: Arc<Lock<Shared>>,
    pub(super) options: Options,
    pub(super) number: u32,
}

/// Takes all answers and wakes who waits for them.
pub(super) fn reap(shared: &Lock<Shared>) {
    for waker in shared.with(Shared::reap) {
        waker.wake();
    }
}

impl FrontDriver for Driver {
    fn publish(&mut self, device: &Device) -> Result<(), BusError> {
        let order = device.other_or("max-ring-page-order", 0)?.min(self.options.ring_order);
        let most: u32 = device.other_or("multi-queue-max-queues", 1)?;
        let cpus = u32::try_from(crate::tree::get().cpus).unwrap_or(1);
        let count = self.options.queues.min(most).min(cpus).max(1);
        let handle = u16::try_from(self.number & 0xffff).unwrap_or(0);
        let mut values: Vec<(String, String)> = alloc::vec![
            ("protocol".into(), "arm-abi".into()),
            ("feature-persistent".into(), u32::from(self.options.persistent).to_string()),
        ];
        if order > 0 {
            values.push(("ring-page-order".into(), order.to_string()));
        }
        if count > 1 {
            values.push(("multi-queue-num-queues".into(), count.to_string()));
        }
        let mut queues = Vec::new();
        for number in 0..count {
            let queue = Queue::new(device, order, handle)?;
            let place = if count > 1 { format!("queue-{number}/") } else { String::new() };
            for (page, reference) in queue.memory.references().iter().enumerate() {
                let page = if order > 0 { page.to_string() } else { String::new() };
                values.push((format!("{place}ring-ref{page}"), reference.to_string()));
            }
            values.push((format!("{place}event-channel"), queue.channel.port().to_string()));
            queues.push(queue);
        }
        let pairs: Vec<(&str, &str)> =
            values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        device.write(&pairs)?;
        for queue in &queues {
            let shared = Arc::downgrade(&self.shared);
            let handler = move || {
                if let Some(shared) = shared.upgrade() {
                    reap(&shared);
                }
            };
            queue.channel.set_handler(Some(Arc::new(handler)));
        }
        self.shared.with(|shared| {
            shared.info.queues = count;
            shared.info.ring_pages = 1 << order;
            shared.queues = queues;
        });
        Ok(())
    }

    fn connect(&mut self, device: &Device) -> Result<(), BusError> {
        let sectors = device.other("sectors")?;
        let sector_size: u32 = device.other_or("sector-size", 512)?;
        if !sector_size.is_power_of_two() || !(512..=1 << 16).contains(&sector_size) {
            return Err(BusError::Lied("its sector size makes no sense"));
        }
        let most: usize = device.other_or("feature-max-indirect-segments", 0)?;
        // One page of segments is as much as is used here.
        let most = most.min(BLKIF_SEGMENTS_PER_PAGE).min(self.options.segments);
        let info: u32 = device.other_or("info", 0)?;
        let persistent = self.options.persistent && device.other_has("feature-persistent")?;
        let (flush, discard) =
            (device.other_has("feature-flush-cache")?, device.other_has("feature-discard")?);
        self.shared.with(|shared| {
            shared.info.sectors = sectors;
            shared.info.sector_size = sector_size;
            shared.info.read_only = info & VDISK_READONLY != 0;
            shared.info.flush = flush;
            shared.info.discard = discard;
            shared.info.segments = most.max(BLKIF_MAX_SEGMENTS_PER_REQUEST);
            shared.info.persistent = persistent;
            shared.connected = true;
            shared.error = None;
        });
        Ok(())
    }

    fn close(&mut self) {
        let (queues, wakers) = self.shared.with(|shared| {
            shared.connected = false;
            shared.generation = shared.generation.wrapping_add(1);
            (core::mem::take(&mut shared.queues), core::mem::take(&mut shared.wakers))
        });
        for queue in &queues {
            queue.channel.set_handler(None);
        }
        drop(queues);
        wakers.into_iter().for_each(|waker| waker.wake());
    }
}

impl From<BusError> for DiskError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}
