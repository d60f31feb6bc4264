//! Who must be told about an event: the answer of every function that may make one pending.

use crate::ids::{DomId, Port, VcpuId};
use core::fmt;

/// A set of a domain's virtual processors.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct VcpuSet(u128);

impl VcpuSet {
    /// How many virtual processors a domain may have.
    pub const CAPACITY: u32 = u128::BITS;

    const fn bit(vcpu: VcpuId) -> u128 {
        if vcpu.0 < Self::CAPACITY { 1 << vcpu.0 } else { 0 }
    }

    /// Adds `vcpu`.
    pub const fn insert(&mut self, vcpu: VcpuId) {
        self.0 |= Self::bit(vcpu);
    }

    /// Takes `vcpu` out; says whether it was in.
    pub const fn remove(&mut self, vcpu: VcpuId) -> bool {
        let was_in = self.0 & Self::bit(vcpu) != 0;
        self.0 &= !Self::bit(vcpu);
        was_in
    }

    /// Says whether `vcpu` is in the set.
    pub const fn contains(self, vcpu: VcpuId) -> bool {
        self.0 & Self::bit(vcpu) != 0
    }

    /// Says whether nobody is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Iterator for VcpuSet {
    type Item = VcpuId;

    fn next(&mut self) -> Option<VcpuId> {
        if self.0 == 0 {
            return None;
        }
        let vcpu = VcpuId(self.0.trailing_zeros());
        self.0 &= self.0 - 1;
        Some(vcpu)
    }
}

impl fmt::Debug for VcpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(*self).finish()
    }
}

/// Which virtual processors of the domain an event became visible to.
///
/// It is one register wide, since nearly always there is one at most. What does not fit waits in the
/// port table: [`super::PortTable::take_told`].
#[derive(Clone, Copy, Default, Eq, PartialEq)]
#[repr(transparent)]
#[must_use = "the guest sleeps on unless its processors are told"]
pub struct Notify(u64);

impl Notify {
    /// Nobody.
    pub const NO: Self = Self(0);
    /// There are processors that have to be asked for.
    const MORE: u64 = 1 << 32;

    /// Names `upcall`, and says whether there are `more`.
    pub(super) const fn new(upcall: Option<VcpuId>, more: bool) -> Self {
        let upcall = match upcall {
            Some(vcpu) => vcpu.0 as u64 + 1,
            None => 0,
        };
        Self(if more { upcall | Self::MORE } else { upcall })
    }

    /// Returns the processor whose event interrupt is to be asserted, and that is to be woken: its
    /// `evtchn_upcall_pending` went from 0 to 1.
    pub fn upcall(self) -> Option<VcpuId> {
        let number = u32::try_from(self.0 & (Self::MORE - 1)).unwrap_or(0);
        number.checked_sub(1).map(VcpuId)
    }

    /// Says whether there are more of them, or some that polled for the port.
    pub const fn has_more(self) -> bool {
        self.0 & Self::MORE != 0
    }

    /// Says whether there is nobody to tell.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify")
            .field("upcall", &self.upcall())
            .field("more", &self.has_more())
            .finish()
    }
}

/// Virtual processors that are still to be told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "the guest sleeps on unless its processors are told"]
pub struct Told {
    /// Assert the event interrupt of these and wake them.
    pub upcalls: VcpuSet,
    /// Wake these: they polled for a port and are no longer counted as polling.
    pub pollers: VcpuSet,
}

/// What a sent event asks of the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the event is lost unless its delivery is carried out"]
pub enum Delivery {
    /// Nobody is at the other end: nothing.
    Nowhere,
    /// The event came back to the sender's own domain and is pending there already.
    Here(Notify),
    /// Hand `event` to the port table of its domain: [`super::PortTable::receive`].
    To(Event),
}

/// An event on its way from one domain to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(align(8))]
pub struct Event {
    /// The domain it goes to.
    pub dom: DomId,
    /// The port it goes to.
    pub port: Port,
    /// The domain it comes from.
    pub from: DomId,
    /// The port it was sent on.
    pub from_port: Port,
}

/// What became of an event that arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the event is lost unless somebody is told"]
pub enum Arrival {
    /// It is pending in the guest.
    Guest(Notify),
    /// Its port is one that the hypervisor itself listens on.
    Hypervisor(Port),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_one_and_says_if_there_are_more() {
        let one = Notify::new(Some(VcpuId(0)), false);
        assert_eq!((one.upcall(), one.has_more(), one.is_none()), (Some(VcpuId(0)), false, false));
        let both = Notify::new(Some(VcpuId(127)), true);
        assert_eq!((both.upcall(), both.has_more()), (Some(VcpuId(127)), true));
        assert_eq!(Notify::new(None, false), Notify::NO);
        assert!(!Notify::new(None, true).is_none());
    }

    #[test]
    fn a_set_lists_its_members_in_order() {
        let mut set = VcpuSet::default();
        set.insert(VcpuId(127));
        set.insert(VcpuId(3));
        set.insert(VcpuId(128));
        assert_eq!(set.collect::<Vec<_>>(), [VcpuId(3), VcpuId(127)]);
        assert!(set.remove(VcpuId(3)));
        assert!(!set.remove(VcpuId(3)));
    }
}
