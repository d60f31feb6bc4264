//! `HYPERVISOR_vm_assist` (`public/xen.h`): the one assistance there is on Arm.

use super::{Arguments, Caller, Outcome, word};
use core::sync::atomic::Ordering;
use hypercall_abi::errno::Errno;
use hypercall_abi::hypercall::{
    VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_RUNSTATE_UPDATE_FLAG,
};

/// Turns the assistance in x1 on or off, as x0 says.
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, kind, ..] = *arguments;
    if word(kind) != VMASST_TYPE_RUNSTATE_UPDATE_FLAG {
        return Errno::EINVAL.into();
    }
    let on = match word(command) {
        VMASST_CMD_ENABLE => true,
        VMASST_CMD_DISABLE => false,
        _ => return Errno::ENOSYS.into(),
    };
    for vcpu in caller.domain.vcpus() {
        vcpu.marks_runstate.store(on, Ordering::SeqCst);
    }
    Outcome::Done(Ok(0))
}
