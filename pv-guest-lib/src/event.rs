//! Events: the interrupt that announces them, the two ABIs that say which, and channels as values.
//!
//! The first [`Channel`] sets everything up ([`set_up`]). The functions below it are for who does that by hand.

mod channel;
pub mod fifo;
pub mod two_level;

pub use channel::{Channel, Handler, channels};

use crate::hypercall::HypercallError;
use crate::lock::Lock;
use crate::{cpu, gic, shared_info, tree};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Ports that are counted.
pub const COUNTED: usize = 4096;

static COUNTS: [AtomicU32; COUNTED] = [const { AtomicU32::new(0) }; COUNTED];
static LAST_CPU: [AtomicU32; COUNTED] = [const { AtomicU32::new(u32::MAX) }; COUNTED];
static FIFO: AtomicBool = AtomicBool::new(false);
static SET_UP: Lock<bool> = Lock::new(false);

/// Lets events come to this processor, by the FIFO ABI if there is one; done once, by whoever first needs it.
///
/// Processors that are started later join by themselves.
pub fn set_up() -> Result<(), HypercallError> {
    SET_UP.with(|done| {
        if *done {
            return Ok(());
        }
        shared_info::map()?;
        if shared_info::vcpu_is_registered() {
            // Somebody else did it by hand.
        } else {
            shared_info::register_vcpu()?;
            if fifo::init_control(cpu::number()).is_ok() {
                fifo::expand_array()?;
            }
        }
        enable_upcall();
        *done = true;
        Ok(())
    })
}

/// Lets events come again after the domain was resumed elsewhere; its channels are gone.
pub(crate) fn resume() -> Result<(), HypercallError> {
    if is_set_up() && is_fifo() {
        fifo::resume(cpu::number())?;
    }
    Ok(())
}

/// Returns whether events come by [`set_up`].
pub(crate) fn is_set_up() -> bool {
    SET_UP.with(|done| *done)
}

/// Lets events interrupt this processor.
pub fn enable_upcall() {
    let interrupt = tree::get().event_interrupt;
    gic::set_handler(interrupt, |_| dispatch());
    gic::enable(interrupt, true);
}

/// Keeps events from interrupting this processor.
pub fn disable_upcall() {
    gic::enable(tree::get().event_interrupt, false);
}

/// Says which ABI is in use from now on.
pub(crate) fn use_fifo() {
    FIFO.store(true, Ordering::SeqCst);
}

/// Returns whether the FIFO ABI is in use.
pub fn is_fifo() -> bool {
    FIFO.load(Ordering::SeqCst)
}

/// Looks at all pending events of this processor, and counts them.
pub fn dispatch() {
    let number = cpu::number();
    let Some(flag) = shared_info::upcall_pending(number) else { return };
    while flag.swap(0, Ordering::SeqCst) != 0 {
        if is_fifo() {
            fifo::scan(number, count);
        } else {
            two_level::scan(number, count);
        }
    }
    channel::told();
}

fn count(port: u32) {
    let index = usize::try_from(port).unwrap_or(usize::MAX);
    if let (Some(count), Some(last)) = (COUNTS.get(index), LAST_CPU.get(index)) {
        last.store(u32::try_from(cpu::number()).unwrap_or(u32::MAX), Ordering::SeqCst);
        count.fetch_add(1, Ordering::SeqCst);
    }
    channel::fire(port);
}

/// Returns how often a port's event came.
pub fn taken(port: u32) -> u32 {
    let count = usize::try_from(port).ok().and_then(|index| COUNTS.get(index));
    count.map_or(0, |count| count.load(Ordering::SeqCst))
}

/// Returns the processor a port's event came to last.
pub fn last_cpu(port: u32) -> u32 {
    let last = usize::try_from(port).ok().and_then(|index| LAST_CPU.get(index));
    last.map_or(u32::MAX, |last| last.load(Ordering::SeqCst))
}

/// Masks a port: its event stays pending.
pub fn mask(port: u32) {
    if is_fifo() {
        fifo::mask(port);
    } else {
        two_level::mask(port);
    }
}

/// Returns whether a port's event is pending.
pub fn is_pending(port: u32) -> bool {
    if is_fifo() { fifo::is_pending(port) } else { two_level::is_pending(port) }
}

/// Returns whether a port is masked.
pub fn is_masked(port: u32) -> bool {
    if is_fifo() { fifo::is_masked(port) } else { two_level::is_masked(port) }
}

/// Forgets that a port's event is pending.
pub fn clear(port: u32) {
    if is_fifo() {
        fifo::clear(port);
    } else {
        two_level::clear(port);
    }
}
