//! The processor's interface of a GICv2: registers in memory (GIC architecture version 2, IHI 0048, 4.4).

use super::{FIRST_SPECIAL, PRIORITY, distributor, register};
use crate::cpu::{self, MAX_CPUS};
use crate::mmio::Mmio;
use crate::tree;
use core::sync::atomic::{AtomicU32, Ordering};

const CONTROL: u64 = 0;
const PRIORITY_MASK: u64 = 4;
const ACKNOWLEDGE: u64 = 0xc;
const END: u64 = 0x10;
/// `GICD_SGIR`, in the distributor.
const SEND: u64 = 0xf00;
const TO_OTHERS: u32 = 1 << 24;

/// What was acknowledged last for each SGI: the sender is part of what has to be written back.
static SENDERS: [[AtomicU32; 16]; MAX_CPUS] =
    [const { [const { AtomicU32::new(0) }; 16] }; MAX_CPUS];

fn interface() -> Mmio {
    let range = tree::get().gic.get(1).expect("the tree has a GICv2's processor interface");
    // SAFETY: the tree says that the registers are there; they touch no memory.
    unsafe { Mmio::new(range.start, range.len) }
}

fn sender(interrupt: u32) -> Option<&'static AtomicU32> {
    SENDERS.get(cpu::number())?.get(usize::try_from(interrupt).ok()?)
}

pub(super) fn acknowledge() -> Option<u32> {
    let answer = interface().read32(ACKNOWLEDGE);
    let interrupt = answer & 0x3ff;
    if let Some(sender) = sender(interrupt) {
        sender.store(answer, Ordering::Relaxed);
    }
    (interrupt < FIRST_SPECIAL).then_some(interrupt)
}

pub(super) fn end(interrupt: u32) {
    let answer = sender(interrupt).map_or(interrupt, |sender| sender.load(Ordering::Relaxed));
    interface().write32(END, answer);
}

pub(super) fn set_priority_mask(mask: u8) {
    interface().write32(PRIORITY_MASK, mask.into());
}

pub(super) fn send(target: usize, number: u32) {
    distributor().write32(SEND, 1 << (16 + target) | number & 15);
}

pub(super) fn send_to_others(number: u32) {
    distributor().write32(SEND, TO_OTHERS | number & 15);
}

pub(super) fn init_distributor() {
    distributor().write32(register::CTLR, 1);
}

pub(super) fn init_this_cpu() {
    let registers = distributor();
    for interrupt in 0..32 {
        registers.write8(register::PRIORITY + interrupt, PRIORITY);
    }
    registers.write32(register::CLEAR_ENABLE, u32::MAX);
    registers.write32(register::SET_ENABLE, 0xffff);
    set_priority_mask(0xf0);
    interface().write32(CONTROL, 1);
}
