//! The interrupt controller as a guest sees it: GICv3, with the processor's own registers, or GICv2.

mod v2;

use crate::cpu::{self, MAX_CPUS};
use crate::mmio::Mmio;
use crate::{system_register, tree};
use core::arch::asm;
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// First shared interrupt.
pub const FIRST_SHARED: u32 = 32;
/// First number that is no interrupt.
const FIRST_SPECIAL: u32 = 1020;
/// Bytes of a redistributor: two frames.
const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// Offset of a redistributor's second frame, with the private interrupts.
pub const PRIVATE_FRAME: u64 = 0x1_0000;
/// Priority interrupts are given; the mask lets in what is below 0xf0.
const PRIORITY: u8 = 0xa0;

/// Registers of the distributor, and of a redistributor's second frame (GICv3 12.9, 12.11).
pub mod register {
    /// `CTLR`
    pub const CTLR: u64 = 0;
    /// `GICD_TYPER`
    pub const TYPER: u64 = 4;
    /// `GICD_IIDR`
    pub const IIDR: u64 = 8;
    /// `GICR_TYPER`, 64 bits
    pub const REDISTRIBUTOR_TYPER: u64 = 8;
    /// `GICR_WAKER`
    pub const WAKER: u64 = 0x14;
    /// `IGROUPR`
    pub const GROUP: u64 = 0x80;
    /// `ISENABLER`
    pub const SET_ENABLE: u64 = 0x100;
    /// `ICENABLER`
    pub const CLEAR_ENABLE: u64 = 0x180;
    /// `ISPENDR`
    pub const SET_PENDING: u64 = 0x200;
    /// `ICPENDR`
    pub const CLEAR_PENDING: u64 = 0x280;
    /// `ISACTIVER`
    pub const SET_ACTIVE: u64 = 0x300;
    /// `ICACTIVER`
    pub const CLEAR_ACTIVE: u64 = 0x380;
    /// `IPRIORITYR`
    pub const PRIORITY: u64 = 0x400;
    /// `ICFGR`
    pub const CONFIGURATION: u64 = 0xc00;
    /// `GICD_IROUTER`, 64 bits each
    pub const ROUTER: u64 = 0x6000;
    /// `PIDR2`
    pub const PIDR2: u64 = 0xffe8;
}

static HANDLERS: [AtomicPtr<()>; FIRST_SPECIAL as usize] =
    [const { AtomicPtr::new(null_mut()) }; FIRST_SPECIAL as usize];
static TAKEN: [[AtomicU32; 32]; MAX_CPUS] = [const { [const { AtomicU32::new(0) }; 32] }; MAX_CPUS];

/// Returns whether the controller is a GICv2.
pub fn is_v2() -> bool {
    tree::get().gic_version == 2
}

/// Returns the distributor's registers.
pub fn distributor() -> Mmio {
    let range = tree::get().gic.first().expect("the tree has an interrupt controller");
    // SAFETY: the tree says that the distributor is there; without LPIs it touches no memory.
    unsafe { Mmio::new(range.start, range.len) }
}

/// Returns the registers of processor `number`'s redistributor, both frames.
pub fn redistributor(number: usize) -> Mmio {
    let range = tree::get().gic.get(1).expect("the tree has redistributors");
    let offset = number as u64 * REDISTRIBUTOR_SIZE;
    assert!(offset < range.len, "no redistributor for vCPU {number}");
    // SAFETY: the tree says that the redistributors are there, one after another; LPIs stay off.
    unsafe { Mmio::new(range.start + offset, REDISTRIBUTOR_SIZE) }
}

/// Returns the registers that hold a bit of `interrupt`, for processor `number` if it is private.
fn bank(number: usize, interrupt: u32) -> (Mmio, u64) {
    if interrupt < FIRST_SHARED && !is_v2() {
        (redistributor(number), PRIVATE_FRAME)
    } else {
        (distributor(), 0)
    }
}

/// Writes 1 for `interrupt` to a register with a bit for each, such as [`register::SET_PENDING`].
pub fn write_bit(number: usize, register: u64, interrupt: u32) {
    let (registers, frame) = bank(number, interrupt);
    registers.write32(frame + register + u64::from(interrupt / 32 * 4), 1 << (interrupt % 32));
}

/// Reads `interrupt`'s bit of a register with a bit for each.
pub fn read_bit(number: usize, register: u64, interrupt: u32) -> bool {
    let (registers, frame) = bank(number, interrupt);
    let word = registers.read32(frame + register + u64::from(interrupt / 32 * 4));
    word >> (interrupt % 32) & 1 != 0
}

/// Lets `interrupt` come to this processor, or stops it.
pub fn enable(interrupt: u32, on: bool) {
    let register = if on { register::SET_ENABLE } else { register::CLEAR_ENABLE };
    write_bit(cpu::number(), register, interrupt);
}

/// Names the function called for `interrupt`, on any processor.
pub fn set_handler(interrupt: u32, handler: fn(u32)) {
    if let Some(slot) = usize::try_from(interrupt).ok().and_then(|index| HANDLERS.get(index)) {
        slot.store(handler as *mut (), Ordering::SeqCst);
    }
}

/// Returns how often processor `number` took a private interrupt.
pub fn taken(number: usize, interrupt: u32) -> u32 {
    counter(number, interrupt).map_or(0, |counter| counter.load(Ordering::SeqCst))
}

fn counter(number: usize, interrupt: u32) -> Option<&'static AtomicU32> {
    TAKEN.get(number)?.get(usize::try_from(interrupt).ok()?)
}

/// Takes the highest pending interrupt, which becomes active.
pub fn acknowledge() -> Option<u32> {
    if is_v2() {
        return v2::acknowledge();
    }
    let interrupt = u32::try_from(system_register!("icc_iar1_el1")).unwrap_or(u32::MAX);
    cpu::synchronize();
    (interrupt < FIRST_SPECIAL).then_some(interrupt)
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

/// Says that `interrupt` was dealt with.
pub fn end(interrupt: u32) {
    if is_v2() {
        return v2::end(interrupt);
    }
    write_register!("icc_eoir1_el1", u64::from(interrupt));
}

/// Sets the priority below which interrupts come; 0xf0 is usual, 0 lets none in.
pub fn set_priority_mask(mask: u8) {
    if is_v2() {
        return v2::set_priority_mask(mask);
    }
    write_register!("icc_pmr_el1", u64::from(mask));
}

/// Interrupts processor `target` with SGI `number`.
pub fn send(target: usize, number: u32) {
    if is_v2() {
        return v2::send(target, number);
    }
    let affinity = crate::smp::affinity_of(target);
    let value = (affinity >> 8 & 0xff) << 16 | u64::from(number & 15) << 24;
    write_register!("icc_sgi1r_el1", value | 1 << (affinity & 0xf));
}

/// Interrupts all other processors with SGI `number`.
pub fn send_to_others(number: u32) {
    if is_v2() {
        return v2::send_to_others(number);
    }
    write_register!("icc_sgi1r_el1", u64::from(number & 15) << 24 | 1 << 40);
}

/// Turns the distributor on; called once.
pub(crate) fn init_distributor() {
    const AFFINITY_ROUTING: u32 = 1 << 4;
    const ENABLE_GROUP_1: u32 = 1 << 1;
    if is_v2() {
        return v2::init_distributor();
    }
    distributor().write32(register::CTLR, AFFINITY_ROUTING | ENABLE_GROUP_1);
}

/// Gets this processor's part ready: SGIs come, other private interrupts wait to be enabled.
pub(crate) fn init_this_cpu() {
    const SLEEP: u32 = 1 << 1;
    const ASLEEP: u32 = 1 << 2;
    if is_v2() {
        return v2::init_this_cpu();
    }
    let registers = redistributor(cpu::number());
    let waker = registers.read32(register::WAKER);
    registers.write32(register::WAKER, waker & !SLEEP);
    while registers.read32(register::WAKER) & ASLEEP != 0 {
        cpu::relax();
    }
    registers.write32(PRIVATE_FRAME + register::GROUP, u32::MAX);
    for interrupt in 0..32 {
        registers.write8(PRIVATE_FRAME + register::PRIORITY + interrupt, PRIORITY);
    }
    registers.write32(PRIVATE_FRAME + register::CLEAR_ENABLE, u32::MAX);
    registers.write32(PRIVATE_FRAME + register::SET_ENABLE, 0xffff);
    write_register!("icc_sre_el1", 7);
    write_register!("icc_ctlr_el1", 0);
    write_register!("icc_bpr1_el1", 0);
    set_priority_mask(0xf0);
    write_register!("icc_igrpen1_el1", 1);
}

/// Calls the handlers of what is pending.
pub(crate) fn dispatch() {
    while let Some(interrupt) = acknowledge() {
        if let Some(counter) = counter(cpu::number(), interrupt) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        let slot = usize::try_from(interrupt).ok().and_then(|index| HANDLERS.get(index));
        let handler = slot.map_or(null_mut(), |slot| slot.load(Ordering::SeqCst));
        if handler.is_null() && interrupt >= 16 {
            log::warn!("interrupt {interrupt} has no handler; it is disabled");
            enable(interrupt, false);
        } else if !handler.is_null() {
            // SAFETY: only `set_handler` fills the slots, with a `fn(u32)`.
            let handler: fn(u32) = unsafe { transmute::<*mut (), fn(u32)>(handler) };
            handler(interrupt);
        }
        end(interrupt);
    }
}
