//! vCPU operations (`public/vcpu.h`).

use super::{HypercallError, address_of, raw, result};
use crate::page::SharedPage;
use hypercall_abi::hypercall::VCPU_OP;
use hypercall_abi::vcpu as abi;

fn with<T>(operation: u32, vcpu: usize, argument: &mut T) -> Result<(), HypercallError> {
    let arguments = [u64::from(operation), vcpu as u64, address_of(argument), 0, 0];
    // SAFETY: the call reads the structure; what it names is a page that only atomics reach.
    result(unsafe { raw(VCPU_OP, arguments) }).map(drop)
}

/// Gives a vCPU's `vcpu_info` its place, in a [`SharedPage`].
pub fn register_vcpu_info(vcpu: usize, mfn: u64, offset: usize) -> Result<(), HypercallError> {
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    let mut request = abi::VcpuRegisterVcpuInfo { mfn, offset, rsvd: 0 };
    with(abi::VCPUOP_REGISTER_VCPU_INFO, vcpu, &mut request)
}

/// Gives a vCPU's runstate its place, at the start of a page.
pub fn register_runstate(vcpu: usize, page: SharedPage) -> Result<(), HypercallError> {
    let mut request = abi::VcpuRegisterRunstateMemoryArea { addr: page.address() };
    with(abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, vcpu, &mut request)
}

/// Makes operation `operation` with a structure that names no memory.
pub fn plain<T>(operation: u32, vcpu: usize, argument: &mut T) -> Result<(), HypercallError> {
    with(operation, vcpu, argument)
}
