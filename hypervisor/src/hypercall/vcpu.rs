//! `HYPERVISOR_vcpu_op` (`public/vcpu.h`): the two that Arm has.

use super::{Arguments, Caller, Outcome, word};
use crate::domain::vcpu::{RunstateArea, Vcpu};
use hv_core::addr::{Gfn, MachineAddr, PAGE_SIZE};
use hv_core::evtchn::VCPU_INFO_SIZE;
use hv_core::grant::Access;
use hv_core::guest::Handle;
use hv_core::ids::VcpuId;
use hypercall_abi::errno::Errno;
use hypercall_abi::vcpu::{
    self as abi, VcpuRegisterRunstateMemoryArea, VcpuRegisterVcpuInfo, VcpuRunstateInfo,
};

const PAGE: u64 = PAGE_SIZE;

/// Carries out the sub-operation in x0 on the virtual processor in x1, with the structure x2 points to.
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, vcpu, argument, ..] = *arguments;
    let Some(vcpu) = caller.domain.vcpu(VcpuId(word(vcpu))) else { return Errno::ENOENT.into() };
    let result = match word(command) {
        abi::VCPUOP_REGISTER_VCPU_INFO => register_vcpu_info(caller, vcpu, argument),
        abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => register_runstate(caller, vcpu, argument),
        _ => Err(Errno::EINVAL),
    };
    result.into()
}

fn register_vcpu_info(caller: &Caller<'_>, vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let request = Handle::<VcpuRegisterVcpuInfo>::from_register(argument).load(caller.guest)?;
    let offset = u64::from(request.offset);
    if offset >= PAGE {
        return Err(Errno::EINVAL);
    }
    if offset + VCPU_INFO_SIZE as u64 > PAGE || !offset.is_multiple_of(8) {
        return Err(Errno::ENXIO);
    }
    let frame = caller
        .hv
        .hold_ram(caller.domain, Gfn::new(request.mfn), Access::Write)
        .ok_or(Errno::EINVAL)?;
    let info = MachineAddr::new(frame.base().raw() + offset);
    let outcome =
        caller.domain.ports.lock().register_vcpu_info(caller.memory(), vcpu.who.vcpu, info);
    match outcome {
        Ok(notify) => {
            caller.hv.notify(caller.domain, notify);
            Ok(())
        }
        Err(error) => {
            caller.hv.put_page(frame);
            Err(error.into())
        }
    }
}

/// Registers where a virtual processor's run states go; a null pointer stops them.
///
/// The address is virtual, and translated once, now: the guest may not move the page under it.
fn register_runstate(caller: &Caller<'_>, vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<VcpuRegisterRunstateMemoryArea>::from_register(argument);
    let request = handle.load(caller.guest)?;
    let area = if request.addr == 0 { None } else { Some(runstate_area(caller, request.addr)?) };
    let old = core::mem::replace(&mut *vcpu.runstate.lock(), area);
    if let Some(old) = old {
        release(caller, old);
    }
    caller.hv.write_runstate(vcpu, caller.hv.machine.now());
    Ok(())
}

fn runstate_area(caller: &Caller<'_>, address: u64) -> Result<RunstateArea, Errno> {
    let size = size_of::<VcpuRunstateInfo>();
    let room = PAGE - (address & (PAGE - 1));
    let first_len = usize::try_from(room).map_or(size, |room| size.min(room));
    let first = hold_address(caller, address)?;
    let second = if first_len == size {
        (first, 0)
    } else {
        let outcome = hold_address(caller, address.wrapping_add(room));
        let second = outcome.inspect_err(|_| caller.hv.put_page(first.frame()))?;
        (second, size - first_len)
    };
    Ok(RunstateArea { first: (first, first_len), second })
}

fn hold_address(caller: &Caller<'_>, address: u64) -> Result<MachineAddr, Errno> {
    let at = caller.guest.locate(address).map_err(|_| Errno::EINVAL)?;
    caller.hv.frames.lock().get(at.frame(), caller.domain.id)?;
    Ok(at)
}

fn release(caller: &Caller<'_>, area: RunstateArea) {
    for (at, len) in [area.first, area.second] {
        if len != 0 {
            caller.hv.put_page(at.frame());
        }
    }
}
