//! The hypervisor's own address space: one set of tables at EL2, shared by all processors.
//!
//! | from | what | how |
//! |---|---|---|
//! | `0` | the page that turns the MMU on, where it really is | read, execute |
//! | `IMAGE_BASE` | the image, wherever the loader put it | text, constants and data each as they need |
//! | `DEVICE_BASE` | devices, at their machine address from here | Device-nGnRE |
//! | `DIRECT_BASE` | memory, at its machine address from here | read, write |
//!
//! `boot.S` fills in the first two. Mappings are only ever added, so nothing is ever invalidated.

use crate::barrier::{dsb_ishst, isb};
use crate::boot;
use crate::lock::Lock;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use hv_core::addr::{MachineAddr, PAGE_SIZE, to_index};

/// Where the image is linked.
pub(crate) const IMAGE_BASE: u64 = 0x4000_0000_0000;
/// Where machine address 0 appears as a device.
pub(crate) const DEVICE_BASE: u64 = 0x8000_0000_0000;
/// Where machine address 0 appears as memory.
pub(crate) const DIRECT_BASE: u64 = 0xc000_0000_0000;
/// How much of the machine's address space the windows show: 64 TiB.
const WINDOW: u64 = 1 << 46;

const VALID: u64 = 1;
/// A table above the last level, a page at the last level.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ADDRESS: u64 = 0xffff_ffff_f000;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 3 << 8;
const READ_ONLY: u64 = 1 << 7;
/// Reads as one in a regime with one privilege level.
const RESERVED: u64 = 1 << 6;
const EXECUTE_NEVER: u64 = 1 << 54;
const DEVICE: u64 = EXECUTE_NEVER | ACCESSED | RESERVED | 1 << 2;
const DATA: u64 = EXECUTE_NEVER | ACCESSED | INNER_SHAREABLE | RESERVED;

/// Page attributes for `boot.S`, which maps the image with them.
pub(crate) const PAGE_TEXT: u64 =
    ACCESSED | INNER_SHAREABLE | READ_ONLY | RESERVED | TABLE_OR_PAGE | VALID;
pub(crate) const PAGE_CONSTANTS: u64 = PAGE_TEXT | EXECUTE_NEVER;
pub(crate) const PAGE_DATA: u64 = DATA | TABLE_OR_PAGE | VALID;

/// A table of any level.
#[repr(C, align(4096))]
pub(crate) struct Table([AtomicU64; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }
}

/// How many last-level tables map the image: 2 MiB each.
pub(crate) const IMAGE_TABLES: usize = 4;
const POOL_TABLES: usize = 32;

// Filled in by `boot.S`.
pub(crate) static ROOT: Table = Table::new();
pub(crate) static IMAGE_LEVEL_1: Table = Table::new();
pub(crate) static IMAGE_LEVEL_2: Table = Table::new();
pub(crate) static IMAGE_LEVEL_3: [Table; IMAGE_TABLES] = [const { Table::new() }; IMAGE_TABLES];
pub(crate) static IDENTITY_LEVEL_1: Table = Table::new();
pub(crate) static IDENTITY_LEVEL_2: Table = Table::new();
pub(crate) static IDENTITY_LEVEL_3: Table = Table::new();

/// Tables for everything mapped later. There are few banks of memory and few devices.
static POOL: [Table; POOL_TABLES] = [const { Table::new() }; POOL_TABLES];
/// How many of them are in use; locked while tables change.
static POOL_USED: Lock<usize> = Lock::new(0);

/// Why something cannot be mapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MapError {
    /// The address is beyond what the windows show.
    TooHigh,
    /// The range is empty or wraps.
    BadRange,
    /// Something else is mapped there.
    Overlap,
    /// No table is left.
    OutOfTables,
}

/// Maps `len` bytes of device registers from `at`, for good; mapping the same again is harmless.
pub(crate) fn map_device(at: MachineAddr, len: u64) -> Result<NonNull<u8>, MapError> {
    if crate::direct_map::touches_ram(at, len) {
        return Err(MapError::Overlap);
    }
    map(DEVICE_BASE, at, len, DEVICE)?;
    let address = to_index(DEVICE_BASE + at.raw());
    NonNull::new(core::ptr::with_exposed_provenance_mut(address)).ok_or(MapError::BadRange)
}

/// Maps `len` bytes of memory from `at` into the direct map.
pub(crate) fn map_memory(at: MachineAddr, len: u64) -> Result<(), MapError> {
    map(DIRECT_BASE, at, len, DATA)
}

fn map(window: u64, at: MachineAddr, len: u64, attributes: u64) -> Result<(), MapError> {
    let end = at.checked_add(len).ok_or(MapError::BadRange)?.raw();
    if len == 0 {
        return Err(MapError::BadRange);
    }
    if end > WINDOW {
        return Err(MapError::TooHigh);
    }
    let end = end.next_multiple_of(PAGE_SIZE);
    let mut at = at.frame().base().raw();
    let mut used = POOL_USED.lock();
    while at < end {
        at += map_one(&mut used, window, at, end - at, attributes)?;
    }
    dsb_ishst();
    isb();
    Ok(())
}

/// Maps the largest block that starts at `at` and is at most `len` long; returns its size.
fn map_one(
    used: &mut usize,
    window: u64,
    at: u64,
    len: u64,
    attributes: u64,
) -> Result<u64, MapError> {
    let mut table = &ROOT;
    for level in 0..3_u32 {
        let size = PAGE_SIZE << (9 * (3 - level));
        let entry = entry(table, window + at, level);
        let value = entry.load(Ordering::Relaxed);
        if level > 0 && at.is_multiple_of(size) && len >= size && value & TABLE_OR_PAGE == 0 {
            return put(entry, at | attributes | VALID, size);
        }
        if value & VALID == 0 {
            let fresh = POOL.get(*used).ok_or(MapError::OutOfTables)?;
            *used += 1;
            let address = boot::machine_address(core::ptr::from_ref(fresh).addr() as u64);
            entry.store(address.raw() | TABLE_OR_PAGE | VALID, Ordering::Release);
            table = fresh;
        } else if value & TABLE_OR_PAGE == 0 {
            // A block of the same kind covers this already.
            let same = value & !ADDRESS == attributes | VALID;
            return if same { Ok((size - at % size).min(len)) } else { Err(MapError::Overlap) };
        } else {
            table = table_at(value & ADDRESS);
        }
    }
    put(entry(table, window + at, 3), at | attributes | TABLE_OR_PAGE | VALID, PAGE_SIZE)
}

fn put(entry: &AtomicU64, value: u64, size: u64) -> Result<u64, MapError> {
    let old = entry.load(Ordering::Relaxed);
    if old & VALID != 0 && old != value {
        return Err(MapError::Overlap);
    }
    entry.store(value, Ordering::Relaxed);
    Ok(size)
}

fn entry(table: &Table, address: u64, level: u32) -> &AtomicU64 {
    let index = to_index((address >> (12 + 9 * (3 - level))) & 0x1ff);
    table.0.get(index).expect("nine bits index a table")
}

/// Returns the table at a machine address found in an entry above it.
fn table_at(address: u64) -> &'static Table {
    let address = boot::image_address(MachineAddr::new(address));
    // SAFETY: every table is a static of the image, where `image_address` finds it again.
    unsafe { &*core::ptr::with_exposed_provenance(to_index(address)) }
}
