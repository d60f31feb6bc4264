//! The state of interrupts, 32 at a time, as the distributor's registers group them.

use crate::ids::VcpuId;

/// How many interrupts a [`Bank`] has.
pub(super) const BANK: u32 = 32;

/// What SGIs and PPIs have in common: no change of trigger for the former.
pub(super) const SGIS: u32 = 0xffff;

/// 32 interrupts; bit `n` of each word, and element `n` of each array, is interrupt `n` of them.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    /// Made pending and not yet taken: an edge, or a write to `ISPENDR`. Not in a list register.
    pub(super) latched: u32,
    /// Asserted by an emulated device.
    pub(super) line: u32,
    /// Edge-triggered: `line` does not matter.
    pub(super) edge: u32,
    /// May be signalled.
    pub(super) enabled: u32,
    /// Taken and not ended; for one in a list register, as of when that was last seen.
    pub(super) active: u32,
    /// In a list register of `holder`.
    pub(super) resident: u32,
    /// In a list register as pending, as of when that was last seen.
    pub(super) offered: u32,
    /// Not in a list register, and marked in `holder`'s list of those that should be.
    pub(super) queued: u32,
    /// Stands for the physical interrupt of the same number.
    pub(super) hardware: u32,
    /// Latched by the physical interrupt, which stays active until the guest ends this one.
    pub(super) live: u32,
    /// Active by the physical interrupt, which stays active until the guest ends this one.
    pub(super) held: u32,
    /// In a list register of a vCPU elsewhere, whose pending state is to be dropped when it comes back.
    pub(super) drop_pending: u32,
    /// The same of its active state.
    pub(super) drop_active: u32,
    /// The same, to be made active.
    pub(super) make_active: u32,
    /// Urgency: the lower, the more urgent.
    pub(super) priority: [u8; BANK as usize],
    /// The vCPU that new ones are for.
    pub(super) target: [u8; BANK as usize],
    /// The vCPU that has it in its list registers or in its list.
    pub(super) holder: [u8; BANK as usize],
}

impl Bank {
    /// Creates interrupts as reset leaves them: disabled, level-sensitive, aimed at `target`.
    pub(super) fn new(target: VcpuId) -> Self {
        let target = target.0.to_le_bytes()[0];
        Self {
            latched: 0,
            line: 0,
            edge: 0,
            enabled: 0,
            active: 0,
            resident: 0,
            offered: 0,
            queued: 0,
            hardware: 0,
            live: 0,
            held: 0,
            drop_pending: 0,
            drop_active: 0,
            make_active: 0,
            priority: [0; BANK as usize],
            target: [target; BANK as usize],
            holder: [target; BANK as usize],
        }
    }

    /// Returns which are pending, leaving out what list registers hold.
    pub(super) const fn pending(&self) -> u32 {
        self.latched | self.line & !self.edge
    }

    /// Returns which are pending and may be signalled.
    pub(super) const fn wanted(&self) -> u32 {
        self.pending() & self.enabled
    }

    pub(super) fn priority(&self, index: u32) -> u8 {
        self.priority.get(index as usize).copied().unwrap_or(u8::MAX)
    }

    pub(super) fn target(&self, index: u32) -> VcpuId {
        VcpuId(u32::from(self.target.get(index as usize).copied().unwrap_or(0)))
    }

    pub(super) fn holder(&self, index: u32) -> VcpuId {
        VcpuId(u32::from(self.holder.get(index as usize).copied().unwrap_or(0)))
    }

    pub(super) fn set_target(&mut self, index: u32, vcpu: VcpuId) {
        if let Some(target) = self.target.get_mut(index as usize) {
            *target = vcpu.0.to_le_bytes()[0];
        }
    }

    pub(super) fn set_holder(&mut self, index: u32, vcpu: VcpuId) {
        if let Some(holder) = self.holder.get_mut(index as usize) {
            *holder = vcpu.0.to_le_bytes()[0];
        }
    }
}
