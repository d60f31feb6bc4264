//! Hypercall dispatch: one module per hypercall, one match per module.
//!
//! A handler gets the caller and the argument registers and returns what goes into the result
//! register. Long operations stop when an interrupt waits, and say with which arguments the guest's
//! instruction is to be executed again.

pub mod domctl;
pub mod memory;
pub mod sysctl;

use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::machine::GuestSpace;
use crate::state::Hypervisor;
use alloc::sync::Arc;
use hypercall_abi::errno::Errno;

/// Who makes a hypercall.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Everything there is.
    pub hv: &'a Hypervisor,
    /// The calling domain.
    pub domain: &'a Arc<Domain>,
    /// The calling virtual processor.
    pub vcpu: &'a Vcpu,
    /// The caller's memory, as it addresses it at this moment.
    pub guest: &'a GuestSpace,
}

/// The argument registers x0 to x4.
pub type Arguments = [u64; 5];

/// How a hypercall ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the guest waits for its result"]
pub enum Outcome {
    /// It is done, with this result or error.
    Done(Result<u64, Errno>),
    /// It goes on when the guest executes its instruction again with these arguments.
    Again(Arguments),
}

impl From<Result<u64, Errno>> for Outcome {
    fn from(result: Result<u64, Errno>) -> Self {
        Self::Done(result)
    }
}

impl From<Result<(), Errno>> for Outcome {
    fn from(result: Result<(), Errno>) -> Self {
        Self::Done(result.map(|()| 0))
    }
}

impl From<Errno> for Outcome {
    fn from(error: Errno) -> Self {
        Self::Done(Err(error))
    }
}

impl Outcome {
    /// Returns what goes into the result register of a call that is done.
    pub fn register(result: Result<u64, Errno>) -> u64 {
        match result {
            Ok(value) => value,
            Err(error) => error.to_register().cast_unsigned(),
        }
    }
}

/// Carries out hypercall `number`.
pub fn dispatch(caller: &Caller<'_>, number: u64, arguments: &Arguments) -> Outcome {
    use hypercall_abi::hypercall as numbers;
    match number {
        numbers::DOMCTL => domctl::handle(caller, arguments),
        numbers::SYSCTL => sysctl::handle(caller, arguments),
        numbers::MEMORY_OP => memory::handle(caller, arguments),
        _ => Errno::ENOSYS.into(),
    }
}
