//! The heap: a part of the image.

use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: TalcLock<spin::mutex::SpinMutex<()>, Manual> = TalcLock::new(Manual);

const SIZE: usize = 1 << 20;
static mut MEMORY: [u8; SIZE] = [0; SIZE];

/// Gives the heap its memory; called once.
pub(crate) fn init() {
    let start = (&raw mut MEMORY).cast::<u8>();
    // SAFETY: nothing else names the array, and this runs once, before anything is allocated.
    let _ = unsafe { HEAP.lock().claim(start, SIZE) };
}
