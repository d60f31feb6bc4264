//! `HYPERVISOR_vm_assist` (`public/xen.h`): the one assistance there is on Arm.

use super::{Arguments, Caller, Outcome, word};
use core::sync::atomic::Ordering;
use hypercall_abi::errno::Errno;
use hypercall_abi::hypercall::{
    VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_RUNSTATE_UPDATE_FLAG,
};

/// Turns the assistance in x1 on or off, as x0 says.
#[inline(never)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Testbed;
    use hypercall_abi::hypercall::VM_ASSIST;

    #[test]
    fn the_run_state_mark_is_turned_on_for_all_processors_and_off_again() {
        let bed = Testbed::new();
        let call = |command, kind| bed.call(1, VM_ASSIST, [command, kind, 0, 0, 0]);
        let marks = || {
            let domain = bed.domain(1);
            domain.vcpus().iter().all(|vcpu| vcpu.marks_runstate.load(Ordering::SeqCst))
        };
        assert_eq!(call(0, 5), Outcome::Done(Ok(0)));
        assert!(marks());
        assert_eq!(call(1, 5), Outcome::Done(Ok(0)));
        assert!(!marks());
        assert_eq!(call(2, 5), Errno::ENOSYS.into());
        assert_eq!(call(0, 4), Errno::EINVAL.into());
    }
}
