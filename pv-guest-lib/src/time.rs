//! The counter and the two timers of a guest.

use crate::{cpu, system_register};
use core::arch::asm;

/// Interrupt of the virtual timer.
pub const VIRTUAL_TIMER: u32 = 27;
/// Interrupt of the physical timer.
pub const PHYSICAL_TIMER: u32 = 30;
/// Control bit: counting.
pub const ENABLE: u64 = 1;
/// Control bit: no interrupt.
pub const MASKED: u64 = 1 << 1;
/// Control bit: the time has come.
pub const EXPIRED: u64 = 1 << 2;

/// Returns the ticks of a second.
pub fn frequency() -> u64 {
    system_register!("cntfrq_el0")
}

/// Returns the virtual counter.
pub fn now() -> u64 {
    // SAFETY: a barrier changes nothing; it keeps the read below from being early.
    unsafe { asm!("isb", options(nostack)) };
    system_register!("cntvct_el0")
}

/// Returns the physical counter.
pub fn physical_now() -> u64 {
    // SAFETY: a barrier changes nothing; it keeps the read below from being early.
    unsafe { asm!("isb", options(nostack)) };
    system_register!("cntpct_el0")
}

/// Returns the nanoseconds since the virtual counter was 0: Xen's system time.
pub fn nanoseconds() -> u64 {
    let nanoseconds = u128::from(now()) * 1_000_000_000 / u128::from(frequency());
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

/// Returns the ticks of so many microseconds.
pub fn microseconds(count: u64) -> u64 {
    frequency() * count / 1_000_000
}

/// Waits until `done`, at most `limit` milliseconds; returns whether it came true.
pub fn wait_until(limit: u64, done: impl Fn() -> bool) -> bool {
    let end = now() + microseconds(limit * 1000);
    loop {
        if done() {
            return true;
        }
        if now() >= end {
            return done();
        }
        cpu::relax();
    }
}

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// CNTV, which counts by the virtual counter.
    Virtual,
    /// CNTP, which counts by the physical counter.
    Physical,
}

macro_rules! set {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the timer interrupts at worst, which handlers expect.
        unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack)) };
    }};
}

impl Timer {
    /// Returns the timer's interrupt.
    pub fn interrupt(self) -> u32 {
        match self {
            Self::Virtual => VIRTUAL_TIMER,
            Self::Physical => PHYSICAL_TIMER,
        }
    }

    /// Returns the counter the timer goes by.
    pub fn now(self) -> u64 {
        match self {
            Self::Virtual => now(),
            Self::Physical => physical_now(),
        }
    }

    /// Sets the counter value at which it expires.
    pub fn set_deadline(self, deadline: u64) {
        match self {
            Self::Virtual => set!("cntv_cval_el0", deadline),
            Self::Physical => set!("cntp_cval_el0", deadline),
        }
    }

    /// Returns the counter value at which it expires.
    pub fn deadline(self) -> u64 {
        match self {
            Self::Virtual => system_register!("cntv_cval_el0"),
            Self::Physical => system_register!("cntp_cval_el0"),
        }
    }

    /// Sets how many ticks from now it expires (32 bits, signed).
    pub fn set_ticks(self, ticks: u64) {
        match self {
            Self::Virtual => set!("cntv_tval_el0", ticks),
            Self::Physical => set!("cntp_tval_el0", ticks),
        }
    }

    /// Returns how many ticks are left (32 bits, signed).
    pub fn ticks(self) -> u64 {
        match self {
            Self::Virtual => system_register!("cntv_tval_el0"),
            Self::Physical => system_register!("cntp_tval_el0"),
        }
    }

    /// Sets [`ENABLE`] and [`MASKED`].
    pub fn set_control(self, control: u64) {
        match self {
            Self::Virtual => set!("cntv_ctl_el0", control),
            Self::Physical => set!("cntp_ctl_el0", control),
        }
    }

    /// Returns [`ENABLE`], [`MASKED`] and [`EXPIRED`].
    pub fn control(self) -> u64 {
        match self {
            Self::Virtual => system_register!("cntv_ctl_el0"),
            Self::Physical => system_register!("cntp_ctl_el0"),
        }
    }

    /// Starts it, to expire `ticks` from now.
    pub fn start(self, ticks: u64) {
        self.set_deadline(self.now() + ticks);
        self.set_control(ENABLE);
    }

    /// Stops it.
    pub fn stop(self) {
        self.set_control(0);
    }
}
