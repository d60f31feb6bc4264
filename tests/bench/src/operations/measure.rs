//! The clock around what is measured, taking interrupts without a handler, and the order of it all.

use crate::{alone, child, pair};
use core::fmt;
use core::sync::atomic::Ordering;
use pv_guest_lib::hypercall::HypercallError;
use pv_guest_lib::smp::PsciError;
use pv_guest_lib::{cpu, event, gic, say, shared_info, time};

/// Why there is no number.
pub(crate) enum Failure {
    /// A hypercall failed.
    Hypercall(HypercallError),
    /// A processor did not start.
    Processor(PsciError),
    /// Something else, in words.
    Other(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hypercall(error) => write!(formatter, "a hypercall failed: {error:?}"),
            Self::Processor(error) => write!(formatter, "a PSCI call failed: {error:?}"),
            Self::Other(why) => formatter.write_str(why),
        }
    }
}

impl From<HypercallError> for Failure {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

impl From<PsciError> for Failure {
    fn from(error: PsciError) -> Self {
        Self::Processor(error)
    }
}

/// Nanoseconds of one operation, or why there are none.
pub(crate) type Cost = Result<u64, Failure>;

/// Operations before those that count: they fill what is filled on first use.
const WARM_UP: u32 = 32;

/// Measures all that the machine's shape allows.
pub(crate) fn main() {
    let mapped = shared_info::map().and_then(|()| shared_info::register_vcpu());
    if let Err(error) = mapped {
        say!("no shared page: {error:?}");
        return;
    }
    event::enable_upcall();
    cpu::disable_interrupts();
    alone::measure();
    pair::measure();
    child::measure();
    say!("costs told");
}

/// Prints one line.
pub(crate) fn tell(name: &str, cost: Cost) {
    match cost {
        Ok(nanoseconds) => say!("cost {name}: {nanoseconds}"),
        Err(why) => say!("no cost of {name}: {why}"),
    }
}

/// Does something `count` times; returns the nanoseconds of each.
pub(crate) fn each(count: u32, mut operation: impl FnMut() -> Result<(), Failure>) -> Cost {
    for _ in 0..WARM_UP {
        operation()?;
    }
    let start = time::nanoseconds();
    for _ in 0..count {
        operation()?;
    }
    Ok((time::nanoseconds() - start) / u64::from(count))
}

/// Adds up what `operation` measured itself, `count` times; returns the mean.
pub(crate) fn mean(count: u32, mut operation: impl FnMut() -> Cost) -> Cost {
    for _ in 0..WARM_UP {
        operation()?;
    }
    let mut sum = 0;
    for _ in 0..count {
        sum += operation()?;
    }
    Ok(sum / u64::from(count))
}

/// Waits for an interrupt and takes it; `rest` is done while there is none.
pub(crate) fn take(rest: fn()) -> u32 {
    loop {
        if let Some(interrupt) = gic::acknowledge() {
            gic::end(interrupt);
            return interrupt;
        }
        rest();
    }
}

/// Makes a port as if its event had never come, for this processor.
pub(crate) fn forget(port: u32) {
    let number = cpu::number();
    if let Some(flag) = shared_info::upcall_pending(number) {
        flag.store(0, Ordering::SeqCst);
    }
    if let Some(words) = shared_info::pending_selector(number) {
        words.store(0, Ordering::SeqCst);
    }
    event::clear(port);
}
