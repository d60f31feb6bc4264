//! Shared interrupts of the host's that Dom0 lends to guests (`XEN_DOMCTL_bind_pt_irq`).
//!
//! Every device's interrupt is Dom0's, and one that it does not use may be a guest's for the rest of that
//! guest's life. [`Lent`] knows which are away; [`Vgic::lend`] and [`Vgic::borrow`] move one from one
//! controller to the other, so that never two domains stand for it. The caller carries out their work.

use super::{HardwareWork, Vgic, place};
use crate::ids::{DomId, Irq, VcpuId};
use alloc::vec::Vec;
use hypercall_abi::errno::Errno;

/// Why an interrupt stays where it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LendError {
    /// It is no device's interrupt of Dom0's.
    NotDom0s,
    /// Another domain, or the same, has it or uses its number.
    InUse,
    /// The guest that is to lose it has it not.
    NotTheirs,
    /// The guest that is to have it is being destroyed.
    Dying,
    /// The hypervisor has no memory to remember it.
    NoMemory,
}

impl From<LendError> for Errno {
    fn from(error: LendError) -> Self {
        match error {
            LendError::NotDom0s => Self::EPERM,
            LendError::InUse => Self::EBUSY,
            LendError::NotTheirs => Self::EINVAL,
            LendError::Dying => Self::ESRCH,
            LendError::NoMemory => Self::ENOMEM,
        }
    }
}

/// Which of Dom0's interrupts guests have.
#[derive(Debug, Default)]
pub struct Lent(Vec<(Irq, DomId)>);

impl Lent {
    /// Returns the guest that has `irq`.
    pub fn holder(&self, irq: Irq) -> Option<DomId> {
        self.0.iter().find(|(lent, _)| *lent == irq).map(|(_, holder)| *holder)
    }

    /// Notes that `irq` is `guest`'s; `dom0` is the controller of the domain that lends it.
    pub fn note(&mut self, irq: Irq, guest: DomId, dom0: &Vgic) -> Result<(), LendError> {
        match self.holder(irq) {
            None if !is_device(dom0, irq) => Err(LendError::NotDom0s),
            None if guest != DomId::DOM0 => {
                self.0.try_reserve(1).map_err(|_| LendError::NoMemory)?;
                self.0.push((irq, guest));
                Ok(())
            }
            None | Some(_) => Err(LendError::InUse),
        }
    }

    /// Says whether `irq` may be taken from `guest`: not while it lives, as it would not notice.
    pub fn may_return(
        &self,
        irq: Irq,
        guest: DomId,
        dying: bool,
        dom0: &Vgic,
    ) -> Result<(), LendError> {
        let holder = match self.holder(irq) {
            None if !is_device(dom0, irq) => return Err(LendError::NotDom0s),
            None => DomId::DOM0,
            Some(holder) => holder,
        };
        match holder == guest {
            true if dying => Ok(()),
            true => Err(LendError::InUse),
            false => Err(LendError::NotTheirs),
        }
    }

    /// Forgets that `irq` is away.
    pub fn forget(&mut self, irq: Irq) {
        self.0.retain(|(lent, _)| *lent != irq);
    }

    /// Returns one of the interrupts that `guest` has.
    pub fn one_of(&self, guest: DomId) -> Option<Irq> {
        self.0.iter().find(|(_, holder)| *holder == guest).map(|(irq, _)| *irq)
    }
}

/// Says whether `irq` is a device's that `dom0` has.
fn is_device(dom0: &Vgic, irq: Irq) -> bool {
    !irq.is_private() && dom0.is_hardware(irq)
}

impl Vgic {
    /// Sets how `irq` is triggered, before it stands for a physical one that is triggered so.
    pub fn set_edge(&mut self, irq: Irq, edge: bool) {
        let (bank, bit) = place(irq);
        if let Some(state) = self.bank_mut(VcpuId(0), bank) {
            state.edge = if edge { state.edge | bit } else { state.edge & !bit };
        }
    }

    /// Gives up a shared interrupt's physical namesake unless the domain uses it; says as well whether it
    /// is edge-triggered.
    pub fn lend(&mut self, irq: Irq) -> Result<(bool, HardwareWork), LendError> {
        if !self.is_hardware(irq) || !self.is_idle(irq) {
            return Err(LendError::InUse);
        }
        let (bank, bit) = place(irq);
        let edge = self.bank(VcpuId(0), bank).is_some_and(|state| state.edge & bit != 0);
        Ok((edge, self.release_hardware(irq)))
    }

    /// Makes a shared interrupt stand for a physical one that was another domain's, triggered as that is,
    /// unless the domain has none of this number or uses it.
    pub fn borrow(&mut self, irq: Irq, edge: bool) -> Result<HardwareWork, LendError> {
        if self.is_hardware(irq) || !self.is_idle(irq) {
            return Err(LendError::InUse);
        }
        self.set_edge(irq, edge);
        Ok(self.assign_hardware(irq))
    }

    /// Says whether there is a shared interrupt of this number that nobody uses.
    fn is_idle(&self, irq: Irq) -> bool {
        let state = self.state(VcpuId(0), irq).filter(|_| !irq.is_private());
        state.is_some_and(|state| {
            !(state.enabled || state.pending || state.active || state.listed || state.queued)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Injected, Layout, Location, RedistributorRegion, VgicConfig};
    use super::*;
    use crate::addr::GuestAddr;
    use crate::exit::Width;

    const ONE: DomId = DomId(1);

    fn vgic() -> Vgic {
        let region = RedistributorRegion { base: GuestAddr::new(0x2_0000), vcpus: 128 };
        let layout = Layout::V3 {
            distributor: GuestAddr::new(0),
            redistributors: [region].into_iter().collect(),
        };
        Vgic::new(VgicConfig { vcpus: 1, spis: 32, layout })
    }

    fn spi(number: u32) -> Irq {
        Irq::spi(number).unwrap()
    }

    fn dom0() -> Vgic {
        let mut vgic = vgic();
        vgic.set_edge(spi(5), true);
        for irq in [Irq::ppi(11), spi(5), spi(6)] {
            let _ = vgic.assign_hardware(irq);
        }
        vgic
    }

    #[test]
    fn an_interrupt_moves_with_its_trigger_and_is_one_domains_at_a_time() {
        let (mut dom0, mut guest) = (dom0(), vgic());
        let (edge, work) = dom0.lend(spi(5)).unwrap();
        assert!(edge);
        assert_eq!((work.base, work.disable, work.deactivate), (32, 1 << 5, 1 << 5));
        assert_eq!(dom0.lend(spi(5)), Err(LendError::InUse));
        assert_eq!(dom0.inject_hardware(VcpuId(0), spi(5)), Injected::NotOurs);
        let work = guest.borrow(spi(5), edge).unwrap();
        assert_eq!((work.edge, work.level, work.enable), (1 << 5, 0, 0));
        assert_eq!(guest.borrow(spi(5), edge), Err(LendError::InUse));
        assert!(matches!(guest.inject_hardware(VcpuId(0), spi(5)), Injected::Pending(_)));
        let (edge, _) = dom0.lend(spi(6)).unwrap();
        assert_eq!(guest.borrow(spi(6), edge).unwrap().level, 1 << 6);
    }

    #[test]
    fn one_that_is_in_use_does_not_move() {
        let mut dom0 = dom0();
        let mut lists = super::super::FakeListRegisters::new(4);
        let enable = Location::Distributor { offset: 0x104 };
        let mut enabled = vgic();
        let _ = dom0.write(VcpuId(0), enable, Width::Word, 1 << 5, &mut lists);
        assert_eq!(dom0.lend(spi(5)), Err(LendError::InUse));
        let _ = enabled.write(VcpuId(0), enable, Width::Word, 1 << 5, &mut lists);
        assert_eq!(enabled.borrow(spi(5), false), Err(LendError::InUse));
        let _ = dom0.inject_hardware(VcpuId(0), spi(6));
        assert_eq!(dom0.lend(spi(6)), Err(LendError::InUse), "it is pending");
        assert_eq!(dom0.lend(Irq::ppi(11)), Err(LendError::InUse));
        assert_eq!(vgic().borrow(spi(32), false), Err(LendError::InUse), "there are 32");
    }

    #[test]
    fn what_dom0_has_is_noted_once_and_returned_by_the_dying_only() {
        let (dom0, mut lent) = (dom0(), Lent::default());
        let back = |lent: &Lent, irq, dom, dying| lent.may_return(irq, dom, dying, &dom0);
        for irq in [Irq::ppi(11), Irq::sgi(1), spi(7), spi(900)] {
            assert_eq!(lent.note(irq, ONE, &dom0), Err(LendError::NotDom0s));
            assert_eq!(back(&lent, irq, ONE, true), Err(LendError::NotDom0s));
        }
        assert_eq!(lent.note(spi(5), DomId::DOM0, &dom0), Err(LendError::InUse));
        assert_eq!(back(&lent, spi(5), DomId::DOM0, false), Err(LendError::InUse));
        assert_eq!(back(&lent, spi(5), ONE, true), Err(LendError::NotTheirs));
        assert_eq!(lent.note(spi(5), ONE, &dom0), Ok(()));
        assert_eq!(lent.note(spi(5), DomId(2), &dom0), Err(LendError::InUse));
        assert_eq!(back(&lent, spi(5), ONE, false), Err(LendError::InUse));
        assert_eq!(back(&lent, spi(5), DomId(2), true), Err(LendError::NotTheirs));
        assert_eq!(back(&lent, spi(5), ONE, true), Ok(()));
        assert_eq!((lent.one_of(ONE), lent.one_of(DomId(2))), (Some(spi(5)), None));
        lent.forget(spi(5));
        assert_eq!(lent.holder(spi(5)), None);
    }

    #[test]
    fn errors_are_xens() {
        let errors = [
            (LendError::NotDom0s, Errno::EPERM),
            (LendError::InUse, Errno::EBUSY),
            (LendError::NotTheirs, Errno::EINVAL),
            (LendError::Dying, Errno::ESRCH),
        ];
        for (error, errno) in errors {
            assert_eq!(Errno::from(error), errno);
        }
    }
}
