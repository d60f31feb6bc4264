//! What two vCPUs do to each other: there and back, and by turns on one processor.

use crate::measure::{Cost, Failure, each, forget, take, tell};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use pv_guest_lib::hypercall::{event_channel, sched};
use pv_guest_lib::{cpu, event, gic, shared_info, smp, time};

const MANY: u32 = 1000;
const SGI: u32 = 6;

/// Ports that notify vCPU 0 and vCPU 1.
static PORTS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
static READY: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);
static YIELDS: AtomicU64 = AtomicU64::new(0);

/// Measures and tells.
pub(crate) fn measure() {
    tell("SGI to another vCPU and back", with_other(answer_interrupts, sgi_and_back));
    tell("event to another vCPU and back", event_and_back());
    tell("switch between two vCPUs that yield", with_other(yield_always, switches));
}

/// Runs vCPU 1 while something is measured, and sees it off.
fn with_other(work: fn(), measured: fn() -> Cost) -> Cost {
    READY.store(false, Ordering::SeqCst);
    STOP.store(false, Ordering::SeqCst);
    smp::start(1, work)?;
    if !wait(|| READY.load(Ordering::SeqCst)) {
        return Err(Failure::Other("vCPU 1 did not come up"));
    }
    let cost = measured();
    STOP.store(true, Ordering::SeqCst);
    gic::send(1, SGI);
    if !wait(|| !smp::is_on(1)) {
        return Err(Failure::Other("vCPU 1 did not go off"));
    }
    // It may have answered its end.
    while let Some(interrupt) = gic::acknowledge() {
        gic::end(interrupt);
    }
    cost
}

fn wait(done: impl Fn() -> bool) -> bool {
    time::wait_until(1000, || {
        let _ = sched::yield_now();
        done()
    })
}

/// Answers each interrupt in kind.
fn answer_interrupts() {
    cpu::disable_interrupts();
    let registered =
        shared_info::upcall_pending(1).is_some() || shared_info::register_vcpu().is_ok();
    event::enable_upcall();
    let [to_other, to_self] = [&PORTS[0], &PORTS[1]].map(|port| port.load(Ordering::SeqCst));
    READY.store(registered, Ordering::SeqCst);
    while !STOP.load(Ordering::SeqCst) {
        if take(cpu::wait_for_interrupt) == SGI {
            gic::send(0, SGI);
        } else {
            forget(to_self);
            let _ = event_channel::send(to_other);
        }
    }
}

fn sgi_and_back() -> Cost {
    each(MANY, || {
        gic::send(1, SGI);
        if take(cpu::wait_for_interrupt) == SGI {
            Ok(())
        } else {
            Err(Failure::Other("another interrupt came"))
        }
    })
}

fn event_and_back() -> Cost {
    for (number, port) in (0..).zip(&PORTS) {
        let bound = event_channel::bind_ipi(number)?;
        event_channel::unmask(bound)?;
        port.store(bound, Ordering::SeqCst);
    }
    let cost = with_other(answer_interrupts, || {
        let [to_self, to_other] = [&PORTS[0], &PORTS[1]].map(|port| port.load(Ordering::SeqCst));
        each(MANY, || {
            event_channel::send(to_other)?;
            take(cpu::wait_for_interrupt);
            forget(to_self);
            Ok(())
        })
    });
    for port in &PORTS {
        event_channel::close(port.load(Ordering::SeqCst))?;
    }
    cost
}

fn yield_always() {
    cpu::disable_interrupts();
    READY.store(true, Ordering::SeqCst);
    while !STOP.load(Ordering::SeqCst) {
        YIELDS.fetch_add(1, Ordering::SeqCst);
        let _ = sched::yield_now();
    }
}

fn switches() -> Cost {
    let before = YIELDS.load(Ordering::SeqCst);
    let start = time::nanoseconds();
    for _ in 0..MANY {
        sched::yield_now()?;
    }
    let took = time::nanoseconds() - start;
    let others = YIELDS.load(Ordering::SeqCst) - before;
    // By turns, each of them yields as often as the other.
    if others.abs_diff(u64::from(MANY)) > u64::from(MANY / 50) {
        return Err(Failure::Other("they did not take turns"));
    }
    Ok(took / (u64::from(MANY) + others))
}
