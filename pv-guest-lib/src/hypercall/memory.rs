//! Memory operations (`public/memory.h`).

use super::{HypercallError, address_of, raw, result};
use alloc::vec::Vec;
use hypercall_abi::hypercall::MEMORY_OP;
use hypercall_abi::memory as abi;
use hypercall_abi::memory::{AddToPhysmap, AddToPhysmapBatch, MemoryDomain, MemoryReservation};

type Result<T> = core::result::Result<T, HypercallError>;

fn with<T>(operation: u64, argument: &mut T) -> Result<u64> {
    // SAFETY: the call reads and writes the structure, which is borrowed for it; callers answer for what it names.
    result(unsafe { raw(MEMORY_OP, [operation, address_of(argument), 0, 0, 0]) })
}

/// Maps something of the hypervisor's at a guest frame, which loses what it had.
pub fn add_to_physmap(domid: u16, space: u16, idx: u64, gpfn: u64) -> Result<()> {
    let mut request = AddToPhysmap { domid, size: 0, space: u32::from(space), idx, gpfn };
    with(abi::ADD_TO_PHYSMAP, &mut request).map(drop)
}

/// Maps frames of another domain at guest frames of the caller; returns each one's outcome.
pub fn map_foreign(domid: u16, frames: &[u64], at: &[u64]) -> Result<Vec<i32>> {
    assert_eq!(frames.len(), at.len());
    let mut errors = alloc::vec![0i32; frames.len()];
    let mut request = AddToPhysmapBatch {
        domid: hypercall_abi::ids::DOMID_SELF,
        space: abi::SPACE_GMFN_FOREIGN,
        size: u16::try_from(frames.len()).unwrap_or(u16::MAX),
        foreign_domid: domid,
        idxs: frames.as_ptr().expose_provenance() as u64,
        gpfns: at.as_ptr().expose_provenance() as u64,
        errs: address_of(errors.as_mut_slice()),
    };
    with(abi::ADD_TO_PHYSMAP_BATCH, &mut request)?;
    Ok(errors)
}

/// Makes a guest frame a hole.
pub fn remove_from_physmap(domid: u16, gpfn: u64) -> Result<()> {
    let mut request = abi::RemoveFromPhysmap { domid, gpfn, ..Default::default() };
    with(abi::REMOVE_FROM_PHYSMAP, &mut request).map(drop)
}

fn reservation(operation: u64, domid: u16, frames: &mut [u64], extent_order: u32) -> Result<u64> {
    let mut request = MemoryReservation {
        extent_start: address_of(frames),
        nr_extents: frames.len() as u64,
        extent_order,
        domid,
        ..Default::default()
    };
    with(operation, &mut request)
}

/// Gives frames back; returns how many extents went.
pub fn decrease_reservation(domid: u16, frames: &mut [u64], order: u32) -> Result<u64> {
    reservation(abi::DECREASE_RESERVATION, domid, frames, order)
}

/// Asks for memory at guest frames; returns how many extents came.
pub fn populate_physmap(domid: u16, frames: &mut [u64], order: u32) -> Result<u64> {
    reservation(abi::POPULATE_PHYSMAP, domid, frames, order)
}

/// Returns the frames a domain has.
pub fn current_reservation(domid: u16) -> Result<u64> {
    with(abi::CURRENT_RESERVATION, &mut MemoryDomain { domid })
}

/// Returns the frames a domain may have.
pub fn maximum_reservation(domid: u16) -> Result<u64> {
    with(abi::MAXIMUM_RESERVATION, &mut MemoryDomain { domid })
}

/// Returns a domain's highest guest frame.
pub fn maximum_gpfn(domid: u16) -> Result<u64> {
    with(abi::MAXIMUM_GPFN, &mut MemoryDomain { domid })
}

/// Returns the machine's highest frame.
pub fn maximum_ram_page() -> Result<u64> {
    with(abi::MAXIMUM_RAM_PAGE, &mut 0u64)
}

/// Makes memory operation `operation` with a structure that names no memory, or none that is in use.
pub fn plain<T>(operation: u64, argument: &mut T) -> Result<u64> {
    with(operation, argument)
}
