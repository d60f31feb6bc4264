//! The guest's own translation: what `boot.S` laid out, and the few changes made later.
//!
//! The first GiB is device registers, the next seven are memory; both are mapped where they are. The image
//! is mapped a second time where it is linked.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// Where `image.ld` links the image.
const IMAGE_BASE: u64 = 0x7f_c000_0000;
const BLOCK: u64 = 1 << 21;
/// First address that is not mapped as memory.
pub const MEMORY_END: u64 = 8 << 30;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 3 << 8;
const NEVER_EXECUTED: u64 = 3 << 53;
/// A block of memory, apart from its address.
pub(crate) const NORMAL_BLOCK: u64 = 1 | ACCESSED | INNER_SHAREABLE;
/// A block of device registers, apart from its address.
pub(crate) const DEVICE_BLOCK: u64 = 1 | 1 << 2 | ACCESSED | NEVER_EXECUTED;

/// A translation table.
#[repr(C, align(4096))]
pub(crate) struct Table([AtomicU64; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }
}

pub(crate) static ROOT: Table = Table::new();
pub(crate) static LOW: Table = Table::new();
pub(crate) static IMAGE: Table = Table::new();

/// What to add to an address in the image to get the real one.
static OFFSET: AtomicU64 = AtomicU64::new(0);

/// Remembers where the image really is.
pub(crate) fn init(offset: u64) {
    OFFSET.store(offset, Ordering::Relaxed);
}

/// Returns the guest physical address behind a virtual one.
pub fn physical(address: u64) -> u64 {
    if address >= IMAGE_BASE {
        address.wrapping_add(OFFSET.load(Ordering::Relaxed))
    } else {
        address
    }
}

/// Returns the guest physical address of `item`.
pub fn physical_of<T: ?Sized>(item: &T) -> u64 {
    physical(core::ptr::from_ref(item).cast::<()>().expose_provenance() as u64)
}

/// Returns the frame a virtual address is in.
pub fn frame_at(address: u64) -> u64 {
    physical(address) >> 12
}

/// Returns a pointer to a virtual address.
pub(crate) fn pointer<T>(address: u64) -> *const T {
    let address = usize::try_from(address).expect("addresses have 64 bits here");
    core::ptr::with_exposed_provenance(address)
}

/// Makes the 2 MiB blocks around a range of the first GiB memory instead of registers.
pub fn make_memory(start: u64, len: u64) {
    let first = start / BLOCK;
    let last = (start + len.max(1) - 1) / BLOCK;
    for block in first..=last {
        let Some(entry) = usize::try_from(block).ok().and_then(|index| LOW.0.get(index)) else {
            return;
        };
        if entry.load(Ordering::Relaxed) == (block * BLOCK) | NORMAL_BLOCK {
            continue;
        }
        entry.store(0, Ordering::Relaxed);
        flush();
        entry.store((block * BLOCK) | NORMAL_BLOCK, Ordering::Relaxed);
        flush();
    }
}

fn flush() {
    // SAFETY: forgetting translations is always allowed; the tables say the same as before or more.
    unsafe { asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack)) };
}
