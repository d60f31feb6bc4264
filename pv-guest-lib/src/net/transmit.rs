//! A front end's ring of frames to send.

use super::{
    Buffer, Checksum, MAX_FRAME, MAX_SLOTS, MIN_FRAME, NetError, Offload, TransmitSlot, slot,
};
use crate::page::{PAGE_SIZE, SharedPages};
use crate::ring::FrontRing;
use alloc::vec::Vec;
use hypercall_abi::io::netif::{
    NETIF_RSP_DROPPED, NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_OKAY, NETTXF_CSUM_BLANK,
    NETTXF_DATA_VALIDATED, NETTXF_EXTRA_INFO, NETTXF_MORE_DATA, NetifTxRequest, NetifTxResponse,
};
use zerocopy::FromBytes;

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The ring or the buffers are full: try again when the other side has answered.
    Full,
    /// It is shorter than an Ethernet header or longer than a frame can be.
    Size,
}

/// What the other side said of frames since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Parts of frames that were sent.
    pub sent: u32,
    /// Parts of frames that the other side refused or dropped.
    pub dropped: u32,
}

/// The ring and its buffers, which are granted for good.
pub struct Transmit {
    ring: FrontRing<TransmitSlot, [u8; 4]>,
    buffers: Vec<Buffer>,
    /// Buffers that wait for no answer, and for each buffer whether it does.
    free: Vec<u16>,
    asked: Vec<bool>,
    /// Slots of extra information without an answer.
    extras: u32,
}

impl Transmit {
    /// Makes an empty ring of its pages, with at most 65,535 buffers.
    pub fn new(pages: SharedPages, buffers: Vec<Buffer>) -> Self {
        let count = u16::try_from(buffers.len()).unwrap_or(u16::MAX);
        let asked = buffers.iter().map(|_| false).collect();
        Self {
            ring: FrontRing::new(pages),
            buffers,
            free: (0..count).rev().collect(),
            asked,
            extras: 0,
        }
    }

    /// Returns whether a frame of the greatest size could be sent now.
    pub fn has_room(&self, size: usize) -> bool {
        let slots = size.div_ceil(PAGE_SIZE);
        self.free.len() >= slots && self.ring.free() as usize > slots
    }

    /// Puts a frame in. The other side sees it after [`publish`](Self::publish).
    pub fn send(&mut self, frame: &[u8], offload: Offload) -> Result<(), SendError> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Err(SendError::Size);
        }
        let parts = frame.len().div_ceil(PAGE_SIZE);
        debug_assert!(parts <= MAX_SLOTS);
        let slots = parts + usize::from(offload.segments.is_some());
        if self.free.len() < parts || (self.ring.free() as usize) < slots {
            return Err(SendError::Full);
        }
        for (number, part) in frame.chunks(PAGE_SIZE).enumerate() {
            let Some(id) = self.free.pop() else { return Err(SendError::Full) };
            let index = usize::from(id);
            let (Some(buffer), Some(asked)) = (self.buffers.get(index), self.asked.get_mut(index))
            else {
                return Err(SendError::Full);
            };
            buffer.page.pages().write(0, part);
            *asked = true;
            let first = number == 0;
            let mut flags = if number + 1 < parts { NETTXF_MORE_DATA } else { 0 };
            if first {
                flags |= match offload.checksum {
                    Checksum::Present => 0,
                    Checksum::Validated => NETTXF_DATA_VALIDATED,
                    Checksum::Blank => NETTXF_CSUM_BLANK | NETTXF_DATA_VALIDATED,
                };
                if offload.segments.is_some() {
                    flags |= NETTXF_EXTRA_INFO;
                }
            }
            let size = if first { frame.len() } else { part.len() };
            let size = u16::try_from(size).unwrap_or(u16::MAX);
            let request = NetifTxRequest { gref: buffer.reference, offset: 0, flags, id, size };
            // There was room for all of it.
            let _ = self.ring.push(&slot(&request));
            if let Some(segments) = offload.segments.filter(|_| first) {
                let _ = self.ring.push(&slot(&segments.extra()));
                self.extras += 1;
            }
        }
        Ok(())
    }

    /// Lets the other side see what was put in; returns whether it must be told.
    #[must_use = "the other side sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// Takes the other side's answers, which makes room.
    pub fn settle(&mut self) -> Result<Sent, NetError> {
        let mut sent = Sent::default();
        while let Some(response) = self.ring.take()? {
            let NetifTxResponse { id, status } = FromBytes::read_from_bytes(&response)
                .map_err(|_| NetError::Lied("an answer has no such size"))?;
            if status == NETIF_RSP_NULL {
                self.extras = self
                    .extras
                    .checked_sub(1)
                    .ok_or(NetError::Lied("it answered extra information that was not sent"))?;
                continue;
            }
            let asked = self.asked.get_mut(usize::from(id));
            if !asked.is_some_and(core::mem::take) {
                return Err(NetError::Lied("it answered a frame that was not sent"));
            }
            self.free.push(id);
            match status {
                NETIF_RSP_OKAY => sent.sent += 1,
                NETIF_RSP_DROPPED | NETIF_RSP_ERROR => sent.dropped += 1,
                _ => return Err(NetError::Lied("it answered a frame with an unknown status")),
            }
        }
        Ok(sent)
    }

    /// Wishes for an event at the next answer; returns whether one is there already.
    pub fn rearm(&mut self) -> Result<bool, NetError> {
        Ok(self.ring.rearm()?)
    }

    /// Returns how many slots wait for an answer.
    pub fn outstanding(&self) -> u32 {
        self.ring.outstanding()
    }
}
