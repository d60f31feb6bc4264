//! Who gets what: interrupts of the hypervisor's and of devices.

use super::Request;
use hv_core::ids::Irq;
use hv_core::lifecycle::Dying;
use hv_core::vgic::LendError;
use hypercall_abi::domctl::{BindPtIrq, PT_IRQ_TYPE_SPI, SetVirqHandler};
use hypercall_abi::errno::Errno;

pub(super) fn set_virq_handler(request: &Request<'_>) -> Result<(), Errno> {
    let SetVirqHandler { virq } = request.domctl.payload();
    let dying = request.domain.life.lock().dying() != Dying::No;
    Ok(request.caller.hv.virq_handlers.lock().set(virq, request.domain.id, dying)?)
}

pub(super) fn bind(request: &Request<'_>) -> Result<(), Errno> {
    Ok(request.caller.hv.lend_interrupt(request.domain, interrupt(request)?)?)
}

pub(super) fn unbind(request: &Request<'_>) -> Result<(), Errno> {
    Ok(request.caller.hv.take_interrupt_back(request.domain, interrupt(request)?)?)
}

/// Returns the shared interrupt that is meant: the guest sees it under the number it really has.
fn interrupt(request: &Request<'_>) -> Result<Irq, Errno> {
    let BindPtIrq { machine_irq, irq_type, spi, .. } = request.domctl.payload();
    if irq_type != PT_IRQ_TYPE_SPI {
        return Err(Errno::EOPNOTSUPP);
    }
    if machine_irq != u32::from(spi) {
        return Err(Errno::EINVAL);
    }
    Ok(Irq::new(machine_irq).ok_or(LendError::NotDom0s)?)
}

#[cfg(test)]
mod tests {
    use crate::domain::Domain;
    use crate::domain::destroy::Progress;
    use crate::hypercall::Outcome;
    use crate::machine::Asked;
    use crate::testbed::{REQUEST, Testbed};
    use alloc::sync::Arc;
    use hv_core::evtchn::Virq;
    use hv_core::exit::Width;
    use hv_core::ids::{DomId, Irq, VcpuId};
    use hv_core::lifecycle::ShutdownReason;
    use hv_core::vgic::Location;
    use hypercall_abi::domctl as abi;
    use hypercall_abi::domctl::{BindPtIrq, Domctl, PT_IRQ_TYPE_SPI, SetVirqHandler};
    use hypercall_abi::errno::Errno;
    use hypercall_abi::hypercall::DOMCTL;
    use zerocopy::{Immutable, IntoBytes};

    fn op<T: Immutable + IntoBytes>(bed: &Testbed, cmd: u32, dom: u16, payload: &T) -> Outcome {
        bed.put(&Domctl::with(cmd, dom, payload));
        bed.call(0, DOMCTL, [REQUEST, 0, 0, 0, 0])
    }

    fn spi(number: u16) -> BindPtIrq {
        let machine_irq = u32::from(number);
        BindPtIrq { machine_irq, irq_type: PT_IRQ_TYPE_SPI, spi: number, ..BindPtIrq::default() }
    }

    fn bind(bed: &Testbed, dom: u16, number: u16) -> Outcome {
        op(bed, abi::XEN_DOMCTL_BIND_PT_IRQ, dom, &spi(number))
    }

    fn unbind(bed: &Testbed, dom: u16, number: u16) -> Outcome {
        op(bed, abi::XEN_DOMCTL_UNBIND_PT_IRQ, dom, &spi(number))
    }

    /// Gives Dom0 interrupts 40 and 41.
    fn with_devices() -> Testbed {
        let bed = Testbed::new();
        for number in [40, 41] {
            let _ = bed.domain(0).vgic.lock().assign_hardware(Irq::new(number).unwrap());
        }
        bed
    }

    fn irq(number: u32) -> Irq {
        Irq::new(number).unwrap()
    }

    /// Has a domain enable its interrupt 40, or disable it.
    fn enable(bed: &Testbed, dom: u16, on: bool) {
        let register = Location::Distributor { offset: if on { 0x104 } else { 0x184 } };
        let domain = bed.domain(dom);
        let mut lists = bed.hv.machine.lists();
        let work = domain.vgic.lock().write(VcpuId(0), register, Width::Word, 1 << 8, &mut lists);
        bed.hv.carry_out(&domain, work);
    }

    fn has(bed: &Testbed, number: u32) -> [bool; 3] {
        [0, 1, 2].map(|dom| bed.domain(dom).vgic.lock().is_hardware(irq(number)))
    }

    #[test]
    fn a_devices_interrupt_is_lent_to_a_guest_and_comes_back_at_its_end() {
        let bed = with_devices();
        bed.hv.machine.asked.lock().clear();
        assert_eq!(bind(&bed, 1, 40), Outcome::Done(Ok(0)));
        assert_eq!(has(&bed, 40), [false, true, false]);
        // Dom0 finds nothing there any more, and what it asks for reaches nobody's interrupt.
        enable(&bed, 0, true);
        let asked = core::mem::take(&mut *bed.hv.machine.asked.lock());
        assert_eq!(asked, [Asked::Disable(irq(40)), Asked::Deactivate(irq(40))]);
        enable(&bed, 1, true);
        assert!(bed.hv.machine.asked.lock().contains(&Asked::Enable(irq(40))));
        let pending = |dom| {
            let state = bed.domain(dom).vgic.lock().state(VcpuId(0), irq(40)).unwrap();
            state.pending || state.queued || state.listed
        };
        assert!(bed.hv.inject_device(&bed.domain(0), irq(40)));
        assert_eq!((pending(0), pending(1)), (false, true));
        assert!(bed.hv.inject_device(&bed.domain(0), irq(41)), "that is still Dom0's");
        bed.hv.machine.asked.lock().clear();
        let guest = bed.domain(1);
        while bed.hv.destroy(&guest) == Progress::More {}
        assert!(bed.domain(0).vgic.lock().is_hardware(irq(40)));
        let asked = core::mem::take(&mut *bed.hv.machine.asked.lock());
        let end = [Asked::Disable(irq(40)), Asked::Deactivate(irq(40)), Asked::Enable(irq(40))];
        let about: Vec<_> = asked.into_iter().filter(|asked| end.contains(asked)).collect();
        assert_eq!(about, end, "Dom0 enabled it meanwhile");
        assert!(bed.hv.inject_device(&bed.domain(0), irq(40)));
        assert!(pending(0));
        assert_eq!(bed.hv.lent.lock().holder(irq(40)), None);
    }

    #[test]
    fn lending_is_refused_as_xen_refuses_it() {
        let bed = with_devices();
        let other = |change: fn(&mut BindPtIrq)| {
            let mut payload = spi(40);
            change(&mut payload);
            let ops = [abi::XEN_DOMCTL_BIND_PT_IRQ, abi::XEN_DOMCTL_UNBIND_PT_IRQ];
            ops.map(|cmd| op(&bed, cmd, 1, &payload))
        };
        assert_eq!(other(|bind| bind.irq_type = 0), [Errno::EOPNOTSUPP.into(); 2]);
        assert_eq!(other(|bind| bind.spi = 41), [Errno::EINVAL.into(); 2]);
        for number in [0, 27, 42, 1020, u16::MAX] {
            assert_eq!(bind(&bed, 1, number), Errno::EPERM.into(), "{number}");
            assert_eq!(unbind(&bed, 1, number), Errno::EPERM.into(), "{number}");
        }
        assert_eq!(bind(&bed, 0, 40), Errno::EBUSY.into());
        assert_eq!(unbind(&bed, 0, 40), Errno::EBUSY.into());
        assert_eq!(unbind(&bed, 1, 40), Errno::EINVAL.into());
        for user in [0, 1] {
            enable(&bed, user, true);
            assert_eq!(bind(&bed, 1, 40), Errno::EBUSY.into(), "domain {user} uses it");
            assert_eq!(has(&bed, 40), [true, false, false]);
            enable(&bed, user, false);
        }
        assert_eq!(bind(&bed, 1, 40), Outcome::Done(Ok(0)));
        assert_eq!(bind(&bed, 1, 40), Errno::EBUSY.into());
        assert_eq!(bind(&bed, 2, 40), Errno::EBUSY.into());
        assert_eq!(unbind(&bed, 1, 40), Errno::EBUSY.into(), "it lives");
        assert_eq!(unbind(&bed, 2, 40), Errno::EINVAL.into());
        let _ = bed.domain(1).life.lock().die();
        assert_eq!(bind(&bed, 1, 41), Errno::ESRCH.into());
        assert_eq!(unbind(&bed, 1, 40), Outcome::Done(Ok(0)));
        assert_eq!(has(&bed, 40), [true, false, false]);
    }

    #[test]
    fn a_global_virtual_interrupt_goes_to_its_handler_and_to_dom0_when_that_is_gone() {
        let bed = Testbed::new();
        let set =
            |dom, virq| op(&bed, abi::XEN_DOMCTL_SET_VIRQ_HANDLER, dom, &SetVirqHandler { virq });
        for virq in [0, 1, 24, u32::MAX] {
            assert_eq!(set(1, virq), Errno::EINVAL.into());
        }
        let number = Virq::DOM_EXC.number();
        let ports = [0, 1].map(|dom| {
            let domain = bed.domain(dom);
            let port = domain.ports.lock().bind_virq(bed.memory(), number, 0).unwrap();
            (domain, port.number())
        });
        let told = || {
            let is = |(domain, port): &(Arc<Domain>, u32)| {
                domain.ports.lock().flags(bed.memory(), *port).0
            };
            [is(&ports[0]), is(&ports[1])]
        };
        assert_eq!(set(1, number), Outcome::Done(Ok(0)));
        bed.hv.shut_down(&bed.domain(2), ShutdownReason::POWEROFF);
        assert_eq!(told(), [false, true]);
        while bed.hv.destroy(&ports[1].0) == Progress::More {}
        assert!(told()[0]);
        let _ = bed.domain(2).life.lock().die();
        assert_eq!(set(2, number), Errno::EINVAL.into());
        assert_eq!(bed.hv.virq_handlers.lock().of(Virq::DOM_EXC), DomId::DOM0);
    }
}
