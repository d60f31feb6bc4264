//! A pipe between two guests: one granted page with a ring of bytes each way, and an event channel.
//!
//! One guest offers, the other accepts; how the second learns the two numbers of the [`Offer`] is theirs to arrange, by the store for
//! example. The page: the ring to the accepting guest from byte 1024, the one from it from byte 2048, their indices in the first bytes.

use crate::byte_ring::{Layout, Reader, RingError, Writer};
use crate::event::Channel;
use crate::grant::{Access, GrantError, Granted, Mapping};
use crate::hypercall::HypercallError;
use crate::lock::Lock;
use crate::page::SharedPages;
use crate::wait;
use crate::xenstore::StoreError;
use core::fmt;
use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::Poll;

/// Byte that each end sets when it goes away: the offering, the accepting.
const GONE: [usize; 2] = [32, 33];

/// Why a pipe is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeError {
    /// The other end went away.
    Closed,
    /// Its indices make no sense.
    Ring(RingError),
    /// The page could not be granted or mapped.
    Grant(GrantError),
    /// The event channel could not be made.
    Hypercall(HypercallError),
    /// The store, for those who arrange the pipe by it.
    Store(StoreError),
}

impl From<RingError> for PipeError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl From<GrantError> for PipeError {
    fn from(error: GrantError) -> Self {
        Self::Grant(error)
    }
}

impl From<HypercallError> for PipeError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

impl From<StoreError> for PipeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for PipeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => formatter.write_str("the other end of the pipe went away"),
            Self::Ring(error) => error.fmt(formatter),
            Self::Grant(error) => write!(formatter, "a grant: {error:?}"),
            Self::Hypercall(error) => write!(formatter, "a hypercall: {error:?}"),
            Self::Store(error) => write!(formatter, "the store: {error}"),
        }
    }
}

impl core::error::Error for PipeError {}

/// What the accepting guest needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The page's grant.
    pub reference: u32,
    /// The event channel's port.
    pub port: u32,
}

/// Keeps the page granted or mapped.
enum Memory {
    Granted(Granted),
    Mapped(Mapping),
}

impl Memory {
    fn pages(&self) -> SharedPages {
        match self {
            Self::Granted(granted) => granted.pages(),
            Self::Mapped(mapping) => mapping.pages(),
        }
    }
}

/// One end of a pipe.
pub struct Pipe {
    ends: Lock<(Writer, Reader)>,
    channel: Channel,
    memory: Memory,
}

fn rings(page: SharedPages) -> [Layout; 2] {
    let ring = |start, size, producer| Layout {
        data: page,
        start,
        size,
        indices: page,
        producer,
        consumer: producer + 4,
    };
    [ring(1024, 1024, 0), ring(2048, 2048, 8)]
}

impl Pipe {
    /// Makes a pipe for `peer`.
    pub fn offer(peer: u16) -> Result<Self, PipeError> {
        let granted = Granted::new(peer, 1, Access::ReadWrite)?;
        let channel = Channel::unbound(peer)?;
        let [out, back] = rings(granted.pages());
        let ends = Lock::new((Writer::new(out), Reader::new(back)));
        Ok(Self { ends, channel, memory: Memory::Granted(granted) })
    }

    /// Takes up the pipe that `peer` offers.
    pub fn accept(peer: u16, offer: Offer) -> Result<Self, PipeError> {
        let mapping = Mapping::new(peer, &[offer.reference], Access::ReadWrite)?;
        let channel = Channel::interdomain(peer, offer.port)?;
        let [back, out] = rings(mapping.pages());
        let ends = Lock::new((Writer::new(out), Reader::new(back)));
        Ok(Self { ends, channel, memory: Memory::Mapped(mapping) })
    }

    /// Returns what the other guest needs; an accepted pipe cannot be passed on.
    pub fn offered(&self) -> Offer {
        let reference = match &self.memory {
            Memory::Granted(granted) => granted.reference(0),
            Memory::Mapped(_) => 0,
        };
        Offer { reference, port: self.channel.port() }
    }

    fn own_end(&self) -> usize {
        usize::from(matches!(self.memory, Memory::Mapped(_)))
    }

    /// Returns whether the other end went away; what it wrote before can still be read.
    pub fn is_closed(&self) -> bool {
        let other = GONE.get(1 - self.own_end()).copied().unwrap_or(32);
        self.memory.pages().byte(other).load(Ordering::Acquire) != 0
    }

    /// Reads what is there, without waiting; returns how many bytes.
    pub fn try_read(&self, to: &mut [u8]) -> Result<usize, PipeError> {
        let closed = self.is_closed();
        let read = self.ends.with(|(_, reader)| reader.read(to))?;
        if read > 0 {
            self.channel.notify()?;
        } else if closed && !to.is_empty() {
            return Err(PipeError::Closed);
        }
        Ok(read)
    }

    /// Writes what there is room for, without waiting; returns how many bytes.
    pub fn try_write(&self, from: &[u8]) -> Result<usize, PipeError> {
        if self.is_closed() {
            return Err(PipeError::Closed);
        }
        let written = self.ends.with(|(writer, _)| writer.write(from))?;
        if written > 0 {
            self.channel.notify()?;
        }
        Ok(written)
    }

    /// Waits until there is something to read or room to write.
    pub fn wait(&self) -> Result<(), PipeError> {
        let seen = self.channel.fired();
        let mut result = Ok(());
        wait::until(|| {
            let ready = self.ends.with(|(writer, reader)| {
                Ok::<_, RingError>(writer.room()? > 0 || reader.available()? > 0)
            });
            result = ready.map(drop);
            ready != Ok(false) || self.is_closed() || self.channel.fired() != seen
        });
        Ok(result?)
    }

    /// Waits for bytes; returns how many were read.
    pub fn read(&self, to: &mut [u8]) -> Result<usize, PipeError> {
        let mut result = Ok(0);
        wait::until(|| {
            result = self.try_read(to);
            result != Ok(0) || to.is_empty()
        });
        result
    }

    /// Returns how many bytes wait to be read.
    pub fn available(&self) -> Result<usize, PipeError> {
        Ok(self.ends.with(|(_, reader)| reader.available())?)
    }

    /// Returns how many bytes there is room for.
    pub fn room(&self) -> Result<usize, PipeError> {
        Ok(self.ends.with(|(writer, _)| writer.room())?)
    }

    /// Waits for room and writes at least one byte of what is given; returns how many.
    pub fn write(&self, from: &[u8]) -> Result<usize, PipeError> {
        let mut result = Ok(0);
        wait::until(|| {
            result = self.try_write(from);
            result != Ok(0) || from.is_empty()
        });
        result
    }

    /// Writes all bytes, waiting for room.
    pub fn write_all(&self, from: &[u8]) -> Result<(), PipeError> {
        let mut rest = from;
        let mut result = Ok(());
        wait::until(|| match self.try_write(rest) {
            Ok(written) => {
                rest = rest.get(written..).unwrap_or_default();
                rest.is_empty()
            }
            Err(error) => {
                result = Err(error);
                true
            }
        });
        result
    }

    /// Waits until the other end has read everything.
    pub fn flush(&self) -> Result<(), PipeError> {
        let mut result = Ok(());
        wait::until(|| {
            let room = self.ends.with(|(writer, _)| writer.is_empty());
            result = room.map(drop);
            room != Ok(false) || self.is_closed()
        });
        Ok(result?)
    }

    /// Waits, in an async task, until the other end has read everything.
    pub async fn flush_async(&self) -> Result<(), PipeError> {
        poll_fn(|context| {
            self.channel.set_waker(context.waker());
            match self.ends.with(|(writer, _)| writer.is_empty()) {
                Ok(false) if !self.is_closed() => Poll::Pending,
                result => Poll::Ready(result.map(drop).map_err(PipeError::from)),
            }
        })
        .await
    }

    /// Waits, in an async task, for bytes; returns how many were read.
    pub async fn read_async(&self, to: &mut [u8]) -> Result<usize, PipeError> {
        poll_fn(|context| {
            self.channel.set_waker(context.waker());
            match self.try_read(to) {
                Ok(0) if !to.is_empty() => Poll::Pending,
                result => Poll::Ready(result),
            }
        })
        .await
    }

    /// Writes, in an async task, at least one byte of what is given; returns how many.
    pub async fn write_async(&self, from: &[u8]) -> Result<usize, PipeError> {
        poll_fn(|context| {
            self.channel.set_waker(context.waker());
            match self.try_write(from) {
                Ok(0) if !from.is_empty() => Poll::Pending,
                result => Poll::Ready(result),
            }
        })
        .await
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let own = GONE.get(self.own_end()).copied().unwrap_or(32);
        self.memory.pages().byte(own).store(1, Ordering::Release);
        // Who is gone already need not be told.
        let _ = self.channel.notify();
    }
}
