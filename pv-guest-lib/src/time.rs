//! The counter and the two timers of a guest; time since it started, and time of day.

use crate::{cpu, shared_info, system_register, wait};
use core::arch::asm;
use core::future::poll_fn;
use core::ops::{Add, Sub};
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Poll;
use core::time::Duration;

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

/// A moment, by the virtual counter, which starts when the domain is made and stands still while it is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    ticks: u64,
}

impl Instant {
    /// Returns this moment.
    pub fn now() -> Self {
        Self { ticks: now() }
    }

    /// Returns the counter at this moment.
    pub fn ticks(self) -> u64 {
        self.ticks
    }

    /// Returns the time since this moment, or 0 if it has not come.
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }

    /// Returns the time since the domain was made.
    pub fn since_start(self) -> Duration {
        Self { ticks: self.ticks } - Self { ticks: 0 }
    }
}

/// The virtual counter at the guest's first instruction.
static BEGAN: AtomicU64 = AtomicU64::new(0);

/// Remembers when the guest's first instruction was.
pub(crate) fn began(ticks: u64) {
    BEGAN.store(ticks, Ordering::Relaxed);
}

/// Returns the time since the guest's first instruction; it may have waited before that for Dom0 to let it run.
pub fn running() -> Duration {
    Instant::now() - Instant { ticks: BEGAN.load(Ordering::Relaxed) }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self { ticks: self.ticks.saturating_add(ticks_of(duration)) }
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        let ticks = u128::from(self.ticks.saturating_sub(earlier.ticks));
        let nanoseconds = ticks * 1_000_000_000 / u128::from(frequency());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Returns the ticks of a duration.
pub fn ticks_of(duration: Duration) -> u64 {
    let ticks = duration.as_nanos().saturating_mul(u128::from(frequency())) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Returns the time since 1970 (UTC), which Dom0 told the hypervisor; `None` if the shared page cannot be mapped.
pub fn wall_clock() -> Option<Duration> {
    shared_info::map().ok()?;
    let [version, seconds, seconds_high, nanoseconds] = shared_info::wall_clock();
    loop {
        let before = version.load(Ordering::Acquire);
        let low = u64::from(seconds.load(Ordering::Relaxed));
        let high = u64::from(seconds_high.load(Ordering::Relaxed));
        let part = nanoseconds.load(Ordering::Relaxed);
        core::sync::atomic::fence(Ordering::Acquire);
        // An odd version is being written.
        if before & 1 == 0 && version.load(Ordering::Relaxed) == before {
            let start = Duration::from_secs(high << 32 | low) + Duration::from_nanos(part.into());
            return Some(start + Instant::now().since_start());
        }
        cpu::relax();
    }
}

/// Waits with the vCPU asleep.
pub fn sleep(duration: Duration) {
    wait::until_tick((Instant::now() + duration).ticks, || false);
}

/// Waits in an async task.
pub async fn sleep_async(duration: Duration) {
    let end = Instant::now() + duration;
    poll_fn(|context| {
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        wait::wake_at(end.ticks, context.waker());
        Poll::Pending
    })
    .await;
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
