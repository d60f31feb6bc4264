//! A front end's ring of received frames.

use super::{
    Buffer, Checksum, MAX_EXTRAS, MAX_FRAME, MAX_SLOTS, MIN_FRAME, NetError, Offload, ReceiveSlot,
    Segments, from_slot,
};
use crate::page::{PAGE_SIZE, SharedPages};
use crate::ring::FrontRing;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hypercall_abi::io::netif::{
    NETRXF_CSUM_BLANK, NETRXF_DATA_VALIDATED, NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, NetifExtraInfo,
    NetifRxRequest, NetifRxResponse, XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
};

/// What the next slot is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The first of a frame.
    Frame,
    /// Another part of one.
    Part,
    /// Extra information, after which the frame goes on or not.
    Extra { more_parts: bool },
}

/// A frame of which not all slots have come.
struct Partial {
    next: Next,
    bytes: Vec<u8>,
    offload: Offload,
    parts: usize,
    extras: usize,
    /// The other side could not fill one of its parts.
    failed: bool,
}

impl Partial {
    fn new() -> Self {
        Self {
            next: Next::Frame,
            bytes: Vec::new(),
            offload: Offload::default(),
            parts: 0,
            extras: 0,
            failed: false,
        }
    }
}

/// The ring and its buffers, which are granted for good.
pub struct Receive {
    ring: FrontRing<NetifRxRequest, ReceiveSlot>,
    buffers: Vec<Buffer>,
    /// Buffers the other side may fill, in the order in which it must.
    posted: VecDeque<u16>,
    idle: Vec<u16>,
    partial: Partial,
    dropped: u32,
}

impl Receive {
    /// Makes a ring of its pages with all buffers posted that it has room for; the other side sees them after [`publish`](Self::publish).
    pub fn new(pages: SharedPages, buffers: Vec<Buffer>) -> Self {
        let count = u16::try_from(buffers.len()).unwrap_or(u16::MAX);
        let mut ring = Self {
            ring: FrontRing::new(pages),
            buffers,
            posted: VecDeque::new(),
            idle: (0..count).rev().collect(),
            partial: Partial::new(),
            dropped: 0,
        };
        ring.post();
        ring
    }

    /// Offers the buffers that are idle.
    fn post(&mut self) {
        while self.ring.free() > 0 {
            let Some(id) = self.idle.pop() else { return };
            let Some(buffer) = self.buffers.get(usize::from(id)) else { return };
            // There is room.
            let _ = self.ring.push(&NetifRxRequest { id, pad: 0, gref: buffer.reference });
            self.posted.push_back(id);
        }
    }

    /// Offers what was emptied and lets the other side see it; returns whether it must be told.
    #[must_use = "the other side sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        self.post();
        self.ring.publish()
    }

    /// Takes the next whole frame into `frame`, in place of what was there.
    pub fn take(&mut self, frame: &mut Vec<u8>) -> Result<Option<Offload>, NetError> {
        while let Some(slot) = self.ring.take()? {
            // What is answered is the oldest, whatever the slot says.
            let id =
                self.posted.pop_front().ok_or(NetError::Lied("it filled a buffer not offered"))?;
            self.idle.push(id);
            match self.partial.next {
                Next::Frame | Next::Part => self.part(id, &slot)?,
                Next::Extra { more_parts } => self.extra(more_parts, &slot)?,
            }
            if self.partial.next == Next::Frame {
                let done = core::mem::replace(&mut self.partial, Partial::new());
                if done.failed || done.bytes.len() < MIN_FRAME {
                    self.dropped += 1;
                    continue;
                }
                *frame = done.bytes;
                return Ok(Some(done.offload));
            }
        }
        Ok(None)
    }

    /// Adds what a buffer was filled with.
    fn part(&mut self, id: u16, slot: &ReceiveSlot) -> Result<(), NetError> {
        let response: NetifRxResponse = from_slot(slot);
        if response.id != id {
            return Err(NetError::Lied("it filled a buffer out of turn"));
        }
        let first = self.partial.next == Next::Frame;
        let partial = &mut self.partial;
        partial.parts += 1;
        if partial.parts > MAX_SLOTS {
            return Err(NetError::Lied("a frame has too many parts"));
        }
        match usize::try_from(response.status) {
            Err(_) => partial.failed = true,
            Ok(size) => {
                let offset = usize::from(response.offset);
                if offset + size > PAGE_SIZE {
                    return Err(NetError::Lied("a part of a frame is not within its page"));
                }
                let before = partial.bytes.len();
                if before + size > MAX_FRAME {
                    return Err(NetError::Lied("a frame is longer than a frame can be"));
                }
                partial.bytes.resize(before + size, 0);
                let to = partial.bytes.get_mut(before..).unwrap_or_default();
                if let Some(buffer) = self.buffers.get(usize::from(id)) {
                    buffer.page.pages().read(offset, to);
                }
            }
        }
        let flags = response.flags;
        if first {
            partial.offload.checksum = if flags & NETRXF_CSUM_BLANK != 0 {
                Checksum::Blank
            } else if flags & NETRXF_DATA_VALIDATED != 0 {
                Checksum::Validated
            } else {
                Checksum::Present
            };
        }
        let more_parts = flags & NETRXF_MORE_DATA != 0;
        partial.next = match (flags & NETRXF_EXTRA_INFO != 0, more_parts) {
            (true, _) if first => Next::Extra { more_parts },
            (true, _) => return Err(NetError::Lied("extra information comes late")),
            (false, true) => Next::Part,
            (false, false) => Next::Frame,
        };
        Ok(())
    }

    /// Takes extra information, for which a buffer was spent and not filled.
    fn extra(&mut self, more_parts: bool, slot: &ReceiveSlot) -> Result<(), NetError> {
        let extra: NetifExtraInfo = from_slot(slot);
        let partial = &mut self.partial;
        partial.extras += 1;
        if partial.extras > MAX_EXTRAS {
            return Err(NetError::Lied("a frame has too much extra information"));
        }
        match extra.kind {
            XEN_NETIF_EXTRA_TYPE_GSO => partial.offload.segments = Some(Segments::parse(&extra)?),
            XEN_NETIF_EXTRA_TYPE_HASH => {}
            _ => return Err(NetError::Lied("extra information is of an unknown kind")),
        }
        partial.next = if extra.flags & XEN_NETIF_EXTRA_FLAG_MORE != 0 {
            Next::Extra { more_parts }
        } else if more_parts {
            Next::Part
        } else {
            Next::Frame
        };
        Ok(())
    }

    /// Returns how many frames came in vain since it was last asked.
    pub fn dropped(&mut self) -> u32 {
        core::mem::take(&mut self.dropped)
    }

    /// Wishes for an event at the next frame; returns whether something is there already.
    pub fn rearm(&mut self) -> Result<bool, NetError> {
        Ok(self.ring.rearm()?)
    }
}
