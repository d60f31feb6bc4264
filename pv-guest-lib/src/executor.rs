//! `embassy-executor` on a vCPU: an event channel or the timer wakes a task, and when none is ready the vCPU sleeps in the hypervisor.
//!
//! Each vCPU can have an executor of its own. `embassy-time` works too: this is its driver, with the virtual counter as its clock.

use crate::cpu::{self, MAX_CPUS};
use crate::time;
use crate::wait;
use core::ptr::without_provenance_mut;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::Waker;
use embassy_executor::{Spawner, raw};
use embassy_time_driver::{Driver, TICK_HZ};

static READY: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// An executor for the vCPU that makes it.
pub struct Executor {
    inner: raw::Executor,
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
    }
}

impl Executor {
    /// Makes an executor, which must be run by this vCPU.
    pub fn new() -> Self {
        // The pointer only says which vCPU it is; nothing is there.
        Self { inner: raw::Executor::new(without_provenance_mut(cpu::number())) }
    }

    /// Runs tasks for ever, beginning with those that `init` spawns.
    pub fn run(&'static mut self, init: impl FnOnce(Spawner)) -> ! {
        init(self.inner.spawner());
        let ready = READY.get(cpu::number()).expect("a vCPU's number is below MAX_CPUS");
        loop {
            // SAFETY: this is the one place that polls, and it is not reached from within a task.
            unsafe { self.inner.poll() };
            wait::run_alarms();
            wait::until(|| ready.swap(false, Ordering::SeqCst));
        }
    }
}

/// Called by `embassy-executor` when a task of an executor is ready.
#[unsafe(export_name = "__pender")]
fn pender(context: *mut ()) {
    if let Some(ready) = READY.get(context.addr()) {
        ready.store(true, Ordering::SeqCst);
        wait::kick_others(cpu::number());
    }
}

/// The clock of `embassy-time`.
struct Clock;

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock);

impl Driver for Clock {
    fn now(&self) -> u64 {
        let ticks = u128::from(time::now()) * u128::from(TICK_HZ) / u128::from(time::frequency());
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        let ticks = (u128::from(at) * u128::from(time::frequency())).div_ceil(TICK_HZ.into());
        wait::wake_at(u64::try_from(ticks).unwrap_or(u64::MAX), waker);
    }
}

/// The processor that is in a critical section, plus 1.
static OWNER: AtomicUsize = AtomicUsize::new(0);

struct Section;

critical_section::set_impl!(Section);

const NESTED: u8 = 2;

// SAFETY: interrupts are kept out, and other processors wait until the section's owner has left it.
unsafe impl critical_section::Impl for Section {
    unsafe fn acquire() -> u8 {
        let let_in = crate::system_register!("daif") & 1 << 7 == 0;
        cpu::disable_interrupts();
        let me = cpu::number() + 1;
        if OWNER.load(Ordering::Relaxed) == me {
            return NESTED;
        }
        while OWNER.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed).is_err() {
            cpu::relax();
        }
        u8::from(let_in)
    }

    unsafe fn release(state: u8) {
        if state == NESTED {
            return;
        }
        OWNER.store(0, Ordering::Release);
        if state != 0 {
            cpu::enable_interrupts();
        }
    }
}
