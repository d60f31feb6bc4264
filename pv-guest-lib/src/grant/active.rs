//! Grants as values that clean up after themselves.

use super::space::Space;
use super::{Access, GrantTable};
use crate::hypercall::{HypercallError, grant_table as ops};
use crate::lock::Lock;
use crate::page::{PAGE_SIZE, SIZE, SharedPage, SharedPages};
use crate::{map, tree};
use alloc::vec::Vec;
use hypercall_abi::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_EAGAIN,
    GNTST_OKAY, GNTTAB_ENTRIES_PER_FRAME, GNTTAB_NR_RESERVED_ENTRIES, GNTTABOP_COPY,
    GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GnttabCopy, GnttabCopyPtr, GnttabMapGrantRef,
    GnttabUnmapGrantRef,
};
use hypercall_abi::ids::DOMID_SELF;

/// Operations that are asked for in one call.
const BATCH: usize = 32;

/// Why something with grants failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The hypervisor refused a call.
    Hypercall(HypercallError),
    /// The grant table is full and can grow no more.
    NoEntry,
    /// There is no memory for another page.
    NoMemory,
    /// There is no address space for another domain's pages.
    NoSpace,
    /// The hypervisor refused an operation, with one of `GNTST_`: the reference, the domain or what is asked of it is wrong.
    Status(i16),
    /// A part of a copy does not lie within one page.
    Range,
}

impl From<HypercallError> for GrantError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

/// The table in use and its free entries.
struct Entries {
    table: GrantTable,
    max_frames: u32,
    free: Vec<u32>,
    /// Entries that were to be taken back while in use, and the pages that wait for them.
    busy: Vec<Busy>,
}

struct Busy {
    references: Vec<u32>,
    pages: Option<SharedPages>,
}

static ENTRIES: Lock<Option<Entries>> = Lock::new(None);
static SPACE: Lock<Option<Space>> = Lock::new(None);

fn entries_of(frame: u32) -> impl Iterator<Item = u32> {
    let first = (frame * GNTTAB_ENTRIES_PER_FRAME).max(GNTTAB_NR_RESERVED_ENTRIES);
    (first..(frame + 1) * GNTTAB_ENTRIES_PER_FRAME).rev()
}

impl Entries {
    fn start() -> Result<Self, GrantError> {
        let sizes = ops::query_size(DOMID_SELF)?;
        let table = GrantTable::map(1)?;
        let free = entries_of(0).collect();
        let window = u32::try_from(tree::get().grant_window.len / SIZE).unwrap_or(u32::MAX);
        let max_frames = sizes.max_nr_frames.min(window);
        Ok(Self { table, max_frames, free, busy: Vec::new() })
    }

    fn take(&mut self) -> Result<u32, GrantError> {
        if let Some(reference) = self.free.pop() {
            return Ok(reference);
        }
        self.settle();
        if let Some(reference) = self.free.pop() {
            return Ok(reference);
        }
        let frame = self.table.frames();
        if frame >= self.max_frames {
            return Err(GrantError::NoEntry);
        }
        self.table = self.table.grow()?;
        self.free.extend(entries_of(frame));
        self.free.pop().ok_or(GrantError::NoEntry)
    }

    fn take_back(&mut self, references: Vec<u32>, pages: Option<SharedPages>) {
        let (mut still, mut done) = (Vec::new(), references);
        done.retain(|reference| {
            let ended = self.table.revoke(*reference);
            if !ended {
                still.push(*reference);
            }
            ended
        });
        self.free.extend(done);
        if !still.is_empty() {
            self.busy.push(Busy { references: still, pages });
        } else if let Some(pages) = pages {
            pages.recycle();
        }
    }

    /// Tries again to take back what was in use.
    fn settle(&mut self) {
        for Busy { references, pages } in core::mem::take(&mut self.busy) {
            self.take_back(references, pages);
        }
    }
}

fn with_entries<R>(
    work: impl FnOnce(&mut Entries) -> Result<R, GrantError>,
) -> Result<R, GrantError> {
    ENTRIES.with(|entries| {
        let entries = match entries {
            Some(entries) => entries,
            None => entries.insert(Entries::start()?),
        };
        work(entries)
    })
}

/// Maps the table's frames again, which a resumed domain has lost; what was granted before is gone.
pub(crate) fn resume() -> Result<(), GrantError> {
    ENTRIES.with(|entries| {
        let Some(entries) = entries else { return Ok(()) };
        entries.table = GrantTable::map(entries.table.frames())?;
        Ok(())
    })
}

/// Returns how many entries are in use or wait to be taken back, and how many there can be.
pub fn limits() -> Result<(u32, u32), GrantError> {
    with_entries(|entries| {
        entries.settle();
        let usable = entries.table.frames() * GNTTAB_ENTRIES_PER_FRAME - GNTTAB_NR_RESERVED_ENTRIES;
        let free = u32::try_from(entries.free.len()).unwrap_or(u32::MAX);
        let most = entries.max_frames * GNTTAB_ENTRIES_PER_FRAME - GNTTAB_NR_RESERVED_ENTRIES;
        Ok((usable - free, most))
    })
}

/// An entry of the grant table that lets a domain use a page kept elsewhere.
///
/// When it is dropped the page can no longer be mapped; a mapping that is there then stays until the other domain ends it.
#[derive(Debug)]
pub struct Grant {
    reference: u32,
}

impl Grant {
    /// Lets `domain` use a page.
    pub fn new(domain: u16, page: SharedPage, access: Access) -> Result<Self, GrantError> {
        with_entries(|entries| {
            let reference = entries.take()?;
            entries.table.give(reference, domain, page.frame(), access);
            Ok(Self { reference })
        })
    }

    /// Returns the entry's number, which the other domain needs.
    pub fn reference(&self) -> u32 {
        self.reference
    }

    /// Takes the grant back, or returns it when the other domain uses the page.
    pub fn revoke(self) -> Result<(), Self> {
        let ended = ENTRIES.with(|entries| {
            let Some(entries) = entries else { return true };
            let ended = entries.table.revoke(self.reference);
            if ended {
                entries.free.push(self.reference);
            }
            ended
        });
        if !ended {
            return Err(self);
        }
        core::mem::forget(self);
        Ok(())
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        ENTRIES.with(|entries| {
            if let Some(entries) = entries {
                entries.take_back(alloc::vec![self.reference], None);
            }
        });
    }
}

/// Pages of this domain's that another domain may use.
///
/// When it is dropped, the pages are used again only after the other domain has let go of each of them.
pub struct Granted {
    pages: SharedPages,
    references: Vec<u32>,
}

impl Granted {
    /// Allocates `count` zeroed pages and lets `domain` use them.
    pub fn new(domain: u16, count: usize, access: Access) -> Result<Self, GrantError> {
        let pages = SharedPages::try_allocate(count).ok_or(GrantError::NoMemory)?;
        let mut granted = Self { pages, references: Vec::with_capacity(count) };
        for page in pages.iter() {
            // What was granted so far is taken back when `granted` is dropped.
            let reference = with_entries(|entries| {
                let reference = entries.take()?;
                entries.table.give(reference, domain, page.frame(), access);
                Ok(reference)
            })?;
            granted.references.push(reference);
        }
        Ok(granted)
    }

    /// Returns the pages. They must not be kept longer than this.
    pub fn pages(&self) -> SharedPages {
        self.pages
    }

    /// Returns the entry of each page, which the other domain needs.
    pub fn references(&self) -> &[u32] {
        &self.references
    }

    /// Returns the entry of page `number`.
    pub fn reference(&self, number: usize) -> u32 {
        *self.references.get(number).expect("the page is one of them")
    }

    /// Returns whether the other domain uses one of the pages now.
    pub fn in_use(&self) -> bool {
        use hypercall_abi::grant_table::{GTF_READING, GTF_WRITING};
        ENTRIES.with(|entries| {
            let Some(entries) = entries else { return false };
            let used =
                |reference: &u32| entries.table.flags(*reference) & (GTF_READING | GTF_WRITING);
            self.references.iter().any(|reference| used(reference) != 0)
        })
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let references = core::mem::take(&mut self.references);
        ENTRIES.with(|entries| {
            if let Some(entries) = entries {
                entries.take_back(references, Some(self.pages));
            }
        });
    }
}

/// Pages of another domain's, mapped here.
pub struct Mapping {
    pages: SharedPages,
    handles: Vec<u32>,
}

impl Mapping {
    /// Maps what `domain` granted by `references`, one after another; all of them or none.
    ///
    /// An entry that the other side just pages in is asked for again, up to a hundred times.
    pub fn new(domain: u16, references: &[u32], access: Access) -> Result<Self, GrantError> {
        let first = take_space(references.len() as u64)?;
        let read_only = if access == Access::Read { GNTMAP_READONLY } else { 0 };
        let at = |number: usize| (first + number as u64) * SIZE;
        let item = |(number, reference): (usize, &u32)| GnttabMapGrantRef {
            host_addr: at(number),
            flags: GNTMAP_HOST_MAP | read_only,
            reference: *reference,
            dom: domain,
            ..Default::default()
        };
        let mut items: Vec<_> = references.iter().enumerate().map(item).collect();
        for part in items.chunks_mut(BATCH) {
            // Items that were not reached must not look as if they had succeeded.
            part.iter_mut().for_each(|item| item.status = GNTST_EAGAIN);
            for _ in 0..100 {
                let asked = map_batch(part);
                if asked.is_err() || part.iter().all(|item| item.status != GNTST_EAGAIN) {
                    break;
                }
            }
        }
        let mapped = items.iter().filter(|item| item.status == GNTST_OKAY);
        let handles: Vec<(u32, u64)> = mapped.map(|item| (item.handle, item.host_addr)).collect();
        if let Some(bad) = items.iter().find(|item| item.status != GNTST_OKAY) {
            if unmap(&handles) {
                give_space(first, references.len() as u64);
            }
            return Err(GrantError::Status(bad.status));
        }
        // SAFETY: the pages were just mapped, in space that is used for nothing else and stays theirs until they are unmapped.
        let pages = unsafe { SharedPages::at(at(0), references.len()) };
        Ok(Self { pages, handles: handles.into_iter().map(|(handle, _)| handle).collect() })
    }

    /// Returns the pages. They must not be reached after this is dropped, or the guest ends with a fault.
    pub fn pages(&self) -> SharedPages {
        self.pages
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let handles = self.handles.iter().zip(self.pages.iter());
        let handles: Vec<_> = handles.map(|(handle, page)| (*handle, page.address())).collect();
        // What could not be unmapped is never used again.
        if unmap(&handles) {
            give_space(self.pages.address() / SIZE, self.pages.count() as u64);
        }
    }
}

/// Asks for those of the items that have not been mapped yet.
fn map_batch(items: &mut [GnttabMapGrantRef]) -> Result<(), HypercallError> {
    let mut rest: Vec<_> = items.iter_mut().filter(|item| item.status == GNTST_EAGAIN).collect();
    let mut copies: Vec<GnttabMapGrantRef> = rest.iter().map(|item| **item).collect();
    ops::batch(GNTTABOP_MAP_GRANT_REF, &mut copies)?;
    for (item, copy) in rest.iter_mut().zip(copies) {
        **item = copy;
    }
    Ok(())
}

/// Ends mappings; returns whether all of them ended.
fn unmap(handles: &[(u32, u64)]) -> bool {
    let item = |(handle, host_addr): &(u32, u64)| GnttabUnmapGrantRef {
        host_addr: *host_addr,
        handle: *handle,
        ..Default::default()
    };
    let mut all = true;
    for part in handles.chunks(BATCH) {
        let mut items: Vec<_> = part.iter().map(item).collect();
        let asked = ops::batch(GNTTABOP_UNMAP_GRANT_REF, &mut items);
        all &= asked.is_ok() && items.iter().all(|item| item.status == GNTST_OKAY);
    }
    all
}

fn take_space(count: u64) -> Result<u64, GrantError> {
    if count == 0 {
        return Err(GrantError::Range);
    }
    SPACE.with(|space| {
        let space = space.get_or_insert_with(|| {
            let mut space = Space::new();
            for range in &tree::get().extended {
                let end = (range.start + range.len).min(map::MEMORY_END);
                space.give(range.start / SIZE, end.saturating_sub(range.start) / SIZE);
            }
            space
        });
        space.take(count).ok_or(GrantError::NoSpace)
    })
}

fn give_space(first: u64, count: u64) {
    SPACE.with(|space| {
        if let Some(space) = space {
            space.give(first, count);
        }
    });
}

/// Where one end of a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In a page of this domain's.
    Own {
        /// Its frame.
        frame: u64,
        /// First byte in it.
        offset: u16,
    },
    /// In a page that another domain granted.
    Granted {
        /// That domain.
        domain: u16,
        /// Its entry.
        reference: u32,
        /// First byte in the page.
        offset: u16,
    },
}

impl Side {
    /// Names a place in pages of this domain's; the rest of that page can be copied.
    pub fn own(pages: SharedPages, offset: usize) -> Self {
        let frame = pages.page(offset / PAGE_SIZE).frame();
        Self::Own { frame, offset: u16::try_from(offset % PAGE_SIZE).unwrap_or(u16::MAX) }
    }

    fn offset(self) -> u16 {
        match self {
            Self::Own { offset, .. } | Self::Granted { offset, .. } => offset,
        }
    }

    fn pointer(self) -> GnttabCopyPtr {
        let (frame_or_ref, domid) = match self {
            Self::Own { frame, .. } => (frame, DOMID_SELF),
            Self::Granted { domain, reference, .. } => (u64::from(reference), domain),
        };
        GnttabCopyPtr { frame_or_ref, domid, offset: self.offset(), pad: 0 }
    }
}

/// Bytes to be copied by the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// From where.
    pub from: Side,
    /// To where.
    pub to: Side,
    /// How many bytes; neither end may leave its page.
    pub len: u16,
}

impl Copy {
    fn item(self) -> Result<GnttabCopy, GrantError> {
        let fits = |side: Side| usize::from(side.offset()) + usize::from(self.len) <= PAGE_SIZE;
        if !fits(self.from) || !fits(self.to) {
            return Err(GrantError::Range);
        }
        let flag = |side, flag| if matches!(side, Side::Granted { .. }) { flag } else { 0 };
        Ok(GnttabCopy {
            source: self.from.pointer(),
            dest: self.to.pointer(),
            len: self.len,
            flags: flag(self.from, GNTCOPY_SOURCE_GREF) | flag(self.to, GNTCOPY_DEST_GREF),
            status: GNTST_EAGAIN,
            ..Default::default()
        })
    }
}

/// Copies bytes between pages of this and other domains; returns the outcome of each.
pub fn copy(copies: &[Copy]) -> Result<Vec<Result<(), GrantError>>, GrantError> {
    let items: Result<Vec<GnttabCopy>, GrantError> =
        copies.iter().map(|copy| copy.item()).collect();
    let mut items = items?;
    for part in items.chunks_mut(BATCH) {
        ops::batch(GNTTABOP_COPY, part)?;
    }
    Ok(items.iter().map(|item| map_status(item.status)).collect())
}

/// Turns one of `GNTST_` into a result.
pub fn map_status(status: i16) -> Result<(), GrantError> {
    if status == GNTST_OKAY { Ok(()) } else { Err(GrantError::Status(status)) }
}
