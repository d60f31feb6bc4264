//! The counter, the virtual and the physical timer, and waking from WFI by them.

use crate::suite::{Outcome, Suite, a_while, check, check_eq, soon};
use core::sync::atomic::{AtomicU64, Ordering};
use pv_guest_lib::time::{self, ENABLE, EXPIRED, MASKED, Timer};
use pv_guest_lib::{cpu, gic};

const BOTH: [Timer; 2] = [Timer::Virtual, Timer::Physical];

/// Counter values at which each timer's interrupt was taken last.
static TAKEN_AT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn slot(timer: Timer) -> &'static AtomicU64 {
    let [virtual_one, physical_one] = &TAKEN_AT;
    match timer {
        Timer::Virtual => virtual_one,
        Timer::Physical => physical_one,
    }
}

fn taken(timer: Timer) -> u32 {
    gic::taken(0, timer.interrupt())
}

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    for timer in BOTH {
        gic::set_handler(timer.interrupt(), |interrupt| {
            for timer in BOTH {
                if timer.interrupt() == interrupt {
                    slot(timer).store(timer.now(), Ordering::SeqCst);
                    timer.set_control(ENABLE | MASKED);
                }
            }
        });
        gic::enable(timer.interrupt(), true);
    }
    suite.test("the counters go on, at one rate", counters);
    for timer in BOTH {
        let name = |what: &str| alloc::format!("{timer:?} timer: {what}");
        suite.test(&name("it interrupts at its time, not before"), || on_time(timer));
        suite.test(&name("a time that has passed interrupts at once"), || past(timer));
        suite.test(&name("its control register tells what it does"), || control(timer));
        suite.test(&name("masked or off it stays quiet"), || quiet(timer));
        suite.test(&name("the ticks left are told"), || ticks(timer));
        suite.test(&name("it wakes from WFI"), || wakes(timer, true));
        suite.test(&name("it wakes from WFI with interrupts kept out"), || wakes(timer, false));
        suite.test(&name("a hundred short ones in a row"), || row(timer));
    }
    suite.beyond_xen("a physical timer put off in time does not interrupt", put_off);
    suite.test("both timers run at once", together);
    suite.test("waiting sleeps until the timer, not long after", accurate);
    suite.finish();
}

fn counters() -> Outcome {
    check!(time::frequency() >= 1_000_000);
    let start = (time::now(), time::physical_now());
    let mut last = start;
    for _ in 0..1000 {
        let now = (time::now(), time::physical_now());
        check!(now.0 >= last.0 && now.1 >= last.1, "a counter went back");
        last = now;
    }
    check!(last.0 > start.0 && last.1 > start.1);
    let (virtual_ticks, physical_ticks) = (last.0 - start.0, last.1 - start.1);
    check!(virtual_ticks.abs_diff(physical_ticks) <= virtual_ticks / 10 + 100);
    Ok(())
}

fn on_time(timer: Timer) -> Outcome {
    for microseconds in [200, 1000, 3000] {
        let before = taken(timer);
        let deadline = timer.now() + time::microseconds(microseconds);
        timer.set_deadline(deadline);
        timer.set_control(ENABLE);
        check_eq!(timer.deadline(), deadline);
        check!(soon(|| taken(timer) > before), "no interrupt");
        let late = slot(timer).load(Ordering::SeqCst).wrapping_sub(deadline).cast_signed();
        check!(late >= 0, "it came {} ticks early", -late);
        let limit = time::microseconds(5000).cast_signed();
        check!(late < limit, "it came {late} ticks late");
        a_while();
        check_eq!(taken(timer), before + 1);
        timer.stop();
    }
    Ok(())
}

fn past(timer: Timer) -> Outcome {
    for deadline in [0, 1, timer.now() - 1] {
        let before = taken(timer);
        timer.set_deadline(deadline);
        timer.set_control(ENABLE);
        check!(soon(|| taken(timer) == before + 1));
        timer.stop();
    }
    Ok(())
}

fn control(timer: Timer) -> Outcome {
    timer.set_control(0);
    check_eq!(timer.control() & (ENABLE | MASKED), 0);
    timer.set_deadline(timer.now() + time::microseconds(100_000));
    timer.set_control(ENABLE | MASKED);
    check_eq!(timer.control(), ENABLE | MASKED);
    timer.set_deadline(0);
    check_eq!(timer.control(), ENABLE | MASKED | EXPIRED);
    timer.set_deadline(timer.now() + time::microseconds(100_000));
    check_eq!(timer.control(), ENABLE | MASKED);
    timer.stop();
    Ok(())
}

fn quiet(timer: Timer) -> Outcome {
    let before = taken(timer);
    for control in [0, MASKED, ENABLE | MASKED] {
        timer.set_deadline(timer.now());
        timer.set_control(control);
        a_while();
        check_eq!(taken(timer), before);
    }
    timer.stop();
    Ok(())
}

fn ticks(timer: Timer) -> Outcome {
    timer.set_control(MASKED);
    let set = time::microseconds(50_000);
    timer.set_ticks(set);
    let left = timer.ticks();
    check!(left <= set && left > set / 2, "{left} of {set} ticks are left");
    timer.set_deadline(timer.now() + set);
    let left = timer.ticks();
    check!(left <= set && left > set / 2, "{left} of {set} ticks are left");
    let before = taken(timer);
    timer.set_ticks(time::microseconds(300));
    timer.set_control(ENABLE);
    check!(soon(|| taken(timer) == before + 1));
    timer.stop();
    Ok(())
}

fn wakes(timer: Timer, let_in: bool) -> Outcome {
    for _ in 0..5 {
        let before = taken(timer);
        let deadline = timer.now() + time::microseconds(2000);
        cpu::without_interrupts(|| {
            timer.set_deadline(deadline);
            timer.set_control(ENABLE);
            if let_in {
                cpu::enable_interrupts();
            }
            while timer.now() < deadline {
                cpu::wait_for_interrupt();
            }
        });
        check!(soon(|| taken(timer) == before + 1), "no interrupt");
        timer.stop();
    }
    Ok(())
}

fn row(timer: Timer) -> Outcome {
    let before = taken(timer);
    for round in 1..=100 {
        timer.start(time::microseconds(20));
        check!(soon(|| taken(timer) == before + round), "number {round} did not come");
    }
    timer.stop();
    Ok(())
}

fn put_off() -> Outcome {
    // The hypervisor sees each change of this one; the virtual one's line is the hardware's affair.
    let timer = Timer::Physical;
    let before = taken(timer);
    cpu::without_interrupts(|| {
        timer.start(time::microseconds(100));
        time::wait_until(1, || false);
        timer.set_deadline(timer.now() + time::microseconds(1_000_000));
    });
    a_while();
    check_eq!(taken(timer), before);
    timer.stop();
    Ok(())
}

fn together() -> Outcome {
    let before = BOTH.map(taken);
    Timer::Virtual.start(time::microseconds(500));
    Timer::Physical.start(time::microseconds(700));
    check!(soon(|| {
        let mut both = BOTH.iter().zip(before);
        both.all(|(timer, before)| taken(*timer) == before + 1)
    }));
    for timer in BOTH {
        timer.stop();
    }
    Ok(())
}

fn accurate() -> Outcome {
    for timer in BOTH {
        let deadline = timer.now() + time::microseconds(20_000);
        timer.set_deadline(deadline);
        timer.set_control(ENABLE);
        while timer.now() < deadline {
            cpu::wait_for_interrupt();
        }
        let late = timer.now() - deadline;
        check!(late < time::microseconds(2000), "{timer:?} woke {late} ticks late");
        timer.stop();
    }
    Ok(())
}
