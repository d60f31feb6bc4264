//! The heap: a part of the image at first, and the rest of the guest's memory once it is known.
//!
//! Handlers of interrupts may allocate and free, so interrupts are kept out while the heap is at work.

use crate::tree::Range;
use crate::{cpu, system_register};
use core::sync::atomic::{AtomicBool, Ordering};
use lock_api::{GuardNoSend, RawMutex};
use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: TalcLock<Quiet, Manual> = TalcLock::new(Manual);

/// What reading the device tree and a few lines of text need.
const SIZE: usize = 128 << 10;
static mut MEMORY: [u8; SIZE] = [0; SIZE];

/// A spin lock that keeps interrupts out while it is held.
struct Quiet {
    taken: AtomicBool,
    /// Whether interrupts were let in before; belongs to the holder.
    let_in: AtomicBool,
}

// SAFETY: `taken` is true from `lock` to `unlock`, and whoever finds it true waits.
unsafe impl RawMutex for Quiet {
    const INIT: Self = Self { taken: AtomicBool::new(false), let_in: AtomicBool::new(false) };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            cpu::relax();
        }
    }

    fn try_lock(&self) -> bool {
        let let_in = system_register!("daif") & 1 << 7 == 0;
        cpu::disable_interrupts();
        if self.taken.swap(true, Ordering::Acquire) {
            if let_in {
                cpu::enable_interrupts();
            }
            return false;
        }
        self.let_in.store(let_in, Ordering::Relaxed);
        true
    }

    unsafe fn unlock(&self) {
        let let_in = self.let_in.load(Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
        if let_in {
            cpu::enable_interrupts();
        }
    }
}

/// Gives the heap its first memory; called once.
pub(crate) fn init() {
    let start = (&raw mut MEMORY).cast::<u8>();
    // SAFETY: nothing else names the array, and this runs once, before anything is allocated.
    let _ = unsafe { HEAP.lock().claim(start, SIZE) };
}

/// Gives the heap a range of memory too.
///
/// # Safety
///
/// The range must be mapped memory that nothing else uses, now or later.
pub(crate) unsafe fn add(range: Range) {
    let Ok(size) = usize::try_from(range.len) else { return };
    let start = crate::map::pointer::<u8>(range.start).cast_mut();
    // SAFETY: the caller vouches for the range.
    let _ = unsafe { HEAP.lock().claim(start, size) };
}
