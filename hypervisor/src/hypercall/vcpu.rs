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
#[inline(never)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::GuestSpace;
    use crate::testbed::{GUEST_RAM, REQUEST, Testbed};
    use hv_core::memory::FrameMemory;
    use hypercall_abi::hypercall::VCPU_OP;
    use zerocopy::{Immutable, IntoBytes};

    fn op<T: IntoBytes + Immutable>(
        bed: &Testbed,
        command: u32,
        vcpu: u64,
        request: &T,
    ) -> Result<u64, Errno> {
        bed.put(request);
        match bed.call(1, VCPU_OP, [u64::from(command), vcpu, REQUEST, 0, 0]) {
            Outcome::Done(result) => result,
            Outcome::Again(_) => panic!("nothing interrupts"),
        }
    }

    fn info(bed: &Testbed, vcpu: u64, mfn: u64, offset: u32) -> Result<u64, Errno> {
        let request = VcpuRegisterVcpuInfo { mfn, offset, rsvd: 0 };
        op(bed, abi::VCPUOP_REGISTER_VCPU_INFO, vcpu, &request)
    }

    #[test]
    fn a_vcpu_info_takes_over_what_the_old_one_held_and_counts_as_pending() {
        let bed = Testbed::new();
        let shared = bed.domain(1).shared_info;
        bed.memory().write(MachineAddr::new(shared.raw() + 40), &[7]);
        assert_eq!(info(&bed, 0, GUEST_RAM.number(), 64), Ok(0));
        let at = bed.page(1, 0).raw() + 64;
        assert_eq!(bed.memory().load_u8(MachineAddr::new(at)), 1);
        assert_eq!(bed.memory().load_u64(MachineAddr::new(at + 8)), u64::MAX);
        assert_eq!(bed.memory().load_u8(MachineAddr::new(at + 40)), 7);
        assert_eq!(info(&bed, 0, GUEST_RAM.number(), 128), Err(Errno::EBUSY));
        assert_eq!(info(&bed, 1, GUEST_RAM.number(), 128), Ok(0));
    }

    #[test]
    fn a_misplaced_vcpu_info_is_refused() {
        let bed = Testbed::new();
        let page = GUEST_RAM.number();
        assert_eq!(info(&bed, 2, page, 0), Err(Errno::ENOENT));
        assert_eq!(info(&bed, 0, page, 4096), Err(Errno::EINVAL));
        assert_eq!(info(&bed, 0, page, u32::MAX), Err(Errno::EINVAL));
        assert_eq!(info(&bed, 0, page, 4096 - 40), Err(Errno::ENXIO));
        assert_eq!(info(&bed, 0, page, 4), Err(Errno::ENXIO));
        assert_eq!(info(&bed, 0, 5, 0), Err(Errno::EINVAL), "no page is there");
        assert_eq!(info(&bed, 0, u64::MAX, 0), Err(Errno::EINVAL));
        assert_eq!(info(&bed, 0, page, 4096 - 48), Ok(0), "none of them took the page");
        assert_eq!(op(&bed, 0, 0, &0_u64), Err(Errno::EINVAL));
        let outcome = bed.call(1, VCPU_OP, [10, 0, 0, 0, 0]);
        assert_eq!(outcome, Outcome::Done(Err(Errno::EFAULT)));
    }

    #[test]
    fn run_states_go_where_the_guest_says_until_it_says_nowhere() {
        let bed = Testbed::new();
        let register = |addr| {
            let request = VcpuRegisterRunstateMemoryArea { addr };
            op(&bed, abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, &request)
        };
        assert_eq!(register(u64::MAX), Err(Errno::EINVAL));
        // What the fake guest addresses is no memory of the domain's.
        assert_eq!(register(GuestSpace::BASE), Err(Errno::EINVAL));
        let page = bed.page(1, 2);
        let area = RunstateArea { first: (page, 48), second: (page, 0) };
        bed.hv.frames.lock().get(page.frame(), bed.domain(1).id).unwrap();
        let domain = bed.domain(1);
        let vcpu = domain.vcpu(VcpuId(0)).unwrap();
        *vcpu.runstate.lock() = Some(area);
        bed.hv.write_runstate(vcpu, hv_core::time::Nanos(1_000));
        assert_ne!(bed.memory().load_u64(MachineAddr::new(page.raw() + 16 + 8)), 0);
        assert_eq!(register(0), Ok(0));
        assert_eq!(*vcpu.runstate.lock(), None);
    }

    #[test]
    fn a_marked_update_ends_unmarked_also_across_two_pages() {
        let bed = Testbed::new();
        let (first, second) = (bed.page(1, 2), bed.page(1, 7));
        let start = MachineAddr::new(first.raw() + 4096 - 12);
        let domain = bed.domain(1);
        let vcpu = domain.vcpu(VcpuId(0)).unwrap();
        vcpu.marks_runstate.store(true, core::sync::atomic::Ordering::SeqCst);
        *vcpu.runstate.lock() = Some(RunstateArea { first: (start, 12), second: (second, 36) });
        bed.hv.write_runstate(vcpu, hv_core::time::Nanos(77));
        let mut bytes = [0; 48];
        bed.memory().read(start, &mut bytes[..12]);
        bed.memory().read(second, &mut bytes[12..]);
        let state = bed.hv.scheduler.lock().runstate(vcpu.sched, hv_core::time::Nanos(77));
        assert_eq!(bytes[8..16], state.entered.0.to_le_bytes());
        assert_eq!(bytes[..4], (state.state as u32).to_le_bytes());
        let sum: u64 = bytes[16..]
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .sum();
        assert_eq!(sum, 77);
    }
}
