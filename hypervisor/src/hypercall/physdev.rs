//! `HYPERVISOR_physdev_op` (`public/physdev.h`): PCI devices are Dom0's own affair here.
//!
//! Every PCI device is Dom0's and there is no I/O MMU to set up for one, so Dom0's word that a device
//! came or went is taken note of by saying yes. Xen on Arm, built without PCI pass-through, says
//! `ENOSYS`, at which Linux complains once for each device.

use super::{Arguments, Caller, Outcome};
use hv_core::guest::Handle;
use hypercall_abi::errno::Errno;
use hypercall_abi::physdev::{
    PHYSDEVOP_PCI_DEVICE_ADD, PHYSDEVOP_PCI_DEVICE_REMOVE, PciDevice, PciDeviceAdd,
};

/// Carries out operation x0 with the structure at x1.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [operation, address, ..] = *arguments;
    operate(caller, operation, address).into()
}

fn operate(caller: &Caller<'_>, operation: u64, address: u64) -> Result<(), Errno> {
    const ADD: u64 = PHYSDEVOP_PCI_DEVICE_ADD as u64;
    const REMOVE: u64 = PHYSDEVOP_PCI_DEVICE_REMOVE as u64;
    if !caller.domain.is_privileged() {
        return Err(Errno::ENOSYS);
    }
    match operation {
        ADD => Handle::<PciDeviceAdd>::from_register(address).load(caller.guest).map(drop)?,
        REMOVE => Handle::<PciDevice>::from_register(address).load(caller.guest).map(drop)?,
        _ => return Err(Errno::ENOSYS),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Domain;
    use crate::fixture::Fixture;
    use crate::machine::GuestSpace;
    use alloc::sync::Arc;
    use hv_core::ids::DomId;

    #[test]
    fn dom0_may_report_its_devices_and_nobody_else() {
        let fixture = Fixture::new();
        let guest = fixture.domain(DomId(3));
        let device = GuestSpace::BASE;
        let ask = |dom: &Arc<Domain>, operation: u32, address: u64| {
            let arguments = [u64::from(operation), address, 0, 0, 0];
            fixture.call(dom, |caller| handle(caller, &arguments))
        };
        let dom0 = fixture.hv.domain(DomId::DOM0).unwrap();
        assert_eq!(ask(&dom0, PHYSDEVOP_PCI_DEVICE_ADD, device), Outcome::Done(Ok(0)));
        assert_eq!(ask(&dom0, PHYSDEVOP_PCI_DEVICE_REMOVE, device), Outcome::Done(Ok(0)));
        assert_eq!(ask(&dom0, PHYSDEVOP_PCI_DEVICE_ADD, 1), Outcome::Done(Err(Errno::EFAULT)));
        assert_eq!(ask(&dom0, 99, device), Outcome::Done(Err(Errno::ENOSYS)));
        assert_eq!(
            ask(&guest, PHYSDEVOP_PCI_DEVICE_ADD, device),
            Outcome::Done(Err(Errno::ENOSYS))
        );
    }
}
