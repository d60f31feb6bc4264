//! Virtual interrupts: events that the hypervisor itself raises (`public/xen.h`, `VIRQ_*`).
//!
//! Some are each virtual processor's own; the others belong to a domain, bound on its processor 0
//! and then deliverable anywhere.

use super::EvtchnError;
use crate::ids::DomId;

/// How many virtual interrupts there are (`NR_VIRQS`).
pub const VIRQ_COUNT: usize = 24;

/// The number of a virtual interrupt.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(transparent)]
pub struct Virq(u8);

impl Virq {
    /// The timebase, as old guests asked for it.
    pub const TIMER: Self = Self(0);
    /// A debug key asked the guest to say how it is.
    pub const DEBUG: Self = Self(1);
    /// Input stands at the hypervisor's console.
    pub const CONSOLE: Self = Self(2);
    /// A domain shut down or went away.
    pub const DOM_EXC: Self = Self(3);
    /// Trace buffers fill up.
    pub const TBUF: Self = Self(4);
    /// The message buffer has grown.
    pub const CON_RING: Self = Self(8);
    /// A physical processor came or went.
    pub const PCPU_STATE: Self = Self(9);

    /// Takes a number from a guest; nothing for one past the last.
    pub fn new(number: u32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| usize::from(*number) < VIRQ_COUNT).map(Self)
    }

    /// Returns the number as the guest knows it.
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Returns the number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Says whether the interrupt belongs to a domain and not to each of its processors: all but
    /// the timer, the debug key and the two profilers.
    pub const fn is_global(self) -> bool {
        !matches!(self.0, 0 | 1 | 7 | 13)
    }
}

/// Which domain each global virtual interrupt goes to (`XEN_DOMCTL_set_virq_handler`).
#[derive(Debug)]
pub struct Handlers([DomId; VIRQ_COUNT]);

impl Default for Handlers {
    /// All go to Dom0.
    fn default() -> Self {
        Self([DomId::DOM0; VIRQ_COUNT])
    }
}

impl Handlers {
    /// Returns the domain that `virq` goes to.
    pub fn of(&self, virq: Virq) -> DomId {
        self.0.get(virq.index()).copied().unwrap_or(DomId::DOM0)
    }

    /// Has the interrupt `number` go to `dom`. There must be one, and it must be global; one that is being
    /// destroyed (`dying`) gets none.
    pub fn set(&mut self, number: u32, dom: DomId, dying: bool) -> Result<(), EvtchnError> {
        let virq = Virq::new(number).filter(|virq| virq.is_global());
        let handler = virq.and_then(|virq| self.0.get_mut(virq.index()));
        let handler = handler.ok_or(EvtchnError::BadVirq)?;
        if *handler != dom && dying {
            return Err(EvtchnError::BadVirq);
        }
        *handler = dom;
        Ok(())
    }

    /// Has all that went to `dom` go to Dom0 again.
    pub fn forget(&mut self, dom: DomId) {
        for handler in self.0.iter_mut().filter(|handler| **handler == dom) {
            *handler = DomId::DOM0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_one_goes_to_the_domain_that_was_named_until_that_is_gone() {
        let mut handlers = Handlers::default();
        let set = |handlers: &mut Handlers, number, dying| handlers.set(number, DomId(3), dying);
        for number in [0, 1, 7, 13, 24, u32::MAX] {
            assert_eq!(set(&mut handlers, number, false), Err(EvtchnError::BadVirq));
        }
        assert_eq!(set(&mut handlers, 3, true), Err(EvtchnError::BadVirq));
        assert_eq!(handlers.of(Virq::DOM_EXC), DomId::DOM0);
        assert_eq!(set(&mut handlers, 3, false), Ok(()));
        assert_eq!(set(&mut handlers, 3, true), Ok(()), "nothing changes");
        let of = |handlers: &Handlers| [Virq::DOM_EXC, Virq::CONSOLE].map(|virq| handlers.of(virq));
        assert_eq!(of(&handlers), [DomId(3), DomId::DOM0]);
        handlers.forget(DomId(2));
        assert_eq!(of(&handlers), [DomId(3), DomId::DOM0]);
        handlers.forget(DomId(3));
        assert_eq!(of(&handlers), [DomId::DOM0; 2]);
    }

    #[test]
    fn numbers_past_the_last_are_none() {
        assert_eq!(Virq::new(23).map(Virq::number), Some(23));
        assert_eq!(Virq::new(24), None);
        assert_eq!(Virq::new(u32::MAX), None);
    }

    #[test]
    fn four_belong_to_each_processor() {
        let own: Vec<u32> =
            (0..24).filter(|number| !Virq::new(*number).unwrap().is_global()).collect();
        assert_eq!(own, [0, 1, 7, 13]);
    }
}
