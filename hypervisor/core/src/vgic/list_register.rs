//! List registers: the few interrupts the hardware's virtual interface knows at a time.
//!
//! [`ListRegister`] has the layout of `ICH_LR<n>_EL2` (GICv3 architecture, IHI 0069, 12.4), so that a GICv3
//! host writes it as it stands; a GICv2 host has the same fields closer together ([`ListRegister::to_v2`]). [`ListRegisters`] is implemented by `hv-arch` over the registers of the
//! processor it runs on, and by [`crate::fake`] over an array.

use crate::ids::Irq;
#[cfg(any(test, feature = "fakes"))]
use alloc::vec::Vec;
#[cfg(any(test, feature = "fakes"))]
use arrayvec::ArrayVec;
use bitflags::bitflags;

/// The most list registers an implementation may have.
pub const MAX_LIST_REGISTERS: usize = 16;

/// One list register's content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(transparent)]
pub struct ListRegister(u64);

impl ListRegister {
    /// No interrupt.
    pub const EMPTY: Self = Self(0);

    const PENDING: u64 = 1 << 62;
    const ACTIVE: u64 = 1 << 63;
    const HARDWARE: u64 = 1 << 61;
    const GROUP_1: u64 = 1 << 60;
    const PRIORITY_SHIFT: u32 = 48;
    const PHYSICAL_SHIFT: u32 = 32;
    const MAINTENANCE_AT_END: u64 = 1 << 41;
    /// `GICH_LR<n>` (GICv2, IHI 0048, 5.3.10): what it has of the same, and where.
    const V2_VIRTUAL: u64 = 0x3ff;
    const V2_PHYSICAL_SHIFT: u32 = 10;
    const V2_PRIORITY_SHIFT: u32 = 23;
    const V2_STATE_SHIFT: u32 = 28;

    /// Returns a group 1 interrupt with no state yet.
    pub const fn new(irq: Irq, priority: u8) -> Self {
        Self(Self::GROUP_1 | (priority as u64) << Self::PRIORITY_SHIFT | irq.intid() as u64)
    }

    /// Takes the content of `ICH_LR<n>_EL2`.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the content for `ICH_LR<n>_EL2`.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Adds the pending state.
    #[must_use]
    pub const fn pending(self) -> Self {
        Self(self.0 | Self::PENDING)
    }

    /// Adds the active state.
    #[must_use]
    pub const fn active(self) -> Self {
        Self(self.0 | Self::ACTIVE)
    }

    /// Ties the interrupt to the physical one of the same number, which the guest's end of it deactivates.
    #[must_use]
    pub const fn hardware(self) -> Self {
        Self(self.0 | Self::HARDWARE | (self.0 & 0x3ff) << Self::PHYSICAL_SHIFT)
    }

    /// Asks for a maintenance interrupt when the guest ends the interrupt; not with [`Self::hardware`].
    #[must_use]
    pub const fn maintenance_at_end(self) -> Self {
        Self(self.0 | Self::MAINTENANCE_AT_END)
    }

    /// Names the processor that sent a software-generated interrupt to a GICv2; not with
    /// [`Self::hardware`].
    #[must_use]
    pub const fn from_processor(self, sender: u8) -> Self {
        Self(self.0 | (sender as u64 & 0b111) << Self::PHYSICAL_SHIFT)
    }

    /// Takes the content of a GICv2's `GICH_LR<n>`.
    pub const fn from_v2(raw: u32) -> Self {
        let raw = raw as u64;
        let group = if raw == 0 { 0 } else { Self::GROUP_1 };
        Self(
            group
                | raw & Self::V2_VIRTUAL
                | (raw >> Self::V2_PHYSICAL_SHIFT & 0x3ff) << Self::PHYSICAL_SHIFT
                | (raw >> Self::V2_PRIORITY_SHIFT & 0x1f) << (Self::PRIORITY_SHIFT + 3)
                | (raw >> Self::V2_STATE_SHIFT & 0b11) << 62
                | raw >> 31 << 61,
        )
    }

    /// Returns the content for a GICv2's `GICH_LR<n>`: priorities have five bits there, and a guest takes
    /// what is in group 0.
    pub const fn to_v2(self) -> u32 {
        let state = self.0 >> 62;
        let hardware = self.0 >> 61 & 1;
        let priority = self.0 >> (Self::PRIORITY_SHIFT + 3) & 0x1f;
        let raw = hardware << 31
            | state << Self::V2_STATE_SHIFT
            | priority << Self::V2_PRIORITY_SHIFT
            | (self.0 >> Self::PHYSICAL_SHIFT & 0x3ff) << Self::V2_PHYSICAL_SHIFT
            | self.0 & Self::V2_VIRTUAL;
        let [a, b, c, d, ..] = raw.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Says which processor sent it, where that was said.
    pub const fn sender(self) -> u8 {
        self.0.to_le_bytes()[4] & 0b111
    }

    /// Says whether the interrupt waits for the guest to take it.
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// Says whether the guest has taken the interrupt and not ended it.
    pub const fn is_active(self) -> bool {
        self.0 & Self::ACTIVE != 0
    }

    /// Says whether the register holds no interrupt.
    pub const fn is_empty(self) -> bool {
        self.0 & (Self::ACTIVE | Self::PENDING) == 0
    }

    /// Says whether the end of the interrupt is to raise a maintenance interrupt.
    pub const fn is_watched(self) -> bool {
        self.0 & Self::MAINTENANCE_AT_END != 0
    }

    /// Says whether the interrupt is tied to a physical one.
    pub const fn is_hardware(self) -> bool {
        self.0 & Self::HARDWARE != 0
    }

    /// Returns the interrupt's priority: the lower, the more urgent.
    pub const fn priority(self) -> u8 {
        self.0.to_le_bytes()[6]
    }

    /// Returns the interrupt's number as the guest knows it.
    pub const fn intid(self) -> u32 {
        let bytes = self.0.to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

/// The list registers of the processor this runs on.
///
/// A vCPU's interrupts stay in them for as long as the vCPU stays on its processor, also while the
/// hypervisor or the idle loop runs there.
pub trait ListRegisters {
    /// Returns how many there are: at least two, at most [`MAX_LIST_REGISTERS`].
    fn count(&self) -> usize;
    /// Reads one; `index` is below [`Self::count`].
    fn read(&self, index: usize) -> ListRegister;
    /// Writes one; `index` is below [`Self::count`].
    fn write(&mut self, index: usize, value: ListRegister);
    /// Returns a bit for each that is free to use: no state, and no maintenance interrupt due
    /// (`ICH_ELRSR_EL2`).
    fn empty(&self) -> u32;
    /// Returns a bit for each whose interrupt ended and that asked for a maintenance interrupt then
    /// (`ICH_EISR_EL2`).
    fn ended(&self) -> u32;
    /// Returns how many interrupts the guest ended that were in no list register, and forgets the count
    /// (`ICH_HCR_EL2.EOIcount`).
    fn take_end_count(&mut self) -> u32;
    /// Deactivates the physical interrupt of this number (`ICC_DIR_EL1`): the guest never will.
    fn deactivate_physical(&mut self, irq: Irq);
}

bitflags! {
    /// When the virtual interface is to interrupt the hypervisor: bits of `ICH_HCR_EL2`.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    #[must_use = "interrupts that found no list register wait until these are set in ICH_HCR_EL2"]
    pub struct Maintenance: u32 {
        /// At most one list register is still valid (`UIE`).
        const UNDERFLOW = 1 << 1;
        /// The guest ended an interrupt that is in no list register (`LRENPIE`).
        const END_NOT_PRESENT = 1 << 2;
    }
}

/// List registers in memory, with the guest's side of them, for tests on the host.
#[cfg(any(test, feature = "fakes"))]
#[derive(Clone, Debug, Default)]
pub struct FakeListRegisters {
    registers: ArrayVec<ListRegister, MAX_LIST_REGISTERS>,
    /// What the guest has taken and not ended, with its priority; the most urgent is last.
    running: Vec<(Irq, u8)>,
    end_count: u32,
    /// Who sent what the guest took last.
    pub sender: u8,
    /// The physical interrupts deactivated so far: by the hypervisor, and by the guest's ends.
    pub deactivated: Vec<Irq>,
}

#[cfg(any(test, feature = "fakes"))]
impl FakeListRegisters {
    /// Creates `count` list registers, all empty.
    pub fn new(count: usize) -> Self {
        let registers = core::iter::repeat_n(ListRegister::EMPTY, count).collect();
        Self { registers, ..Self::default() }
    }

    /// Takes the most urgent pending interrupt, as the guest's read of `ICC_IAR1_EL1` does.
    pub fn acknowledge(&mut self) -> Option<Irq> {
        let running = self.running.last().map_or(0x100, |(_, priority)| u16::from(*priority));
        let waiting = self.registers.iter_mut().filter(|it| it.is_pending() && !it.is_active());
        let register = waiting
            .min_by_key(|it| (it.priority(), it.intid()))
            .filter(|it| u16::from(it.priority()) < running)?;
        *register = ListRegister(register.0 & !ListRegister::PENDING | ListRegister::ACTIVE);
        let irq = Irq::new(register.intid())?;
        self.sender = register.sender();
        self.running.push((irq, register.priority()));
        Some(irq)
    }

    /// Ends the interrupt taken last, as the guest's write to `ICC_EOIR1_EL1` does.
    pub fn end(&mut self) -> Option<Irq> {
        let (irq, _) = self.running.pop()?;
        let mut active = self.registers.iter_mut().filter(|it| it.is_active());
        let Some(register) = active.find(|it| it.intid() == irq.intid()) else {
            self.end_count += 1;
            return Some(irq);
        };
        register.0 &= !ListRegister::ACTIVE;
        if register.is_hardware() {
            self.deactivated.push(irq);
        }
        Some(irq)
    }

    /// Returns what the guest has taken and not ended.
    pub fn running(&self) -> &[(Irq, u8)] {
        &self.running
    }

    /// Says whether the interface calls the hypervisor.
    pub fn calls(&self, when: Maintenance) -> bool {
        let valid = self.registers.iter().filter(|it| !it.is_empty()).count();
        self.ended() != 0
            || when.contains(Maintenance::UNDERFLOW) && valid <= 1
            || when.contains(Maintenance::END_NOT_PRESENT) && self.end_count > 0
    }

    fn mask(&self, which: impl Fn(ListRegister) -> bool) -> u32 {
        (0..)
            .zip(&self.registers)
            .fold(0, |mask, (index, register)| mask | u32::from(which(*register)) << index)
    }
}

#[cfg(any(test, feature = "fakes"))]
impl ListRegisters for FakeListRegisters {
    fn count(&self) -> usize {
        self.registers.len()
    }

    fn read(&self, index: usize) -> ListRegister {
        self.registers.get(index).copied().unwrap_or_default()
    }

    fn write(&mut self, index: usize, value: ListRegister) {
        if let Some(register) = self.registers.get_mut(index) {
            *register = value;
        }
    }

    fn empty(&self) -> u32 {
        self.mask(|it| it.is_empty() && (it.is_hardware() || !it.is_watched()))
    }

    fn ended(&self) -> u32 {
        self.mask(|it| it.is_empty() && !it.is_hardware() && it.is_watched())
    }

    fn take_end_count(&mut self) -> u32 {
        core::mem::take(&mut self.end_count)
    }

    fn deactivate_physical(&mut self, irq: Irq) {
        self.deactivated.push(irq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_ich_lr() {
        let irq = Irq::spi(1).unwrap();
        let lr = ListRegister::new(irq, 0xa0).pending().hardware();
        assert_eq!(lr.raw(), 0x70a0_0021_0000_0021);
        assert_eq!((lr.intid(), lr.priority()), (33, 0xa0));
        assert!(lr.is_pending() && lr.is_hardware() && !lr.is_active() && !lr.is_empty());
        let lr = ListRegister::new(Irq::sgi(3), 0).active().maintenance_at_end();
        assert_eq!(lr.raw(), 0x9000_0200_0000_0003);
        assert!(ListRegister::new(irq, 0).is_empty());
    }

    #[test]
    fn a_gicv2_has_the_same_fields_closer_together() {
        let irq = Irq::spi(1).unwrap();
        let device = ListRegister::new(irq, 0xa0).pending().hardware();
        assert_eq!(device.to_v2(), 0x9a00_8421);
        let line = ListRegister::new(Irq::ppi(14), 0xf8).active().maintenance_at_end();
        assert_eq!(line.to_v2(), 0x2f88_001e);
        let sent = ListRegister::new(Irq::sgi(3), 0).pending().active().from_processor(5);
        assert_eq!((sent.to_v2(), sent.sender()), (0x3000_1403, 5));
        for register in [device, line, sent, ListRegister::EMPTY] {
            assert_eq!(ListRegister::from_v2(register.to_v2()), register);
        }
    }
}
