//! The hypervisor's heap: small objects made and dropped with domains, never on a hot path.

use crate::direct_map::BootRegion;
use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: TalcLock<spin::mutex::SpinMutex<()>, Manual> = TalcLock::new(Manual);

/// Gives `region` to the heap for good.
///
/// Until the first call every allocation fails.
pub fn add(region: BootRegion) {
    let (start, len) = region.into_memory();
    // SAFETY: `into_memory` gives up memory that nothing else uses, mapped for as long as we run.
    let _ = unsafe { HEAP.lock().claim(start, len) };
}
