//! A back end's two rings: frames that a front end sends, and frames for it.

use super::{
    Checksum, MAX_EXTRAS, MAX_FRAME, MAX_SLOTS, MIN_FRAME, NetError, Offload, ReceiveSlot,
    Segments, TransmitSlot, from_slot, slot,
};
use crate::page::{PAGE_SIZE, SharedPages};
use crate::ring::BackRing;
use alloc::vec::Vec;
use hypercall_abi::io::netif::{
    NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_OKAY, NETRXF_CSUM_BLANK, NETRXF_DATA_VALIDATED,
    NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, NETTXF_CSUM_BLANK, NETTXF_DATA_VALIDATED,
    NETTXF_EXTRA_INFO, NETTXF_MORE_DATA, NetifExtraInfo, NetifRxRequest, NetifRxResponse,
    NetifTxRequest, NetifTxResponse, XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE_GSO,
};
use zerocopy::IntoBytes;

/// The front end does not let its page be used so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// How a front end's pages are reached: by copies, for which the hypervisor checks the grant.
pub trait GrantedMemory {
    /// Copies out of a granted page; all of it lies within the page.
    fn read(&mut self, reference: u32, offset: u16, to: &mut [u8]) -> Result<(), Refused>;
    /// Copies into a granted page, from its start; `from` is no longer than a page.
    fn write(&mut self, reference: u32, from: &[u8]) -> Result<(), Refused>;
}

/// A back end's end of the ring of frames the front end sends.
pub struct FromFront {
    ring: BackRing<TransmitSlot, [u8; 4]>,
    dropped: u32,
}

impl FromFront {
    /// Takes up a front end's ring.
    pub fn new(pages: SharedPages) -> Self {
        Self { ring: BackRing::new(pages), dropped: 0 }
    }

    /// Takes the next frame into `frame`, in place of what was there; frames whose pages cannot be read are answered so and skipped.
    pub fn take(
        &mut self,
        memory: &mut impl GrantedMemory,
        frame: &mut Vec<u8>,
    ) -> Result<Option<Offload>, NetError> {
        while let Some(slot) = self.ring.take()? {
            let first: NetifTxRequest = from_slot(&slot);
            let (offload, extras) = self.extras(&first)?;
            let parts = self.parts(first)?;
            let read = read_parts(&parts, memory, frame);
            let status = if read.is_ok() { NETIF_RSP_OKAY } else { NETIF_RSP_ERROR };
            for (number, part) in parts.iter().enumerate() {
                self.answer(part.id, status);
                if number == 0 {
                    (0..extras).for_each(|_| self.answer(0, NETIF_RSP_NULL));
                }
            }
            if read.is_ok() {
                return Ok(Some(offload));
            }
            self.dropped += 1;
        }
        Ok(None)
    }

    fn answer(&mut self, id: u16, status: i16) {
        let mut response = [0; 4];
        let answer = NetifTxResponse { id, status };
        for (to, from) in response.iter_mut().zip(answer.as_bytes()) {
            *to = *from;
        }
        // Each request that was taken has room for its answer.
        let _ = self.ring.push(&response);
    }

    /// Takes what follows a frame's first request and is no request.
    fn extras(&mut self, first: &NetifTxRequest) -> Result<(Offload, usize), NetError> {
        let checksum = if first.flags & NETTXF_CSUM_BLANK != 0 {
            Checksum::Blank
        } else if first.flags & NETTXF_DATA_VALIDATED != 0 {
            Checksum::Validated
        } else {
            Checksum::Present
        };
        let mut offload = Offload { checksum, segments: None };
        let mut extras = 0;
        let mut more = first.flags & NETTXF_EXTRA_INFO != 0;
        while more {
            extras += 1;
            if extras > MAX_EXTRAS {
                return Err(NetError::Lied("a frame has too much extra information"));
            }
            let slot = self.ring.take()?.ok_or(NetError::Lied("extra information is missing"))?;
            let extra: NetifExtraInfo = from_slot(&slot);
            if extra.kind != XEN_NETIF_EXTRA_TYPE_GSO {
                return Err(NetError::Lied("extra information is of an unknown kind"));
            }
            offload.segments = Some(Segments::parse(&extra)?);
            more = extra.flags & XEN_NETIF_EXTRA_FLAG_MORE != 0;
        }
        Ok((offload, extras))
    }

    /// Takes all requests of a frame; the first gets the size of its own part.
    fn parts(&mut self, first: NetifTxRequest) -> Result<Vec<NetifTxRequest>, NetError> {
        let mut parts = alloc::vec![first];
        let mut more = first.flags & NETTXF_MORE_DATA != 0;
        let mut left = first.size;
        while more {
            if parts.len() == MAX_SLOTS {
                return Err(NetError::Lied("a frame has too many parts"));
            }
            let slot = self.ring.take()?.ok_or(NetError::Lied("a part of a frame is missing"))?;
            let part: NetifTxRequest = from_slot(&slot);
            left = left
                .checked_sub(part.size)
                .filter(|left| *left > 0)
                .ok_or(NetError::Lied("a frame's parts are longer than the frame"))?;
            more = part.flags & NETTXF_MORE_DATA != 0;
            parts.push(part);
        }
        if usize::from(first.size) < MIN_FRAME {
            return Err(NetError::Lied("a frame is shorter than its header"));
        }
        if let Some(first) = parts.first_mut() {
            first.size = left;
        }
        let inside =
            |part: &NetifTxRequest| usize::from(part.offset) + usize::from(part.size) <= PAGE_SIZE;
        if !parts.iter().all(inside) {
            return Err(NetError::Lied("a part of a frame is not within its page"));
        }
        Ok(parts)
    }

    /// Lets the front end see the answers; returns whether it must be told.
    #[must_use = "the other side sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// Returns how many frames could not be read since it was last asked.
    pub fn dropped(&mut self) -> u32 {
        core::mem::take(&mut self.dropped)
    }

    /// Wishes for an event at the next frame; returns whether one is there already.
    pub fn rearm(&mut self) -> Result<bool, NetError> {
        Ok(self.ring.rearm()?)
    }
}

fn read_parts(
    parts: &[NetifTxRequest],
    memory: &mut impl GrantedMemory,
    frame: &mut Vec<u8>,
) -> Result<(), Refused> {
    frame.clear();
    for part in parts {
        let before = frame.len();
        frame.resize(before + usize::from(part.size), 0);
        memory.read(part.gref, part.offset, frame.get_mut(before..).unwrap_or_default())?;
    }
    Ok(())
}

/// What became of a frame for the front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a frame may have to wait"]
pub enum Delivery {
    /// It is in the front end's buffers, or was dropped since they cannot be written to.
    Done,
    /// The front end offers too few buffers now.
    NoRoom,
}

/// A back end's end of the ring of frames for the front end.
pub struct ToFront {
    ring: BackRing<NetifRxRequest, ReceiveSlot>,
}

impl ToFront {
    /// Takes up a front end's ring.
    pub fn new(pages: SharedPages) -> Self {
        Self { ring: BackRing::new(pages) }
    }

    /// Puts a frame into the front end's buffers; [`MIN_FRAME`] to [`MAX_FRAME`] bytes, any other is dropped.
    pub fn deliver(
        &mut self,
        memory: &mut impl GrantedMemory,
        frame: &[u8],
        offload: Offload,
    ) -> Result<Delivery, NetError> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Ok(Delivery::Done);
        }
        let parts = frame.len().div_ceil(PAGE_SIZE);
        let slots = parts + usize::from(offload.segments.is_some());
        if (self.ring.available()? as usize) < slots {
            return Ok(Delivery::NoRoom);
        }
        for (number, part) in frame.chunks(PAGE_SIZE).enumerate() {
            let Some(request) = self.ring.take()? else { return Ok(Delivery::NoRoom) };
            let written = memory.write(request.gref, part);
            let status = i16::try_from(part.len()).unwrap_or(NETIF_RSP_ERROR);
            let status = if written.is_ok() { status } else { NETIF_RSP_ERROR };
            let mut flags = if number + 1 < parts { NETRXF_MORE_DATA } else { 0 };
            if number == 0 {
                flags |= match offload.checksum {
                    Checksum::Present => 0,
                    Checksum::Validated => NETRXF_DATA_VALIDATED,
                    Checksum::Blank => NETRXF_CSUM_BLANK | NETRXF_DATA_VALIDATED,
                };
                if offload.segments.is_some() {
                    flags |= NETRXF_EXTRA_INFO;
                }
            }
            let response = NetifRxResponse { id: request.id, offset: 0, flags, status };
            // Each request that was taken has room for its answer.
            let _ = self.ring.push(&slot(&response));
            if let Some(segments) = offload.segments.filter(|_| number == 0) {
                let _spent = self.ring.take()?;
                let _ = self.ring.push(&slot(&segments.extra()));
            }
        }
        Ok(Delivery::Done)
    }

    /// Lets the front end see the frames; returns whether it must be told.
    #[must_use = "the other side sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// Wishes for an event when buffers are offered; returns whether some are there already.
    pub fn rearm(&mut self) -> Result<bool, NetError> {
        Ok(self.ring.rearm()?)
    }
}
