//! Waiting with the vCPU asleep: until something is true, or until a time.
//!
//! A processor that waits executes `WFI`, at which the hypervisor lets others run. It looks again after every interrupt, so what it waits
//! for must be made true by a handler, or by another processor that then calls [`kick_others`].

use crate::cpu::{self, MAX_CPUS};
use crate::time::{self, Timer};
use crate::{gic, lock::Lock};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::task::Waker;

/// The interrupt by which processors wake each other.
const KICK: u32 = 15;

/// A bit for each processor that waits.
static WAITING: AtomicU32 = AtomicU32::new(0);
static READY: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// Tasks that want to be woken at a time of the virtual counter, the earliest last.
static ALARMS: Lock<Vec<(u64, Waker)>> = Lock::new(Vec::new());

/// Waits until `done` is true.
pub fn until(mut done: impl FnMut() -> bool) {
    while !until_tick(u64::MAX, &mut done) {}
}

/// Waits until `done` is true, at most until the virtual counter is `deadline`; returns whether it came true.
pub fn until_tick(deadline: u64, mut done: impl FnMut() -> bool) -> bool {
    let me = cpu::number();
    loop {
        let answer = cpu::without_interrupts(|| {
            WAITING.fetch_or(1 << me, Ordering::SeqCst);
            let answer = if done() {
                Some(true)
            } else if time::now() >= deadline {
                Some(false)
            } else {
                sleep(me, deadline);
                None
            };
            WAITING.fetch_and(!(1 << me), Ordering::SeqCst);
            answer
        });
        run_alarms();
        if let Some(answer) = answer {
            return answer;
        }
    }
}

/// Waits so many milliseconds.
pub fn milliseconds(count: u64) {
    until_tick(time::now() + time::microseconds(count * 1000), || false);
}

/// Sleeps until an interrupt is pending, which comes in when interrupts are let in again.
fn sleep(me: usize, deadline: u64) {
    let alarm = ALARMS.with(|alarms| alarms.last().map(|(time, _)| *time));
    let deadline = deadline.min(alarm.unwrap_or(u64::MAX));
    if deadline == u64::MAX {
        cpu::wait_for_interrupt();
        return;
    }
    if READY.get(me).is_some_and(|ready| !ready.swap(true, Ordering::SeqCst)) {
        gic::set_handler(time::VIRTUAL_TIMER, |_| Timer::Virtual.stop());
        gic::enable(time::VIRTUAL_TIMER, true);
    }
    if time::now() < deadline {
        Timer::Virtual.set_deadline(deadline);
        Timer::Virtual.set_control(time::ENABLE);
        cpu::wait_for_interrupt();
    }
    Timer::Virtual.stop();
}

/// Wakes the processors that wait, since something they wait for may have come true.
pub fn kick_others(me: usize) {
    let waiting = WAITING.load(Ordering::SeqCst) & !(1 << me);
    for number in 0..MAX_CPUS {
        if waiting >> number & 1 != 0 {
            gic::send(number, KICK);
        }
    }
}

/// Wakes a task when the virtual counter is `time`.
pub fn wake_at(time: u64, waker: &Waker) {
    let entry = (time, waker.clone());
    ALARMS.with(|alarms| {
        let place = alarms.partition_point(|(other, _)| *other > time);
        alarms.insert(place, entry);
    });
}

/// Wakes the tasks whose time has come. A processor that waits does so by itself; an executor that never waits calls this.
pub fn run_alarms() {
    let now = time::now();
    while let Some((_, waker)) = ALARMS.with(|alarms| alarms.pop_if(|(time, _)| *time <= now)) {
        waker.wake();
    }
}
