//! More processors: each starts by PSCI, runs one function, and goes off again when that returns.

use crate::cpu::{self, MAX_CPUS};
use crate::lock::Lock;
use crate::{event, gic, map, power, shared_info};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// What each processor is to run: a `fn()`.
static WORK: [AtomicPtr<()>; MAX_CPUS] = [const { AtomicPtr::new(null_mut()) }; MAX_CPUS];

/// Which processors run, or go off at this moment.
static STARTED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

unsafe extern "C" {
    /// Where a processor starts, in `boot.S`.
    static secondary_start: u8;
}

/// A PSCI error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PsciError(pub i64);

/// Returns the affinity of processor `number`, as Xen lays them out: 16 to a cluster.
pub fn affinity_of(number: usize) -> u64 {
    (number as u64 & 0xf) | (number as u64 >> 4) << 8
}

/// Returns the physical address at which processors start.
pub fn entry_address() -> u64 {
    map::physical((&raw const secondary_start).expose_provenance() as u64)
}

/// Starts processor `number` at `work`.
pub fn start(number: usize, work: fn()) -> Result<(), PsciError> {
    let slot = WORK.get(number).ok_or(PsciError(-2))?;
    slot.store(work as *mut (), Ordering::SeqCst);
    if event::is_set_up() && event::is_fifo() && event::fifo::control(number).is_none() {
        // Without its control block no event can come to it; an error shows in the events it lacks.
        let _ = event::fifo::init_control(number);
    }
    // SAFETY: the processor has its own stack and runs `next_main`, which keeps Rust's rules.
    let [answer, ..] = unsafe {
        power::call(power::CPU_ON, [affinity_of(number), entry_address(), number as u64])
    };
    match answer.cast_signed() {
        0 => {
            STARTED.get(number).inspect(|started| started.store(true, Ordering::SeqCst));
            Ok(())
        }
        error => Err(PsciError(error)),
    }
}

/// Returns whether processor `number` was started here and has not come to its end.
pub fn is_started(number: usize) -> bool {
    STARTED.get(number).is_some_and(|started| started.load(Ordering::SeqCst)) && is_on(number)
}

/// Returns whether processor `number` is on.
pub fn is_on(number: usize) -> bool {
    power::affinity_info(affinity_of(number), 0) != 1
}

/// Goes on from `boot.S` on every processor but the first.
pub(crate) extern "C" fn next_main(number: usize) -> ! {
    gic::init_this_cpu();
    if event::is_set_up() {
        if !shared_info::vcpu_is_registered() && shared_info::register_vcpu().is_err() {
            log::warn!("vCPU {number} has no vcpu_info: no events come to it");
        }
        event::enable_upcall();
    }
    cpu::enable_interrupts();
    let work = WORK.get(number).map(|slot| slot.load(Ordering::SeqCst));
    if let Some(work) = work.filter(|work| !work.is_null()) {
        // SAFETY: only `start` fills the slot, with a `fn()`.
        let work: fn() = unsafe { transmute::<*mut (), fn()>(work) };
        work();
    }
    cpu::disable_interrupts();
    loop {
        power::cpu_off();
    }
}

/// A value for each processor, which only that processor reaches.
pub struct PerCpu<T> {
    values: [Lock<T>; MAX_CPUS],
}

impl<T> PerCpu<T> {
    /// Makes a value for each processor; `PerCpu::new([const { 0 }; MAX_CPUS].map(..))` is written [`per_cpu!`](crate::per_cpu).
    pub const fn new(values: [Lock<T>; MAX_CPUS]) -> Self {
        Self { values }
    }

    /// Runs `work` on this processor's value, with its interrupts kept out.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let value = self.values.get(cpu::number());
        value.expect("a started processor has a number below MAX_CPUS").with(work)
    }

    /// Runs `work` on every processor's value, one after another.
    pub fn for_each(&self, mut work: impl FnMut(usize, &mut T)) {
        for (number, value) in self.values.iter().enumerate() {
            value.with(|value| work(number, value));
        }
    }
}

/// Makes a [`PerCpu`](crate::smp::PerCpu) in which each processor starts with the same constant.
#[macro_export]
macro_rules! per_cpu {
    ($value:expr) => {
        $crate::smp::PerCpu::new([const { $crate::lock::Lock::new($value) }; $crate::cpu::MAX_CPUS])
    };
}
