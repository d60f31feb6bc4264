//! Questions about the hypervisor (`public/version.h`).

use super::{HypercallError, address_of, raw, result};
use hypercall_abi::hypercall::XEN_VERSION;
use hypercall_abi::version as abi;

/// Returns major number << 16 | minor number.
pub fn version() -> Result<u64, HypercallError> {
    // SAFETY: the call touches no memory.
    result(unsafe { raw(XEN_VERSION, [u64::from(abi::XENVER_VERSION), 0, 0, 0, 0]) })
}

/// Returns the page size.
pub fn page_size() -> Result<u64, HypercallError> {
    // SAFETY: the call touches no memory.
    result(unsafe { raw(XEN_VERSION, [u64::from(abi::XENVER_PAGESIZE), 0, 0, 0, 0]) })
}

/// Returns a word of features.
pub fn features(submap_idx: u32) -> Result<u32, HypercallError> {
    let mut request = abi::FeatureInfo { submap_idx, submap: 0 };
    into(abi::XENVER_GET_FEATURES, &mut request)?;
    Ok(request.submap)
}

/// Makes question `question`, whose answer fills `buffer`; it must be as large as the answer.
pub fn into<T: zerocopy::FromBytes>(question: u32, buffer: &mut T) -> Result<u64, HypercallError> {
    // SAFETY: the call writes to the buffer, which is borrowed for it.
    result(unsafe { raw(XEN_VERSION, [u64::from(question), address_of(buffer), 0, 0, 0]) })
}
