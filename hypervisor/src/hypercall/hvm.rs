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
