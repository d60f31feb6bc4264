//! `HYPERVISOR_platform_op` (`public/platform.h`): the time of day.

use super::{Arguments, Caller, Outcome};
use crate::domain::time::Wallclock;
use hv_core::guest::Handle;
use hv_core::privilege;
use hv_core::time::Nanos;
use hypercall_abi::errno::Errno;
use hypercall_abi::platform::{PlatformOp, SetTime64, XENPF_INTERFACE_VERSION, XENPF_SETTIME64};

/// Carries out the operation at the address in x0.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [argument, ..] = *arguments;
    operation(caller, argument).into()
}

fn operation(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<PlatformOp>::from_register(argument).load(caller.guest)?;
    if request.interface_version != XENPF_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    privilege::control(caller.subject())?;
    match request.cmd {
        XENPF_SETTIME64 => set_time(caller, request.payload()),
        _ => Err(Errno::ENOSYS),
    }
}

/// Sets the time of day: `system_time` is how long the caller has existed by then.
fn set_time(caller: &Caller<'_>, request: SetTime64) -> Result<(), Errno> {
    if request.mbz != 0 {
        return Err(Errno::EINVAL);
    }
    let machine = &caller.hv.machine;
    let created = machine.moment(caller.domain.settings.counter_offset);
    let moment = created + Nanos(request.system_time);
    let wallclock = Wallclock::at_start(request.secs, request.nsecs, moment);
    *caller.hv.wallclock.lock() = wallclock;
    for domain in caller.hv.all_domains()? {
        domain.write_wallclock(machine, wallclock);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Testbed;
    use hv_core::addr::MachineAddr;
    use hv_core::memory::FrameMemory;
    use hypercall_abi::hypercall::PLATFORM_OP;
    use zerocopy::IntoBytes;

    fn request(time: SetTime64) -> PlatformOp {
        let mut payload = [0; 128];
        payload[..24].copy_from_slice(time.as_bytes());
        PlatformOp { cmd: XENPF_SETTIME64, interface_version: XENPF_INTERFACE_VERSION, payload }
    }

    fn call(bed: &Testbed, caller: u16, request: &PlatformOp) -> Outcome {
        bed.put(request);
        bed.call(caller, PLATFORM_OP, [crate::testbed::REQUEST, 0, 0, 0, 0])
    }

    #[test]
    fn the_time_dom0_sets_reaches_every_domain() {
        let bed = Testbed::new();
        let time = SetTime64 { secs: 1_000, nsecs: 5, mbz: 0, system_time: 2_000_000_005 };
        assert_eq!(call(&bed, 0, &request(time)), Outcome::Done(Ok(0)));
        for domain in 0..3 {
            let shared = bed.domain(domain).shared_info.raw();
            assert_eq!(bed.memory().load_u32(MachineAddr::new(shared + 1076)), 998);
            assert_eq!(bed.memory().load_u32(MachineAddr::new(shared + 1072)) % 2, 0);
        }
    }

    #[test]
    fn others_and_other_operations_are_refused() {
        let bed = Testbed::new();
        let good = request(SetTime64::default());
        assert_eq!(call(&bed, 1, &good), Errno::EPERM.into());
        let old = PlatformOp { interface_version: 1, ..good };
        assert_eq!(call(&bed, 1, &old), Errno::EACCES.into());
        assert_eq!(call(&bed, 0, &PlatformOp { cmd: 17, ..good }), Errno::ENOSYS.into());
        let odd = request(SetTime64 { mbz: 1, ..Default::default() });
        assert_eq!(call(&bed, 0, &odd), Errno::EINVAL.into());
        let outcome = bed.call(0, PLATFORM_OP, [8, 0, 0, 0, 0]);
        assert_eq!(outcome, Errno::EFAULT.into());
    }
}
