//! One vCPU's end: which interrupts wait for a list register, and which are in one.

use super::list_register::MAX_LIST_REGISTERS;
use super::v2::Senders;

/// Banks a vCPU can see: its own, and 31 of shared interrupts.
pub(super) const BANKS: usize = 32;

/// A vCPU's interrupts in and on their way to its list registers.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    /// Which banks have a bit in `ready`.
    pub(super) summary: u32,
    /// Which interrupts are to be placed, or changed where they are.
    pub(super) ready: [u32; BANKS],
    /// What is in each list register.
    pub(super) slots: [Slot; MAX_LIST_REGISTERS],
    /// Which list registers hold an interrupt.
    pub(super) used: u32,
    /// Which of those ask for a maintenance interrupt when theirs ends.
    pub(super) watched: u32,
    /// Whether the list registers are to be taken back before the vCPU runs on.
    pub(super) refold: bool,
    /// Whether an active interrupt found no list register.
    pub(super) unlisted_active: bool,
    /// Whether the vCPU's state is on a processor.
    pub(super) loaded: bool,
    /// When the list registers were last taken back.
    pub(super) folded_at: u64,
    /// Since when the vCPU waits for others' list registers, to read a state; 0: it does not.
    pub(super) asked_at: u64,
    /// Who sent the software-generated interrupts, which a GICv2 tells apart by that.
    pub(super) senders: Senders,
}

/// What is in a list register.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// The interrupt's number.
    pub(super) intid: u32,
    /// Tied to the physical interrupt: the guest's end of it deactivates that.
    pub(super) hardware: bool,
    /// Not tied to it, and yet the physical interrupt is to be deactivated after it.
    pub(super) owes: bool,
    /// Pending by a latch, not only by a line.
    pub(super) latched: bool,
    /// Who sent it, where that is told.
    pub(super) sender: Option<u8>,
}

impl Interface {
    pub(super) const fn new() -> Self {
        const NONE: Slot =
            Slot { intid: 0, hardware: false, owes: false, latched: false, sender: None };
        Self {
            summary: 0,
            ready: [0; BANKS],
            slots: [NONE; MAX_LIST_REGISTERS],
            used: 0,
            watched: 0,
            refold: false,
            unlisted_active: false,
            loaded: false,
            folded_at: 0,
            asked_at: 0,
            senders: Senders::NOBODY,
        }
    }

    /// Says whether the list registers hold all there is, as it is.
    pub(super) const fn is_settled(&self) -> bool {
        self.summary | self.watched == 0 && !self.refold
    }

    pub(super) fn mark(&mut self, bank: usize, bits: u32) {
        if let Some(ready) = self.ready.get_mut(bank) {
            *ready |= bits;
            self.summary |= 1 << bank;
        }
    }

    pub(super) fn unmark(&mut self, bank: usize, bits: u32) {
        if let Some(ready) = self.ready.get_mut(bank) {
            *ready &= !bits;
            if *ready == 0 {
                self.summary &= !(1 << bank);
            }
        }
    }

    pub(super) fn ready(&self, bank: usize) -> u32 {
        self.ready.get(bank).copied().unwrap_or(0)
    }

    pub(super) fn slot(&self, index: u32) -> Slot {
        self.slots.get(index as usize).copied().unwrap_or_default()
    }

    /// Returns which list register holds `intid`; the caller knows that one does.
    pub(super) fn find(&self, intid: u32) -> Option<u32> {
        let mut used = self.used;
        while used != 0 {
            let slot = used.trailing_zeros();
            if self.slot(slot).intid == intid {
                return Some(slot);
            }
            used &= used - 1;
        }
        None
    }
}
