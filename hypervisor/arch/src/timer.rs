//! The system counter as [`Nanos`], and the EL2 physical timer that wakes the scheduler.

use crate::regs::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTPCT_EL0, CnthpCval, Readable, Writeable};
use core::sync::atomic::{AtomicU64, Ordering};
use hv_core::ids::Irq;
use hv_core::time::Nanos;

/// The EL2 physical timer's interrupt (the fourth of a device tree's timer node): INTID 26.
pub const IRQ: Irq = Irq::ppi(10);
/// The guests' virtual timer interrupt: INTID 27.
pub const VIRTUAL_IRQ: Irq = Irq::ppi(11);

/// Nanoseconds in a tick, times 2^32.
static NANOS_PER_TICK: AtomicU64 = AtomicU64::new(0);
/// Ticks in a nanosecond, times 2^60.
static TICKS_PER_NANO: AtomicU64 = AtomicU64::new(0);
/// The counter when the hypervisor started.
static START: AtomicU64 = AtomicU64::new(0);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Returns the physical counter, in ticks.
#[inline(always)]
pub fn ticks() -> u64 {
    crate::barrier::isb();
    CNTPCT_EL0.get()
}

/// Returns the counter's frequency, in hertz.
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// Returns the counter's value at [`Nanos`] zero.
#[inline(always)]
pub fn start() -> u64 {
    START.load(Ordering::Relaxed)
}

/// Returns the time since the hypervisor started.
#[inline(always)]
pub fn now() -> Nanos {
    to_nanos(ticks().wrapping_sub(start()))
}

/// Returns how long `ticks` take; saturates.
#[inline(always)]
pub fn to_nanos(ticks: u64) -> Nanos {
    let wide = u128::from(ticks) * u128::from(NANOS_PER_TICK.load(Ordering::Relaxed));
    Nanos(u64::try_from(wide >> 32).unwrap_or(u64::MAX))
}

/// Returns how many whole ticks `span` takes; it may be one too few.
#[inline(always)]
pub fn to_ticks(span: Nanos) -> u64 {
    let wide = u128::from(span.0) * u128::from(TICKS_PER_NANO.load(Ordering::Relaxed));
    u64::try_from(wide >> 60).unwrap_or(u64::MAX)
}

/// Makes this processor's EL2 timer interrupt fire at `deadline`, at once if that is past.
#[inline]
pub fn set_deadline(deadline: Nanos) {
    if deadline == Nanos::NEVER {
        return clear_deadline();
    }
    // One more tick, since the conversion rounds down: never early.
    CnthpCval::set(start().saturating_add(to_ticks(deadline)).saturating_add(1));
    CNTHP_CTL_EL2.set(1);
}

/// Silences this processor's EL2 timer.
#[inline]
pub fn clear_deadline() {
    CNTHP_CTL_EL2.set(0);
}

/// Learns the counter's frequency; the first processor calls it before anything asks for the time.
pub(crate) fn init() {
    let frequency = u128::from(frequency().max(1));
    let nanos = (NANOS_PER_SECOND << 32) / frequency;
    let ticks = (frequency << 60) / NANOS_PER_SECOND;
    NANOS_PER_TICK.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    TICKS_PER_NANO.store(u64::try_from(ticks).unwrap_or(u64::MAX), Ordering::Relaxed);
    START.store(self::ticks(), Ordering::Relaxed);
}

pub(crate) fn init_this() {
    clear_deadline();
}
