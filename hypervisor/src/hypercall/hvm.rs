//! `HYPERVISOR_hvm_op` (`public/hvm/hvm_op.h`): the parameters of a guest.

use super::{Arguments, Caller, Outcome};
use hv_core::guest::Handle;
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::hvm::{self as abi, HvmParam};

/// Who may do what with a parameter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rule {
    /// The domain itself may.
    Anybody,
    /// Only others may who rule over it.
    Others,
    /// There is no such parameter on Arm.
    Nobody,
}

/// Carries out the operation in x0 with the structure x1 points to.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, argument, ..] = *arguments;
    let result = match u32::try_from(command) {
        Ok(abi::HVMOP_SET_PARAM) => set(caller, argument),
        Ok(abi::HVMOP_GET_PARAM) => get(caller, argument),
        // Nobody monitors guests here, so nobody hears of it.
        Ok(abi::HVMOP_GUEST_REQUEST_VM_EVENT) => {
            if argument == 0 {
                Ok(())
            } else {
                Err(Errno::EINVAL)
            }
        }
        _ => Err(Errno::ENOSYS),
    };
    result.into()
}

fn set(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<HvmParam>::from_register(argument).load(caller.guest)?;
    let target = caller.target(request.domid)?;
    privilege::over(caller.subject(), target.id)?;
    check(set_rule(request.index), target.id == caller.domain.id)?;
    let mut parameters = target.parameters.lock();
    *parameters.get_mut(request.index as usize).ok_or(Errno::EINVAL)? = request.value;
    Ok(())
}

fn get(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<HvmParam>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    let target = caller.target(request.domid)?;
    privilege::over(caller.subject(), target.id)?;
    check(get_rule(request.index), target.id == caller.domain.id)?;
    let value = target.parameters.lock().get(request.index as usize).copied();
    request.value = value.ok_or(Errno::EINVAL)?;
    Ok(handle.store(caller.guest, &request)?)
}

const fn check(rule: Rule, is_own: bool) -> Result<(), Errno> {
    match rule {
        Rule::Nobody => Err(Errno::EINVAL),
        Rule::Others if is_own => Err(Errno::EPERM),
        Rule::Anybody | Rule::Others => Ok(()),
    }
}

const fn set_rule(index: u32) -> Rule {
    match get_rule(index) {
        Rule::Nobody => Rule::Nobody,
        Rule::Anybody | Rule::Others => Rule::Others,
    }
}

const fn get_rule(index: u32) -> Rule {
    match index {
        abi::HVM_PARAM_CALLBACK_IRQ
        | abi::HVM_PARAM_STORE_PFN
        | abi::HVM_PARAM_STORE_EVTCHN
        | abi::HVM_PARAM_CONSOLE_PFN
        | abi::HVM_PARAM_CONSOLE_EVTCHN => Rule::Anybody,
        abi::HVM_PARAM_MONITOR_RING_PFN => Rule::Others,
        _ => Rule::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{REQUEST, Testbed};
    use hypercall_abi::hypercall::HVM_OP;

    const SELF: u16 = 0x7ff0;

    fn set(bed: &Testbed, caller: u16, domid: u16, index: u32) -> Result<u64, Errno> {
        let request = HvmParam { domid, index, value: 42, pad: 0 };
        bed.op(caller, HVM_OP, abi::HVMOP_SET_PARAM, &request)
    }

    fn get(bed: &Testbed, caller: u16, domid: u16, index: u32) -> Result<u64, Errno> {
        let request = HvmParam { domid, index, value: 1, pad: 0 };
        bed.op(caller, HVM_OP, abi::HVMOP_GET_PARAM, &request)?;
        Ok(bed.reply::<HvmParam>().value)
    }

    #[test]
    fn dom0_sets_what_the_guest_reads() {
        let bed = Testbed::new();
        assert_eq!(get(&bed, 1, SELF, abi::HVM_PARAM_STORE_PFN), Ok(0), "unset ones are 0");
        assert_eq!(set(&bed, 0, 1, abi::HVM_PARAM_STORE_PFN), Ok(0));
        assert_eq!(get(&bed, 1, SELF, abi::HVM_PARAM_STORE_PFN), Ok(42));
        assert_eq!(get(&bed, 2, SELF, abi::HVM_PARAM_STORE_PFN), Ok(0));
        assert_eq!(set(&bed, 0, 1, abi::HVM_PARAM_MONITOR_RING_PFN), Ok(0));
        let own = get(&bed, 1, SELF, abi::HVM_PARAM_MONITOR_RING_PFN);
        assert_eq!(own, Err(Errno::EPERM));
    }

    #[test]
    fn nobody_sets_its_own_and_guests_none_of_others() {
        let bed = Testbed::new();
        assert_eq!(set(&bed, 1, SELF, abi::HVM_PARAM_CALLBACK_IRQ), Err(Errno::EPERM));
        assert_eq!(set(&bed, 0, SELF, abi::HVM_PARAM_CALLBACK_IRQ), Err(Errno::EPERM));
        assert_eq!(set(&bed, 1, 2, abi::HVM_PARAM_STORE_PFN), Err(Errno::EPERM));
        assert_eq!(get(&bed, 1, 2, abi::HVM_PARAM_STORE_PFN), Err(Errno::EPERM));
        assert_eq!(get(&bed, 0, 50, abi::HVM_PARAM_STORE_PFN), Err(Errno::ESRCH));
        for index in [3, 16, 19, 27, 38, 39, u32::MAX] {
            assert_eq!(get(&bed, 0, 1, index), Err(Errno::EINVAL), "parameter {index}");
            assert_eq!(set(&bed, 0, 1, index), Err(Errno::EINVAL), "parameter {index}");
        }
    }

    #[test]
    fn other_operations_are_refused() {
        let bed = Testbed::new();
        assert_eq!(bed.call(1, HVM_OP, [1, 0, 0, 0, 0]), Errno::EFAULT.into());
        assert_eq!(bed.call(1, HVM_OP, [24, 0, 0, 0, 0]), Outcome::Done(Ok(0)));
        assert_eq!(bed.call(1, HVM_OP, [24, REQUEST, 0, 0, 0]), Errno::EINVAL.into());
        assert_eq!(bed.call(1, HVM_OP, [5, REQUEST, 0, 0, 0]), Errno::ENOSYS.into());
        assert_eq!(bed.call(1, HVM_OP, [1 << 32, REQUEST, 0, 0, 0]), Errno::ENOSYS.into());
    }
}
