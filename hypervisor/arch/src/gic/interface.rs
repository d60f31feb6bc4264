//! The virtual interface of this processor: its list registers, and what a guest's part of it is while
//! another one's is in the machine.

use super::{is_v2, v2, v3};
use hv_core::ids::Irq;
use hv_core::vgic::{ListRegister, ListRegisters, MAX_LIST_REGISTERS};

/// `ICH_HCR_EL2.En`, `GICH_HCR.En`: the guest has a virtual interface.
pub(super) const VIRTUAL_ON: u64 = 1;

/// A virtual CPU interface while its processor is not in the machine.
#[derive(Debug)]
pub struct CpuInterface {
    /// `ICH_HCR_EL2`, `GICH_HCR`.
    pub(super) control: u64,
    /// `ICH_VMCR_EL2`, `GICH_VMCR`.
    pub(super) interface: u64,
    /// `ICH_AP<group>R<n>_EL2`; of a GICv2 there is only `GICH_APR`, the first.
    pub(super) active: [[u64; 4]; 2],
    /// `ICH_LR<n>_EL2`, `GICH_LR<n>`, as the controller has them, where `used` says so.
    pub(super) lists: [u64; MAX_LIST_REGISTERS],
    /// Which list registers hold anything. The others of a processor hold nothing from one
    /// virtual interface to the next, and need not be written.
    pub(super) used: u32,
}

impl CpuInterface {
    /// Makes the interface of a processor that was just turned on: everything masked, groups off.
    pub(crate) const fn new() -> Self {
        Self {
            control: VIRTUAL_ON,
            interface: 0,
            active: [[0; 4]; 2],
            lists: [0; MAX_LIST_REGISTERS],
            used: 0,
        }
    }

    pub(crate) fn load(&self) {
        if is_v2() { v2::load(self) } else { v3::load(self) }
    }

    pub(crate) fn save(&mut self) {
        if is_v2() { v2::save(self) } else { v3::save(self) }
    }
}

/// Returns the numbers of the list registers that hold anything, by which of them the controller (`ICH_ELRSR_EL2`,
/// `GICH_ELRSR`) says that they are empty.
#[inline]
pub(super) fn used(empty: u32, count: usize) -> u32 {
    !empty & (u32::MAX >> (u32::BITS as usize - count))
}

/// The list registers of the processor this runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisCpuLists;

impl ListRegisters for ThisCpuLists {
    #[inline]
    fn count(&self) -> usize {
        if is_v2() { v2::list_register_count() } else { v3::list_register_count() }
    }

    #[inline]
    fn read(&self, index: usize) -> ListRegister {
        if is_v2() {
            ListRegister::from_v2(v2::read_list_register(index))
        } else {
            ListRegister::from_raw(v3::read_list_register(index))
        }
    }

    #[inline]
    fn write(&mut self, index: usize, value: ListRegister) {
        if is_v2() {
            v2::write_list_register(index, value.to_v2());
        } else {
            v3::write_list_register(index, value.raw());
        }
    }

    #[inline]
    fn empty(&self) -> u32 {
        if is_v2() { v2::empty_lists() } else { v3::empty_lists() }
    }

    #[inline]
    fn ended(&self) -> u32 {
        if is_v2() { v2::ended_lists() } else { v3::ended_lists() }
    }

    #[inline]
    fn take_end_count(&mut self) -> u32 {
        if is_v2() { v2::take_end_count() } else { v3::take_end_count() }
    }

    #[inline]
    fn deactivate_physical(&mut self, irq: Irq) {
        super::deactivate(irq);
    }
}
