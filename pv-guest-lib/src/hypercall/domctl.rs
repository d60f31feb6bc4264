//! Control of another domain (`public/domctl.h`); for Dom0.

use super::{HypercallError, address_of, raw, result};
use hypercall_abi::domctl::Domctl;
use hypercall_abi::hypercall::DOMCTL;

/// Makes a request; the answer replaces it. What its payload names must be borrowed for it, or other domains' memory.
pub fn call(request: &mut Domctl) -> Result<u64, HypercallError> {
    // SAFETY: the call reads and writes the structure, which is borrowed for it; the caller answers for the rest.
    result(unsafe { raw(DOMCTL, [address_of(request), 0, 0, 0, 0]) })
}
