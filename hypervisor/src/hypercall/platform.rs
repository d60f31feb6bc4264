//! `HYPERVISOR_platform_op` (`public/platform.h`): the time of day.

use super::{Arguments, Caller, Outcome};
use crate::domain::time::Wallclock;
use hv_core::guest::Handle;
use hv_core::privilege;
use hv_core::time::Nanos;
use hypercall_abi::errno::Errno;
use hypercall_abi::platform::{PlatformOp, SetTime64, XENPF_INTERFACE_VERSION, XENPF_SETTIME64};

/// Carries out the operation at the address in x0.
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
    for domain in caller.hv.all_domains() {
        domain.write_wallclock(machine, wallclock);
    }
    Ok(())
}
