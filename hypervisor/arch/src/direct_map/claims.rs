//! Who has which part of memory while the machine starts.

use super::{add_managed, peek_be32};
use crate::boot;
use crate::lock::Lock;
use crate::mmu::{self, DIRECT_BASE, MapError};
use core::fmt;
use hv_core::addr::{MachineAddr, PAGE_SIZE, to_index};

/// Why a part of memory cannot be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimError {
    /// The range is empty or wraps.
    BadRange,
    /// Not all of it is memory that [`map_ram`] was told of.
    NotMemory,
    /// Somebody has part of it: the image, another claim, the allocator.
    Taken,
    /// More parts than expected.
    TooMany,
    /// There is no device tree at the address.
    NoDeviceTree,
    /// It cannot be mapped.
    Map(MapError),
}

impl From<MapError> for ClaimError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// Whole pages, by machine address: from `start` up to `end`.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    const NONE: Self = Self { start: 0, end: 0 };

    /// Returns the pages that hold the bytes.
    fn around(at: MachineAddr, len: u64) -> Result<Self, ClaimError> {
        let end = at.checked_add(len).and_then(|end| end.raw().checked_next_multiple_of(PAGE_SIZE));
        match end {
            Some(end) if len > 0 => Ok(Self { start: at.frame().base().raw(), end }),
            _ => Err(ClaimError::BadRange),
        }
    }

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn holds(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

const MAX_RANGES: usize = 32;

/// Memory the device tree names, and what of it somebody has. Unused places are [`Range::NONE`].
struct Claims {
    ram: [Range; MAX_RANGES],
    taken: [Range; MAX_RANGES],
}

static CLAIMS: Lock<Claims> =
    Lock::new(Claims { ram: [Range::NONE; MAX_RANGES], taken: [Range::NONE; MAX_RANGES] });

impl Claims {
    fn take(&mut self, range: Range) -> Result<(), ClaimError> {
        let image = boot::image();
        let image = Range { start: image.start.raw(), end: image.end.raw() };
        if range.overlaps(image) || self.taken.iter().any(|taken| taken.overlaps(range)) {
            return Err(ClaimError::Taken);
        }
        insert(&mut self.taken, range)
    }

    fn give_back(&mut self, range: Range) {
        for taken in &mut self.taken {
            if taken.start == range.start && taken.end == range.end {
                *taken = Range::NONE;
            }
        }
    }
}

/// Adds a range to the first free place; joins it to one that it continues.
fn insert(ranges: &mut [Range], range: Range) -> Result<(), ClaimError> {
    let free = ranges.iter_mut().find(|place| place.end == 0).ok_or(ClaimError::TooMany)?;
    *free = range;
    Ok(())
}

/// Maps a bank of memory, whole pages of it, and makes its parts available. The image's own part, if it
/// is in this bank, is left out.
pub fn map_ram(at: MachineAddr, len: u64) -> Result<(), ClaimError> {
    let end = at.checked_add(len).ok_or(ClaimError::BadRange)?.frame().base().raw();
    let start = at.raw().checked_next_multiple_of(PAGE_SIZE).ok_or(ClaimError::BadRange)?;
    let bank = Range { start, end };
    if start >= end {
        return Err(ClaimError::BadRange);
    }
    let image = boot::image();
    let before = Range { start, end: end.min(image.start.raw()) };
    let after = Range { start: start.max(image.end.raw()), end };
    for part in [before, after] {
        if part.start < part.end {
            mmu::map_memory(MachineAddr::new(part.start), part.end - part.start)?;
        }
    }
    insert(&mut CLAIMS.lock().ram, bank)
}

/// Says whether any of the bytes are memory that [`map_ram`] was told of, or the image.
pub(crate) fn touches_ram(at: MachineAddr, len: u64) -> bool {
    let Ok(range) = Range::around(at, len) else { return false };
    let image = boot::image();
    range.overlaps(Range { start: image.start.raw(), end: image.end.raw() })
        || CLAIMS.lock().ram.iter().any(|bank| bank.overlaps(range))
}

/// Hands the pages of `len` bytes from `at` to the frame allocator for good: [`super::DirectMap`] reaches
/// them from now on.
///
/// # Errors
///
/// Unless they are memory that nobody has.
pub fn manage(at: MachineAddr, len: u64) -> Result<(), ClaimError> {
    let range = Range::around(at, len)?;
    let mut claims = CLAIMS.lock();
    if !claims.ram.iter().any(|bank| bank.holds(range)) {
        return Err(ClaimError::NotMemory);
    }
    claims.take(range)?;
    if add_managed(range.start, range.end - range.start) {
        Ok(())
    } else {
        claims.give_back(range);
        Err(ClaimError::TooMany)
    }
}

/// Bytes of memory that are nobody else's: what the loader left, or room for the heap.
pub struct BootRegion {
    at: MachineAddr,
    len: u64,
    pages: Range,
}

impl BootRegion {
    /// Takes the `len` bytes from `at`, and with them the rest of their first and last page.
    ///
    /// # Errors
    ///
    /// Unless they are memory that nobody has.
    pub fn claim(at: MachineAddr, len: u64) -> Result<Self, ClaimError> {
        let pages = Range::around(at, len)?;
        let mut claims = CLAIMS.lock();
        if !claims.ram.iter().any(|bank| bank.holds(pages)) {
            return Err(ClaimError::NotMemory);
        }
        claims.take(pages)?;
        Ok(Self { at, len, pages })
    }

    /// Returns where the bytes are.
    pub fn start(&self) -> MachineAddr {
        self.at
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        let start = core::ptr::with_exposed_provenance(to_index(DIRECT_BASE | self.at.raw()));
        // SAFETY: the bytes are mapped and, as `claim` made sure, nobody else's while this lives.
        unsafe { core::slice::from_raw_parts(start, to_index(self.len)) }
    }

    /// Gives the pages back, so that they can be managed; returns the first and the length in bytes.
    pub fn release(self) -> (MachineAddr, u64) {
        CLAIMS.lock().give_back(self.pages);
        (MachineAddr::new(self.pages.start), self.pages.end - self.pages.start)
    }

    /// Keeps the region for good.
    pub fn leak(self) -> &'static [u8] {
        let start = core::ptr::with_exposed_provenance(to_index(DIRECT_BASE | self.at.raw()));
        // SAFETY: the bytes are mapped and, since the claim is never given back, nobody else's ever.
        unsafe { core::slice::from_raw_parts(start, to_index(self.len)) }
    }

    /// Gives up the region as raw memory, for good.
    pub(crate) fn into_memory(self) -> (*mut u8, usize) {
        let start = core::ptr::with_exposed_provenance_mut(to_index(DIRECT_BASE | self.at.raw()));
        (start, to_index(self.len))
    }
}

impl fmt::Debug for BootRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootRegion({:#x}, {} bytes)", self.at.raw(), self.len)
    }
}

/// Takes the flattened device tree at `at`, before the memory it describes is known.
///
/// # Errors
///
/// If there is none, or it is larger than 2 MiB (`Documentation/arch/arm64/booting.rst` of Linux).
pub fn device_tree(at: MachineAddr) -> Result<BootRegion, ClaimError> {
    const MAGIC: u32 = 0xd00d_feed;
    const LARGEST: u64 = 2 << 20;
    const HEADER: u64 = 8;
    if at.raw() == 0 || !at.raw().is_multiple_of(4) {
        return Err(ClaimError::NoDeviceTree);
    }
    mmu::map_memory(at, HEADER)?;
    let len = u64::from(peek_be32(MachineAddr::new(at.raw() + 4)));
    if peek_be32(at) != MAGIC || !(HEADER..=LARGEST).contains(&len) {
        return Err(ClaimError::NoDeviceTree);
    }
    let pages = Range::around(at, len)?;
    mmu::map_memory(at, len)?;
    CLAIMS.lock().take(pages)?;
    Ok(BootRegion { at, len, pages })
}
