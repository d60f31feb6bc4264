//! GICv3 (IHI 0069): redistributors, and the processor's interface in system registers.

use super::distributor;
use crate::mmio::Mmio;
use crate::{cpu, system_register, tree};
use core::arch::asm;

/// Bytes of a redistributor: two frames.
const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// Offset of a redistributor's second frame, with the private interrupts.
pub const PRIVATE_FRAME: u64 = 0x1_0000;
/// `GICD_CTLR`: affinity routing, and group 1.
pub(super) const DISTRIBUTOR_ON: u32 = 1 << 4 | 1 << 1;

/// Registers that a GICv2 does not have.
pub mod register {
    /// `GICR_TYPER`, 64 bits
    pub const REDISTRIBUTOR_TYPER: u64 = 8;
    /// `GICR_WAKER`
    pub const WAKER: u64 = 0x14;
    /// `GICD_IROUTER`, 64 bits each
    pub const ROUTER: u64 = 0x6000;
    /// `PIDR2`
    pub const PIDR2: u64 = 0xffe8;
}

/// Returns the registers of processor `number`'s redistributor, both frames.
pub fn redistributor(number: usize) -> Mmio {
    let range = tree::get().gic.get(1).expect("the tree has redistributors");
    let offset = number as u64 * REDISTRIBUTOR_SIZE;
    assert!(offset < range.len, "no redistributor for vCPU {number}");
    // SAFETY: the tree says that the redistributors are there, one after another; LPIs stay off.
    unsafe { Mmio::new(range.start + offset, REDISTRIBUTOR_SIZE) }
}

macro_rules! write_register {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the register belongs to the interrupt interface; handlers expect what may come.
        unsafe {
            asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack))
        };
    }};
}

pub(super) fn acknowledge() -> u32 {
    let taken = u32::try_from(system_register!("icc_iar1_el1")).unwrap_or(u32::MAX);
    cpu::synchronize();
    taken
}

pub(super) fn end(taken: u32) {
    write_register!("icc_eoir1_el1", u64::from(taken));
}

pub(super) fn set_priority_mask(mask: u8) {
    write_register!("icc_pmr_el1", u64::from(mask));
}

pub(super) fn send(target: usize, number: u32) {
    let affinity = crate::smp::affinity_of(target);
    let value = (affinity >> 8 & 0xff) << 16 | u64::from(number & 15) << 24;
    write_register!("icc_sgi1r_el1", value | 1 << (affinity & 0xf));
}

pub(super) fn send_to_others(number: u32) {
    write_register!("icc_sgi1r_el1", u64::from(number & 15) << 24 | 1 << 40);
}

pub(super) fn route(interrupt: u32, target: usize) {
    let affinity = crate::smp::affinity_of(target);
    distributor().write64(register::ROUTER + u64::from(interrupt) * 8, affinity);
}

/// Wakes a processor's redistributor, and puts its interrupts into group 1.
pub(super) fn wake(number: usize) {
    const SLEEP: u32 = 1 << 1;
    const ASLEEP: u32 = 1 << 2;
    let registers = redistributor(number);
    let waker = registers.read32(register::WAKER);
    registers.write32(register::WAKER, waker & !SLEEP);
    while registers.read32(register::WAKER) & ASLEEP != 0 {
        cpu::relax();
    }
    registers.write32(PRIVATE_FRAME + super::register::GROUP, u32::MAX);
}

pub(super) fn turn_on() {
    write_register!("icc_sre_el1", 7);
    write_register!("icc_ctlr_el1", 0);
    write_register!("icc_bpr1_el1", 0);
    write_register!("icc_igrpen1_el1", 1);
}
