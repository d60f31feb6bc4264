//! Stands in for the guest's translation where the library's logic is tested: addresses are what they are.

/// Returns the frame a virtual address is in.
pub(crate) fn frame_at(address: u64) -> u64 {
    address >> 12
}

/// Returns a pointer to an address.
pub(crate) fn pointer<T>(address: u64) -> *const T {
    let address = usize::try_from(address).expect("addresses have 64 bits here");
    core::ptr::with_exposed_provenance(address)
}
