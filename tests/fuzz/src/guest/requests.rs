//! A block back end's view of a front end's request.

use hypercall_abi::io::blkif::BlkifRequest;
use pv_guest_lib::block::request::{Request, Segments, check, parse, segments};
use zerocopy::FromBytes;

const SECTORS: u64 = 1 << 20;

/// Takes a request, and behind it the pages of an indirect one's segments.
pub fn run(bytes: &[u8]) {
    let Ok((slot, rest)) = BlkifRequest::read_from_prefix(bytes) else { return };
    let Ok(Request::Transfer(transfer)) = parse(&slot, 256) else { return };
    let found = match transfer.segments {
        Segments::Here(segments) => segments,
        Segments::InPages { count, .. } => segments(rest, count),
    };
    if let Ok(parts) = check(&found, transfer.sector, SECTORS) {
        let len: u64 = parts.iter().map(|part| u64::from(part.len) / 512).sum();
        assert!(transfer.sector + len <= SECTORS);
        assert!(parts.iter().all(|part| part.offset + part.len <= 4096));
    }
}
