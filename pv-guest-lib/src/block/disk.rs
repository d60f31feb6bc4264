//! A disk as its users see it: reads and writes of any number of sectors, waiting or async.

use super::SECTOR;
use super::front::{Driver, Info, Operation, Options, Shared, reap};
use crate::cpu;
use crate::lock::Lock;
use crate::page::PAGE_SIZE;
use crate::wait;
use crate::xenbus::front::Front;
use crate::xenbus::{BusError, Device};
use crate::xenstore::StoreError;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use hypercall_abi::io::blkif::{BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_OKAY};
use spin::Mutex;

/// How long a back end may take to come, or to come back.
const CONNECT_MILLISECONDS: u64 = 30_000;

/// Why something could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The sectors are not all on the disk, or a buffer is not a multiple of 512 bytes.
    Range,
    /// The disk cannot be written.
    ReadOnly,
    /// The back end tried and failed.
    Failed,
    /// The back end does not do that.
    Unsupported,
    /// The device itself is of no use.
    Bus(BusError),
}

impl fmt::Display for DiskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Range => "the sectors are not on the disk",
            Self::ReadOnly => "the disk cannot be written",
            Self::Failed => "the back end failed",
            Self::Unsupported => "the back end does not do that",
            Self::Bus(error) => return error.fmt(formatter),
        })
    }
}

impl core::error::Error for DiskError {}

/// A disk: the front end of a block device.
pub struct Disk {
    front: Mutex<Front<Driver>>,
    shared: Arc<Lock<Shared>>,
}

impl Disk {
    /// Returns the numbers of this domain's disks; `xvda` is 51712, `xvdb` 51728.
    pub fn list() -> Result<Vec<u32>, StoreError> {
        let mut numbers = Device::fronts("vbd")?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Connects to a disk.
    pub fn open(number: u32, options: Options) -> Result<Self, DiskError> {
        let shared = Arc::new(Lock::new(Shared::default()));
        let driver = Driver { shared: Arc::clone(&shared), options, number };
        let mut front = Front::new(Device::front("vbd", number)?, driver)?;
        front.wait_connected(CONNECT_MILLISECONDS)?;
        Ok(Self { front: Mutex::new(front), shared })
    }

    /// Returns what the back end says of the disk.
    pub fn info(&self) -> Info {
        self.shared.with(|shared| shared.info.clone())
    }

    /// Returns how many sectors of 512 bytes the disk has.
    pub fn sectors(&self) -> u64 {
        self.shared.with(|shared| shared.info.sectors)
    }

    /// Reads from a sector on.
    pub fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), DiskError> {
        self.wait(&mut Work::new(self, Kind::Read(to), sector)?)
    }

    /// Writes from a sector on.
    pub fn write(&self, sector: u64, from: &[u8]) -> Result<(), DiskError> {
        self.wait(&mut Work::new(self, Kind::Write(from), sector)?)
    }

    /// Makes lasting what was written.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.wait(&mut Work::new(self, Kind::Flush, 0)?)
    }

    /// Tells the back end to forget sectors, which may then read as anything; `secure`: beyond recovery.
    pub fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), DiskError> {
        self.wait(&mut Work::new(self, Kind::Discard { count, secure }, sector)?)
    }

    /// As [`read`](Self::read), in an async task.
    pub async fn read_async(&self, sector: u64, to: &mut [u8]) -> Result<(), DiskError> {
        self.wait_async(&mut Work::new(self, Kind::Read(to), sector)?).await
    }

    /// As [`write`](Self::write), in an async task.
    pub async fn write_async(&self, sector: u64, from: &[u8]) -> Result<(), DiskError> {
        self.wait_async(&mut Work::new(self, Kind::Write(from), sector)?).await
    }

    /// As [`flush`](Self::flush), in an async task.
    pub async fn flush_async(&self) -> Result<(), DiskError> {
        self.wait_async(&mut Work::new(self, Kind::Flush, 0)?).await
    }

    fn wait(&self, work: &mut Work<'_, '_>) -> Result<(), DiskError> {
        loop {
            let mut result = None;
            wait::until(|| {
                result = work.step();
                result.is_some() || self.back_end_moved()
            });
            match result {
                Some(Outcome::Done(result)) => return result,
                Some(Outcome::Lost) | None => self.recover(work)?,
            }
        }
    }

    async fn wait_async(&self, work: &mut Work<'_, '_>) -> Result<(), DiskError> {
        loop {
            let result = poll_fn(|context| {
                self.shared.with(|shared| shared.set_waker(context.waker()));
                match work.step() {
                    Some(outcome) => Poll::Ready(Some(outcome)),
                    None if self.back_end_moved() => Poll::Ready(None),
                    None => Poll::Pending,
                }
            });
            match result.await {
                Some(Outcome::Done(result)) => return result,
                Some(Outcome::Lost) | None => self.recover(work)?,
            }
        }
    }

    /// Returns whether the back end's state may have changed.
    fn back_end_moved(&self) -> bool {
        self.front.try_lock().is_some_and(|front| front.watch().try_next().is_some())
    }

    /// Follows the back end, to a new connection if it was restarted, or closes the device if it lied.
    fn recover(&self, work: &mut Work<'_, '_>) -> Result<(), DiskError> {
        let mut front = self.front.lock();
        if let Some(error) = self.shared.with(|shared| shared.error) {
            if front.is_connected() {
                front.fail(&error)?;
            }
            return Err(error.into());
        }
        front.advance()?;
        if !front.is_connected() {
            front.wait_connected(CONNECT_MILLISECONDS)?;
        }
        drop(front);
        work.restart_if_lost();
        Ok(())
    }

    /// Ends the device and waits until the back end has let go.
    pub fn close(self) -> Result<(), DiskError> {
        Ok(self.front.lock().close(CONNECT_MILLISECONDS)?)
    }
}

/// What is to be done.
enum Kind<'b> {
    Read(&'b mut [u8]),
    Write(&'b [u8]),
    Flush,
    Discard { count: u64, secure: bool },
}

/// What a step came to.
enum Outcome {
    Done(Result<(), DiskError>),
    /// The queues are gone, or the back end lied.
    Lost,
}

/// A part of the work that was asked and not finished.
struct Asked {
    queue: usize,
    id: u64,
    offset: usize,
    len: usize,
}

/// Something to be done, cut into requests.
struct Work<'d, 'b> {
    disk: &'d Disk,
    kind: Kind<'b>,
    sector: u64,
    len: usize,
    /// Bytes that were asked for; for what has no bytes, 1 when it was asked.
    next: usize,
    asked: Vec<Asked>,
    generation: u32,
    error: Option<DiskError>,
}

impl<'d, 'b> Work<'d, 'b> {
    fn new(disk: &'d Disk, kind: Kind<'b>, sector: u64) -> Result<Self, DiskError> {
        let info = disk.info();
        let (bytes, count) = match &kind {
            Kind::Read(to) => (to.len(), (to.len() / SECTOR) as u64),
            Kind::Write(from) => (from.len(), (from.len() / SECTOR) as u64),
            Kind::Flush => (0, 0),
            Kind::Discard { count, .. } => (0, *count),
        };
        let end = sector.checked_add(count).ok_or(DiskError::Range)?;
        if end > info.sectors || !bytes.is_multiple_of(SECTOR) {
            return Err(DiskError::Range);
        }
        match kind {
            Kind::Write(_) | Kind::Discard { .. } if info.read_only => {
                return Err(DiskError::ReadOnly);
            }
            Kind::Discard { .. } if !info.discard => return Err(DiskError::Unsupported),
            _ => {}
        }
        // Without bytes there is one request; nothing to flush is nothing to do.
        let len = match kind {
            Kind::Flush => usize::from(info.flush),
            Kind::Discard { .. } => 1,
            _ => bytes,
        };
        let generation = disk.shared.with(|shared| shared.generation);
        Ok(Self { disk, kind, sector, len, next: 0, asked: Vec::new(), generation, error: None })
    }

    /// Goes as far as it can without waiting.
    fn step(&mut self) -> Option<Outcome> {
        reap(&self.disk.shared);
        let shared = Arc::clone(&self.disk.shared);
        shared.with(|shared| {
            if !shared.connected
                || shared.generation != self.generation
                || shared.error.is_some()
                || shared.queues.is_empty()
            {
                return Some(Outcome::Lost);
            }
            self.collect(shared);
            if self.error.is_none()
                && let Err(error) = self.submit(shared)
            {
                self.error = Some(error.into());
            }
            let all = self.next >= self.len || self.error.is_some();
            (all && self.asked.is_empty()).then(|| Outcome::Done(self.error.map_or(Ok(()), Err)))
        })
    }

    fn collect(&mut self, shared: &mut Shared) {
        let mut waiting = Vec::new();
        for asked in core::mem::take(&mut self.asked) {
            let Some(queue) = shared.queues.get_mut(asked.queue) else { continue };
            match queue.status(asked.id) {
                None => {
                    waiting.push(asked);
                    continue;
                }
                Some(BLKIF_RSP_OKAY) => {
                    if let Kind::Read(to) = &mut self.kind
                        && let Some(to) = to.get_mut(asked.offset..asked.offset + asked.len)
                    {
                        queue.copy_out(asked.id, to);
                    }
                }
                Some(BLKIF_RSP_EOPNOTSUPP) => self.error = Some(DiskError::Unsupported),
                Some(_) => self.error = Some(DiskError::Failed),
            }
            queue.finish(asked.id);
        }
        self.asked = waiting;
    }

    fn submit(&mut self, shared: &mut Shared) -> Result<(), BusError> {
        let number = cpu::number() % shared.queues.len();
        let most = shared.info.segments * PAGE_SIZE;
        let Some(queue) = shared.queues.get_mut(number) else { return Ok(()) };
        let before = self.asked.len();
        while self.next < self.len {
            let offset = self.next;
            let len = (self.len - offset).min(most);
            let sector = self.sector + (offset / SECTOR) as u64;
            let operation = match &self.kind {
                Kind::Read(_) => Operation::Read { sector, len },
                Kind::Write(from) => {
                    Operation::Write { sector, data: from.get(offset..offset + len).unwrap_or(&[]) }
                }
                Kind::Flush => Operation::Flush,
                Kind::Discard { count, secure } => {
                    Operation::Discard { sector: self.sector, count: *count, secure: *secure }
                }
            };
            let Some(id) = queue.submit(operation)? else { break };
            self.asked.push(Asked { queue: number, id, offset, len });
            self.next += len;
        }
        if self.asked.len() > before {
            queue.publish()?;
        }
        Ok(())
    }

    /// Begins again on new queues; what was written twice is the same data.
    fn restart_if_lost(&mut self) {
        let generation = self.disk.shared.with(|shared| shared.generation);
        if generation != self.generation {
            self.generation = generation;
            self.asked.clear();
            self.next = 0;
        }
    }
}

impl Drop for Work<'_, '_> {
    fn drop(&mut self) {
        self.disk.shared.with(|shared| {
            if shared.generation != self.generation {
                return;
            }
            for asked in &self.asked {
                if let Some(queue) = shared.queues.get_mut(asked.queue) {
                    queue.abandon(asked.id);
                }
            }
        });
    }
}
