//! Control of the machine (`public/sysctl.h`); for Dom0.

use super::{HypercallError, address_of, raw, result};
use hypercall_abi::hypercall::SYSCTL;
use hypercall_abi::sysctl::{PhysInfo, Sysctl, XEN_SYSCTL_PHYSINFO};

/// Makes a request; the answer replaces it. What its payload names must be borrowed for it.
pub fn call(request: &mut Sysctl) -> Result<u64, HypercallError> {
    // SAFETY: the call reads and writes the structure, which is borrowed for it; the caller answers for the rest.
    result(unsafe { raw(SYSCTL, [address_of(request), 0, 0, 0, 0]) })
}

/// Returns what the machine has and what of it is free.
pub fn physinfo() -> Result<PhysInfo, HypercallError> {
    let mut request = Sysctl::new(XEN_SYSCTL_PHYSINFO);
    call(&mut request)?;
    Ok(request.payload())
}
