//! Grant table operations (`public/grant_table.h`).

use super::{HypercallError, address_of, raw, result};
use hypercall_abi::grant_table as abi;
use hypercall_abi::hypercall::GRANT_TABLE_OP;

/// Makes operation `operation` on items; each item's own status is in it.
pub fn batch<T>(operation: u32, items: &mut [T]) -> Result<u64, HypercallError> {
    let arguments = [u64::from(operation), address_of(items), items.len() as u64, 0, 0];
    // SAFETY: the call reads and writes the items, which are borrowed for it; what they name is granted or mapped, which Rust does not know of.
    result(unsafe { raw(GRANT_TABLE_OP, arguments) })
}

fn one<T>(operation: u32, item: &mut T) -> Result<(), HypercallError> {
    batch(operation, core::slice::from_mut(item)).map(drop)
}

/// Maps a grant at a guest physical address; the answer has status, handle and device address.
pub fn map(
    dom: u16,
    reference: u32,
    host_addr: u64,
    flags: u32,
) -> Result<abi::GnttabMapGrantRef, HypercallError> {
    let mut item =
        abi::GnttabMapGrantRef { host_addr, flags, reference, dom, ..Default::default() };
    one(abi::GNTTABOP_MAP_GRANT_REF, &mut item)?;
    Ok(item)
}

/// Ends a mapping; returns one of `GNTST_`.
pub fn unmap(handle: u32, host_addr: u64) -> Result<i16, HypercallError> {
    let mut item = abi::GnttabUnmapGrantRef { host_addr, handle, ..Default::default() };
    one(abi::GNTTABOP_UNMAP_GRANT_REF, &mut item)?;
    Ok(item.status)
}

/// Asks how many frames a domain's table has and can have.
pub fn query_size(dom: u16) -> Result<abi::GnttabQuerySize, HypercallError> {
    let mut item = abi::GnttabQuerySize { dom, ..Default::default() };
    one(abi::GNTTABOP_QUERY_SIZE, &mut item)?;
    Ok(item)
}

/// Sets the version of the own table; returns the version in use.
pub fn set_version(version: u32) -> Result<u32, HypercallError> {
    let mut item = abi::GnttabSetVersion { version };
    one(abi::GNTTABOP_SET_VERSION, &mut item)?;
    Ok(item.version)
}

/// Returns the version of a domain's table.
pub fn get_version(dom: u16) -> Result<u32, HypercallError> {
    let mut item = abi::GnttabGetVersion { dom, ..Default::default() };
    one(abi::GNTTABOP_GET_VERSION, &mut item)?;
    Ok(item.version)
}

/// Copies between grants and frames; returns one of `GNTST_`.
pub fn copy(item: abi::GnttabCopy) -> Result<i16, HypercallError> {
    let mut item = item;
    one(abi::GNTTABOP_COPY, &mut item)?;
    Ok(item.status)
}
