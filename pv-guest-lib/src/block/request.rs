//! Requests as they stand in a slot, and what they ask, checked.
//!
//! A back end looks at a copy of the slot, and at a copy of the pages with more segments, each made once; what this module returns is
//! within the device and within the pages, or an error.

use alloc::vec::Vec;
use hypercall_abi::io::blkif::{
    BLKIF_DISCARD_SECURE, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST, BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ, BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER, BLKIF_SEGMENTS_PER_PAGE, BlkifRequest, BlkifRequestDiscard,
    BlkifRequestIndirect, BlkifRequestSegment,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Sectors of a page.
const PAGE_SECTORS: u8 = 8;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To read or write.
    Transfer(Transfer),
    /// To make lasting what was written.
    Flush,
    /// To forget sectors.
    Discard {
        /// The first.
        sector: u64,
        /// How many.
        count: u64,
        /// Beyond recovery.
        secure: bool,
    },
    /// Something else, which is answered with "not supported".
    Unknown(u8),
}

/// To read or write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// To write, instead of to read.
    pub write: bool,
    /// After all that was asked before, and before all that comes.
    pub barrier: bool,
    /// First sector on the device.
    pub sector: u64,
    /// Where the data is.
    pub segments: Segments,
}

/// Where a transfer's segments stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segments {
    /// In the request.
    Here(Vec<BlkifRequestSegment>),
    /// In pages that these grants give.
    InPages {
        /// How many segments.
        count: usize,
        /// Grants of the pages they fill.
        references: Vec<u32>,
    },
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// It has no segments, or more than it can or may have.
    Segments,
    /// A segment's sectors are not in order or not in a page.
    SegmentRange,
    /// Its sectors are not all on the device.
    Sectors,
    /// An indirect request that is neither a read nor a write.
    Operation,
}

/// Returns the number that comes back in the response.
pub fn id(slot: &BlkifRequest) -> u64 {
    slot.id
}

/// Reads a copy of a slot; `max_indirect` is the most segments that were offered, 0 for none in pages.
pub fn parse(slot: &BlkifRequest, max_indirect: usize) -> Result<Request, BadRequest> {
    match slot.operation {
        BLKIF_OP_READ | BLKIF_OP_WRITE | BLKIF_OP_WRITE_BARRIER => {
            let count = usize::from(slot.nr_segments);
            let barrier = slot.operation == BLKIF_OP_WRITE_BARRIER;
            if count == 0 && barrier {
                return Ok(Request::Flush);
            }
            let segments = slot.seg.get(..count).filter(|segments| !segments.is_empty());
            Ok(Request::Transfer(Transfer {
                write: slot.operation != BLKIF_OP_READ,
                barrier,
                sector: slot.sector_number,
                segments: Segments::Here(segments.ok_or(BadRequest::Segments)?.to_vec()),
            }))
        }
        BLKIF_OP_FLUSH_DISKCACHE => Ok(Request::Flush),
        BLKIF_OP_DISCARD => {
            let discard: BlkifRequestDiscard = view(slot);
            Ok(Request::Discard {
                sector: discard.sector_number,
                count: discard.nr_sectors,
                secure: discard.flag & BLKIF_DISCARD_SECURE != 0,
            })
        }
        BLKIF_OP_INDIRECT if max_indirect > 0 => {
            let indirect: BlkifRequestIndirect = view(slot);
            let write = match indirect.indirect_op {
                BLKIF_OP_READ => false,
                BLKIF_OP_WRITE => true,
                _ => return Err(BadRequest::Operation),
            };
            let count = usize::from(indirect.nr_segments);
            if count == 0 || count > max_indirect {
                return Err(BadRequest::Segments);
            }
            let pages = count.div_ceil(BLKIF_SEGMENTS_PER_PAGE);
            let references = indirect.indirect_grefs.get(..pages).ok_or(BadRequest::Segments)?;
            Ok(Request::Transfer(Transfer {
                write,
                barrier: false,
                sector: indirect.sector_number,
                segments: Segments::InPages { count, references: references.to_vec() },
            }))
        }
        other => Ok(Request::Unknown(other)),
    }
}

/// A part of a page, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The grant of the page.
    pub reference: u32,
    /// First byte in it.
    pub offset: u16,
    /// Bytes.
    pub len: u16,
}

/// Checks a transfer's segments, which are a copy: each in its page, all of them on a device of `sectors` sectors.
pub fn check(
    segments: &[BlkifRequestSegment],
    sector: u64,
    sectors: u64,
) -> Result<Vec<Part>, BadRequest> {
    let mut parts = Vec::with_capacity(segments.len());
    let mut count = 0u64;
    for segment in segments {
        let (first, last) = (segment.first_sect, segment.last_sect);
        if first > last || last >= PAGE_SECTORS {
            return Err(BadRequest::SegmentRange);
        }
        let there = u16::from(last - first) + 1;
        count += u64::from(there);
        parts.push(Part {
            reference: segment.gref,
            offset: u16::from(first) * 512,
            len: there * 512,
        });
    }
    let end = sector.checked_add(count).ok_or(BadRequest::Sectors)?;
    if end > sectors {
        return Err(BadRequest::Sectors);
    }
    Ok(parts)
}

/// Reads segments from bytes that were copied out of their pages.
pub fn segments(bytes: &[u8], count: usize) -> Vec<BlkifRequestSegment> {
    let parts = bytes.chunks_exact(size_of::<BlkifRequestSegment>()).take(count);
    parts.filter_map(|part| BlkifRequestSegment::read_from_bytes(part).ok()).collect()
}

/// Looks at a slot as another kind of request.
fn view<T: FromBytes + FromZeros>(slot: &BlkifRequest) -> T {
    T::read_from_prefix(slot.as_bytes()).map_or_else(|_| T::new_zeroed(), |(request, _)| request)
}

/// Puts a request of another kind into a slot.
fn slot<T: IntoBytes + zerocopy::Immutable>(request: &T) -> BlkifRequest {
    let mut slot = BlkifRequest::new_zeroed();
    let bytes = request.as_bytes();
    if let Some(place) = slot.as_mut_bytes().get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
    slot
}

/// Makes a request to read or write with at most 11 segments, or with more that stand in pages granted by `indirect`.
pub fn transfer(
    id: u64,
    handle: u16,
    write: bool,
    sector: u64,
    segments: &[BlkifRequestSegment],
    indirect: &[u32],
) -> BlkifRequest {
    let operation = if write { BLKIF_OP_WRITE } else { BLKIF_OP_READ };
    if indirect.is_empty() {
        let mut seg = [BlkifRequestSegment::default(); BLKIF_MAX_SEGMENTS_PER_REQUEST];
        for (place, segment) in seg.iter_mut().zip(segments) {
            *place = *segment;
        }
        let nr_segments = u8::try_from(segments.len()).unwrap_or(u8::MAX);
        return BlkifRequest {
            operation,
            nr_segments,
            handle,
            pad: 0,
            id,
            sector_number: sector,
            seg,
        };
    }
    let mut indirect_grefs = [0; BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
    for (place, reference) in indirect_grefs.iter_mut().zip(indirect) {
        *place = *reference;
    }
    slot(&BlkifRequestIndirect {
        operation: BLKIF_OP_INDIRECT,
        indirect_op: operation,
        nr_segments: u16::try_from(segments.len()).unwrap_or(u16::MAX),
        id,
        sector_number: sector,
        handle,
        indirect_grefs,
        ..Default::default()
    })
}

/// Makes a request to make lasting what was written.
pub fn flush(id: u64, handle: u16) -> BlkifRequest {
    BlkifRequest { operation: BLKIF_OP_FLUSH_DISKCACHE, handle, id, ..Default::default() }
}

/// Makes a request to forget sectors.
pub fn discard(id: u64, handle: u16, sector: u64, count: u64, secure: bool) -> BlkifRequest {
    slot(&BlkifRequestDiscard {
        operation: BLKIF_OP_DISCARD,
        flag: if secure { BLKIF_DISCARD_SECURE } else { 0 },
        handle,
        id,
        sector_number: sector,
        nr_sectors: count,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(gref: u32, first_sect: u8, last_sect: u8) -> BlkifRequestSegment {
        BlkifRequestSegment { gref, first_sect, last_sect, pad: 0 }
    }

    #[test]
    fn what_a_front_end_writes_a_back_end_reads() {
        let segments = vec![segment(9, 0, 7), segment(10, 2, 3)];
        let slot = transfer(77, 51712, true, 1234, &segments, &[]);
        assert_eq!(id(&slot), 77);
        let expected = Transfer {
            write: true,
            barrier: false,
            sector: 1234,
            segments: Segments::Here(segments.clone()),
        };
        assert_eq!(parse(&slot, 256), Ok(Request::Transfer(expected)));
        let many = vec![segment(1, 0, 7); 20];
        let slot = transfer(5, 1, false, 9, &many, &[4]);
        let expected = Transfer {
            write: false,
            barrier: false,
            sector: 9,
            segments: Segments::InPages { count: 20, references: vec![4] },
        };
        assert_eq!((id(&slot), parse(&slot, 256)), (5, Ok(Request::Transfer(expected))));
        assert_eq!(parse(&flush(1, 2), 0), Ok(Request::Flush));
        let forget = Request::Discard { sector: 8, count: 16, secure: true };
        assert_eq!(parse(&discard(1, 2, 8, 16, true), 0), Ok(forget));
    }

    #[test]
    fn a_request_has_no_more_segments_than_it_can_have() {
        let mut slot = transfer(1, 0, false, 0, &[segment(1, 0, 0)], &[]);
        slot.nr_segments = 12;
        assert_eq!(parse(&slot, 0), Err(BadRequest::Segments));
        slot.nr_segments = 0;
        assert_eq!(parse(&slot, 0), Err(BadRequest::Segments));
        let many = vec![segment(1, 0, 7); 300];
        assert_eq!(parse(&transfer(1, 0, false, 0, &many, &[3]), 256), Err(BadRequest::Segments));
        assert_eq!(parse(&transfer(1, 0, false, 0, &[], &[3]), 256), Err(BadRequest::Segments));
    }

    #[test]
    fn segments_in_pages_are_refused_where_they_were_not_offered() {
        let slot = transfer(1, 0, false, 0, &[segment(1, 0, 7)], &[3]);
        assert_eq!(parse(&slot, 0), Ok(Request::Unknown(BLKIF_OP_INDIRECT)));
    }

    #[test]
    fn an_indirect_request_for_anything_but_data_is_refused() {
        let mut slot = transfer(1, 0, false, 0, &[segment(1, 0, 7)], &[3]);
        slot.nr_segments = BLKIF_OP_INDIRECT;
        assert_eq!(parse(&slot, 256), Err(BadRequest::Operation));
    }

    #[test]
    fn a_segment_stays_in_its_page() {
        assert_eq!(check(&[segment(1, 3, 2)], 0, 100), Err(BadRequest::SegmentRange));
        assert_eq!(check(&[segment(1, 0, 8)], 0, 100), Err(BadRequest::SegmentRange));
        assert_eq!(check(&[segment(1, 0, 255)], 0, 1000), Err(BadRequest::SegmentRange));
        let part = Part { reference: 1, offset: 512 * 7, len: 512 };
        assert_eq!(check(&[segment(1, 7, 7)], 99, 100), Ok(vec![part]));
    }

    #[test]
    fn a_transfer_stays_on_the_device() {
        assert_eq!(check(&[segment(1, 0, 1)], 99, 100), Err(BadRequest::Sectors));
        assert_eq!(check(&[segment(1, 0, 1)], u64::MAX, 100), Err(BadRequest::Sectors));
        assert_eq!(check(&[segment(1, 0, 0)], 100, 100), Err(BadRequest::Sectors));
    }

    proptest! {
        /// Whatever stands in a slot and in the pages it names, what comes out is inside the device and the pages.
        #[test]
        fn nothing_outside_the_device_or_a_page_comes_out(
            bytes in proptest::collection::vec(any::<u8>(), 112),
            page in proptest::collection::vec(any::<u8>(), 0..if cfg!(miri) { 64 } else { 4096 }),
            sectors in 0u64..5000,
            max in 0usize..600,
        ) {
            let slot = BlkifRequest::read_from_bytes(&bytes).unwrap();
            let Ok(Request::Transfer(transfer)) = parse(&slot, max) else { return Ok(()) };
            let found = match transfer.segments {
                Segments::Here(segments) => segments,
                Segments::InPages { count, references } => {
                    prop_assert!(count <= max && references.len() <= 8);
                    segments(&page, count)
                }
            };
            if let Ok(parts) = check(&found, transfer.sector, sectors) {
                let bytes: u64 = parts.iter().map(|part| u64::from(part.len)).sum();
                prop_assert!(transfer.sector * 512 + bytes <= sectors * 512);
                prop_assert!(parts.iter().all(|part| part.offset + part.len <= 4096));
            }
        }
    }
}
