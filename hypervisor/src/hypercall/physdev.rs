//! `HYPERVISOR_physdev_op` (`public/physdev.h`): PCI devices are Dom0's own affair here.

use super::{Arguments, Caller, Outcome};
use hypercall_abi::errno::Errno;

/// Refuses every operation, as Xen on Arm does when it is built without PCI pass-through.
pub fn handle(_: &Caller<'_>, _: &Arguments) -> Outcome {
    Errno::ENOSYS.into()
}
