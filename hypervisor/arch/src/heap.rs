//! The hypervisor's heap: small objects made and dropped with domains, never on a hot path.

use crate::direct_map::BootRegion;
use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: TalcLock<spin::mutex::SpinMutex<()>, Manual> = TalcLock::new(Manual);

/// Room for what has to be known before the machine's memory is: the device tree's contents. The Raspberry Pi 4's,
/// of 40 KiB, takes some 400 KiB.
const FIRST_SIZE: usize = 1 << 20;
static mut FIRST: [u8; FIRST_SIZE] = [0; FIRST_SIZE];

/// Gives the heap its first bytes, which are part of the image; the first processor calls it once.
pub(crate) fn init() {
    let start = (&raw mut FIRST).cast::<u8>();
    // SAFETY: nothing else names the array, and this runs once, before anything is allocated.
    let _ = unsafe { HEAP.lock().claim(start, FIRST_SIZE) };
}

/// Returns how many bytes nobody uses; they need not be in one piece.
pub fn free() -> usize {
    HEAP.lock().counters().available_bytes
}

/// Gives `region` to the heap for good.
pub fn add(region: BootRegion) {
    let (start, len) = region.into_memory();
    // SAFETY: `into_memory` gives up memory that nothing else uses, mapped for as long as we run.
    let _ = unsafe { HEAP.lock().claim(start, len) };
}
