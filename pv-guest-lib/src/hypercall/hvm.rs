//! Parameters of a domain (`public/hvm/hvm_op.h`).

use super::{HypercallError, with};
use hypercall_abi::hvm::{HVMOP_GET_PARAM, HVMOP_SET_PARAM, HvmParam};
use hypercall_abi::hypercall::HVM_OP;

/// Reads a parameter.
pub fn get_param(domid: u16, index: u32) -> Result<u64, HypercallError> {
    let mut request = HvmParam { domid, pad: 0, index, value: 0 };
    with(HVM_OP, HVMOP_GET_PARAM, &mut request)?;
    Ok(request.value)
}

/// Sets a parameter.
pub fn set_param(domid: u16, index: u32, value: u64) -> Result<(), HypercallError> {
    let mut request = HvmParam { domid, pad: 0, index, value };
    with(HVM_OP, HVMOP_SET_PARAM, &mut request).map(drop)
}
