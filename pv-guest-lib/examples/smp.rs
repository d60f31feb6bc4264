//! Counts primes on all vCPUs, each with its own counter, and compares with what one alone finds.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    use core::sync::atomic::{AtomicU32, Ordering};
    use pv_guest_lib::control::Control;
    use pv_guest_lib::smp::PerCpu;
    use pv_guest_lib::time::Instant;
    use pv_guest_lib::{cpu, event, per_cpu, say, smp, tree, wait};

    pv_guest_lib::entry!(main);

    const LIMIT: u32 = 60_000;
    const SHARE: u32 = 500;
    /// There are so many primes below 60,000.
    const EXPECTED: u32 = 6057;

    static NEXT: AtomicU32 = AtomicU32::new(0);
    static READY: AtomicU32 = AtomicU32::new(0);
    static FOUND: PerCpu<u32> = per_cpu!(0);

    fn is_prime(number: u32) -> bool {
        number >= 2
            && (2..)
                .take_while(|factor| factor * factor <= number)
                .all(|factor| !number.is_multiple_of(factor))
    }

    fn work() {
        loop {
            let from = NEXT.fetch_add(SHARE, Ordering::SeqCst);
            if from >= LIMIT {
                break;
            }
            let primes = (from..from + SHARE).filter(|number| is_prime(*number)).count();
            FOUND.with(|found| *found += u32::try_from(primes).unwrap_or(0));
        }
        READY.fetch_add(1, Ordering::SeqCst);
        wait::kick_others(cpu::number());
    }

    fn main() {
        if let Err(error) = event::set_up() {
            say!("failed: no events: {error:?}");
        }
        let cpus = tree::get().cpus.min(cpu::MAX_CPUS);
        let began = Instant::now();
        for number in 1..cpus {
            if let Err(error) = smp::start(number, work) {
                say!("failed: vCPU {number}: {error:?}");
            }
        }
        work();
        wait::until(|| usize::try_from(READY.load(Ordering::SeqCst)) == Ok(cpus));
        let mut sum = 0;
        let mut busy = 0;
        FOUND.for_each(|_, found| {
            sum += *found;
            busy += u32::from(*found > 0);
        });
        let verdict = if sum == EXPECTED { "done" } else { "failed" };
        say!("{verdict}: {sum} primes below {LIMIT} by {cpus} vCPUs");
        say!("{busy} of them found some, in {} ms", began.elapsed().as_millis());
        if let Ok(request) = Control::new().and_then(|control| control.wait()) {
            request.perform();
        }
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
