//! Virtual interrupts: events that the hypervisor itself raises (`public/xen.h`, `VIRQ_*`).
//!
//! Some are each virtual processor's own; the others belong to a domain, bound on its processor 0
//! and then deliverable anywhere.

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

#[cfg(test)]
mod tests {
    use super::*;

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
