//! Hypercall dispatch: one module per hypercall, one match per module.
//!
//! A handler gets the caller and the argument registers and returns what goes into the result
//! register. Long operations stop when an interrupt waits, and say with which arguments the guest's
//! instruction is to be executed again.

mod bitmap;
pub mod console_io;
pub mod domctl;
pub mod event_channel;
pub mod extension;
pub mod grant_table;
pub mod hvm;
pub mod hypfs;
pub mod memory;
pub mod multicall;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod sysctl;
#[cfg(test)]
mod table;
pub mod vcpu;
pub mod version;
pub mod vm_assist;

use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::machine::{GuestSpace, Memory};
use crate::state::Hypervisor;
use alloc::sync::Arc;
use hv_core::ids::DomId;
use hv_core::privilege::{Neighbours, Subject};
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

impl Caller<'_> {
    /// Returns the memory of all guests, by machine address.
    pub fn memory(&self) -> &Memory {
        self.hv.machine.memory()
    }

    /// Returns the caller, as the rules of privilege see it.
    pub fn subject(&self) -> Subject {
        self.domain.subject()
    }

    /// Returns the domain that a request names, which may be the caller as `DOMID_SELF`.
    pub fn target(&self, dom: u16) -> Result<Arc<Domain>, Errno> {
        let dom = DomId(dom).resolve(self.domain.id);
        if dom == self.domain.id { Ok(Arc::clone(self.domain)) } else { self.other(dom.0) }
    }

    /// Says whether two ordinary domains may deal with each other.
    pub fn neighbours(&self) -> Neighbours {
        if self.hv.host.options.domains_may_share {
            Neighbours::Together
        } else {
            Neighbours::Apart
        }
    }

    /// Returns the domain that a request names by its number.
    pub fn other(&self, dom: u16) -> Result<Arc<Domain>, Errno> {
        self.hv.domain(DomId(dom)).ok_or(Errno::ESRCH)
    }
}

/// Returns what an argument of C's type `int` holds: the low half of its register.
#[expect(clippy::cast_possible_truncation, reason = "the high half means nothing")]
pub const fn word(register: u64) -> u32 {
    register as u32
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
///
/// Handlers stay functions of their own: what one of them keeps in registers and on the stack, the others, and
/// the shortest paths, need not pay for.
#[inline]
pub fn dispatch(caller: &Caller<'_>, number: u64, arguments: &Arguments) -> Outcome {
    use hypercall_abi::hypercall as numbers;
    match number {
        numbers::EVENT_CHANNEL_OP => event_channel::handle(caller, arguments),
        numbers::GRANT_TABLE_OP => grant_table::handle(caller, arguments),
        numbers::SCHED_OP => sched::handle(caller, arguments),
        numbers::XEN_VERSION => version::handle(caller, arguments),
        numbers::CONSOLE_IO => console_io::handle(caller, arguments),
        numbers::VCPU_OP => vcpu::handle(caller, arguments),
        numbers::HVM_OP => hvm::handle(caller, arguments),
        numbers::VM_ASSIST => vm_assist::handle(caller, arguments),
        numbers::PHYSDEV_OP => physdev::handle(caller, arguments),
        numbers::HYPFS_OP => hypfs::handle(caller, arguments),
        numbers::MULTICALL => multicall::handle(caller, arguments),
        numbers::PLATFORM_OP => platform::handle(caller, arguments),
        numbers::DOMCTL => domctl::handle(caller, arguments),
        numbers::SYSCTL => sysctl::handle(caller, arguments),
        numbers::MEMORY_OP => memory::handle(caller, arguments),
        numbers::EXTENSION => extension::handle(caller, arguments),
        _ => Errno::ENOSYS.into(),
    }
}
