//! The interrupt controller as a guest sees it, a GICv2 or a GICv3: the settings that both have in common,
//! handlers, and the processor's own part by version.

pub mod v2;
pub mod v3;

use crate::cpu::{self, MAX_CPUS};
use crate::mmio::Mmio;
use crate::tree;
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// First shared interrupt.
pub const FIRST_SHARED: u32 = 32;
/// First number that is no interrupt.
const FIRST_SPECIAL: u32 = 1020;
/// Priority interrupts are given; the mask lets in what is below 0xf0.
const PRIORITY: u8 = 0xa0;

/// Registers of the distributor, and of a GICv3 redistributor's second frame (IHI 0069 12.9, 12.11).
pub mod register {
    /// `CTLR`
    pub const CTLR: u64 = 0;
    /// `GICD_TYPER`
    pub const TYPER: u64 = 4;
    /// `GICD_IIDR`
    pub const IIDR: u64 = 8;
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
}

static HANDLERS: [AtomicPtr<()>; FIRST_SPECIAL as usize] =
    [const { AtomicPtr::new(null_mut()) }; FIRST_SPECIAL as usize];
static TAKEN: [[AtomicU32; 32]; MAX_CPUS] = [const { [const { AtomicU32::new(0) }; 32] }; MAX_CPUS];

/// Returns the version of the controller: 2 or 3.
pub fn version() -> u32 {
    tree::get().gic_version
}

/// Returns the distributor's registers.
pub fn distributor() -> Mmio {
    let range = tree::get().gic.first().expect("the tree has an interrupt controller");
    // SAFETY: the tree says that the distributor is there; without LPIs it touches no memory.
    unsafe { Mmio::new(range.start, range.len) }
}

/// Returns the registers of `interrupt`, for processor `number` if it is private, and where they start.
///
/// A GICv2 shows each processor its own private interrupts only.
pub fn bank(number: usize, interrupt: u32) -> (Mmio, u64) {
    if interrupt >= FIRST_SHARED || version() == 2 {
        (distributor(), 0)
    } else {
        (v3::redistributor(number), v3::PRIVATE_FRAME)
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
    let taken = if version() == 2 { v2::acknowledge() } else { v3::acknowledge() };
    (taken < FIRST_SPECIAL).then_some(taken)
}

/// Says that `interrupt` was dealt with.
pub fn end(interrupt: u32) {
    if version() == 2 { v2::end(interrupt) } else { v3::end(interrupt) }
}

/// Sets the priority below which interrupts come; 0xf0 is usual, 0 lets none in.
pub fn set_priority_mask(mask: u8) {
    if version() == 2 { v2::set_priority_mask(mask) } else { v3::set_priority_mask(mask) }
}

/// Interrupts processor `target` with SGI `number`.
pub fn send(target: usize, number: u32) {
    if version() == 2 { v2::send(target, number) } else { v3::send(target, number) }
}

/// Interrupts all other processors with SGI `number`.
pub fn send_to_others(number: u32) {
    if version() == 2 { v2::send_to_others(number) } else { v3::send_to_others(number) }
}

/// Sends shared `interrupt` to processor `target`.
pub fn route(interrupt: u32, target: usize) {
    if version() == 2 { v2::route(interrupt, target) } else { v3::route(interrupt, target) }
}

/// Turns the distributor on; called once.
pub fn init_distributor() {
    let on = if version() == 2 { v2::DISTRIBUTOR_ON } else { v3::DISTRIBUTOR_ON };
    distributor().write32(register::CTLR, on);
}

/// Gets this processor's part ready: SGIs come, other private interrupts wait to be enabled.
pub(crate) fn init_this_cpu() {
    if version() == 3 {
        v3::wake(cpu::number());
    }
    let (registers, start) = bank(cpu::number(), 0);
    for interrupt in 0..32 {
        registers.write8(start + register::PRIORITY + interrupt, PRIORITY);
    }
    registers.write32(start + register::CLEAR_ENABLE, u32::MAX);
    registers.write32(start + register::SET_ENABLE, 0xffff);
    if version() == 2 {
        v2::turn_on()
    } else {
        v3::turn_on()
    }
    set_priority_mask(0xf0);
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
