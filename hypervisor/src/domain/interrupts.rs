//! Devices' interrupts: Dom0's, as long as it has not lent them to a guest.
//!
//! `hv-core` decides whether one may change hands. Dom0's controller is asked first, so that what was
//! lent costs Dom0's own interrupts nothing.

use crate::domain::Domain;
use crate::domain::destroy::Progress;
use crate::domain::uart;
use crate::state::Hypervisor;
use hv_core::ids::{DomId, Irq, VcpuId};
use hv_core::lifecycle::Dying;
use hv_core::vgic::{Injected, LendError};

impl Hypervisor {
    /// Makes a device's interrupt pending in the domain that has it; says whether there is one.
    pub fn inject_device(&self, dom0: &Domain, irq: Irq) -> bool {
        if self.inject_into(dom0, irq) {
            return true;
        }
        let holder = self.lent.lock().holder(irq);
        let guest = holder.and_then(|holder| self.domain(holder));
        guest.is_some_and(|guest| self.inject_into(&guest, irq))
    }

    /// Makes a device's interrupt pending in `domain`, if it has it; says whether it has.
    #[inline]
    fn inject_into(&self, domain: &Domain, irq: Irq) -> bool {
        let injected = domain.vgic.lock().inject_hardware(VcpuId(0), irq);
        let Injected::Pending(kick) = injected else { return false };
        self.wake(domain, kick);
        true
    }

    /// Lends a device's interrupt that Dom0 does not use to `guest`, for the rest of its life.
    pub fn lend_interrupt(&self, guest: &Domain, irq: Irq) -> Result<(), LendError> {
        let dom0 = self.domain(DomId::DOM0).ok_or(LendError::NotDom0s)?;
        if guest.life.lock().dying() != Dying::No {
            return Err(LendError::Dying);
        }
        if irq == uart::INTERRUPT && guest.uart.lock().is_some() {
            return Err(LendError::InUse);
        }
        self.lent.lock().note(irq, guest.id, &dom0.vgic.lock())?;
        let lent = dom0.vgic.lock().lend(irq);
        let Ok((edge, work)) = lent else {
            self.lent.lock().forget(irq);
            return Err(LendError::InUse);
        };
        self.carry_out_hardware(&dom0, &work);
        let borrowed = guest.vgic.lock().borrow(irq, edge);
        match borrowed {
            Ok(work) => self.carry_out_hardware(guest, &work),
            Err(_) => self.give_back(guest, irq),
        }
        borrowed.map(|_| ())
    }

    /// Takes an interrupt back that was lent to `guest`, which has to be dying.
    pub fn take_interrupt_back(&self, guest: &Domain, irq: Irq) -> Result<(), LendError> {
        let dom0 = self.domain(DomId::DOM0).ok_or(LendError::NotDom0s)?;
        let dying = guest.life.lock().dying() != Dying::No;
        self.lent.lock().may_return(irq, guest.id, dying, &dom0.vgic.lock())?;
        self.give_back(guest, irq);
        Ok(())
    }

    /// Takes all interrupts back that were lent to `guest`, which has stopped for good.
    pub fn take_interrupts_back(&self, guest: &Domain) -> Progress {
        loop {
            let irq = self.lent.lock().one_of(guest.id);
            let Some(irq) = irq else { return Progress::Done };
            self.give_back(guest, irq);
            if self.machine.interrupt_pending() {
                return Progress::More;
            }
        }
    }

    /// Makes an interrupt Dom0's again, which finds it as it set it up meanwhile.
    fn give_back(&self, guest: &Domain, irq: Irq) {
        let work = guest.vgic.lock().release_hardware(irq);
        self.carry_out_hardware(guest, &work);
        self.lent.lock().forget(irq);
        if let Some(dom0) = self.domain(DomId::DOM0) {
            let work = dom0.vgic.lock().assign_hardware(irq);
            self.carry_out_hardware(&dom0, &work);
        }
    }
}
