//! GICv2 (IHI 0048): the processor's interface is registers in memory, each processor seeing its own.

use super::distributor;
use crate::cpu::{self, MAX_CPUS};
use crate::mmio::Mmio;
use crate::tree;
use core::sync::atomic::{AtomicU32, Ordering};

/// `GICD_CTLR`: interrupts are let through.
pub(super) const DISTRIBUTOR_ON: u32 = 1;

/// Registers of the distributor that a GICv3 does not use.
pub mod register {
    /// `GICD_ITARGETSR`, a byte each
    pub const TARGETS: u64 = 0x800;
    /// `GICD_SGIR`
    pub const SEND: u64 = 0xf00;
    /// `GICD_CPENDSGIR`, a byte each
    pub const CLEAR_SENDERS: u64 = 0xf10;
    /// `GICD_SPENDSGIR`, a byte each
    pub const SET_SENDERS: u64 = 0xf20;
    /// `GICD_ICPIDR2`
    pub const PIDR2: u64 = 0xfe8;
}

/// What was acknowledged last for each SGI: the sender is part of what has to be written back.
static ANSWERS: [[AtomicU32; 16]; MAX_CPUS] =
    [const { [const { AtomicU32::new(0) }; 16] }; MAX_CPUS];

const CONTROL: u64 = 0;
const PRIORITY_MASK: u64 = 4;
const BINARY_POINT: u64 = 8;
const ACKNOWLEDGE: u64 = 0xc;
const END: u64 = 0x10;

/// Returns the registers of this processor's interface, `GICC`.
pub fn interface() -> Mmio {
    let range = tree::get().gic.get(1).expect("the tree has a processor interface");
    // SAFETY: the tree says that the interface is there; it touches no memory.
    unsafe { Mmio::new(range.start, range.len) }
}

/// Returns which processor sent software-generated `interrupt`, which this one took last.
pub fn sender(interrupt: u32) -> u32 {
    answer(interrupt).map_or(0, |answer| answer.load(Ordering::Relaxed) >> 10 & 7)
}

fn answer(interrupt: u32) -> Option<&'static AtomicU32> {
    ANSWERS.get(cpu::number())?.get(usize::try_from(interrupt).ok()?)
}

pub(super) fn acknowledge() -> u32 {
    let taken = interface().read32(ACKNOWLEDGE);
    cpu::synchronize();
    let interrupt = taken & 0x3ff;
    if let Some(answer) = answer(interrupt) {
        answer.store(taken, Ordering::Relaxed);
    }
    interrupt
}

pub(super) fn end(interrupt: u32) {
    let answer = answer(interrupt).map_or(interrupt, |answer| answer.load(Ordering::Relaxed));
    interface().write32(END, answer);
    cpu::synchronize();
}

pub(super) fn set_priority_mask(mask: u8) {
    interface().write32(PRIORITY_MASK, mask.into());
    cpu::synchronize();
}

pub(super) fn send(target: usize, number: u32) {
    cpu::synchronize();
    distributor().write32(register::SEND, 1 << (16 + target) | number & 15);
}

pub(super) fn send_to_others(number: u32) {
    const OTHERS: u32 = 1 << 24;
    cpu::synchronize();
    distributor().write32(register::SEND, OTHERS | number & 15);
}

pub(super) fn route(interrupt: u32, target: usize) {
    distributor().write8(register::TARGETS + u64::from(interrupt), 1 << target);
}

pub(super) fn turn_on() {
    interface().write32(BINARY_POINT, 0);
    interface().write32(CONTROL, 1);
}
