//! The buddy allocator's free lists: blocks of 2^order frames, aligned to their size.
//!
//! Memory is in three zones by address, so that devices with few address bits find their share:
//! high memory goes first. Within a zone, clean blocks and dirty ones are listed apart and do not
//! merge, lest one dirty page spoil a gibibyte that was scrubbed.

use super::owner::{Frame, NIL, State, Table};

/// The largest block is 2^18 frames, 1 GiB: what one stage-2 entry can map.
pub(super) const MAX_ORDER: u8 = 18;
const ORDERS: usize = MAX_ORDER as usize + 1;
/// The first frame above each zone: 1 GiB and 4 GiB, the limits of common devices.
const ZONE_ENDS: [u64; ZONES] = [1 << 18, 1 << 20, u64::MAX];
const ZONES: usize = 3;
/// How many blocks of one list are looked at for one below a limit that is no zone's end.
const SCAN: usize = 256;

/// Whether the contents of frames are somebody's old data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Contents {
    /// All zero, in memory and in caches.
    Clean,
    /// To be scrubbed before a guest may see it.
    Dirty,
}

impl Contents {
    const fn index(self) -> usize {
        match self {
            Self::Clean => 0,
            Self::Dirty => 1,
        }
    }

    const fn state(self) -> State {
        match self {
            Self::Clean => State::FreeClean,
            Self::Dirty => State::FreeDirty,
        }
    }

    const fn of(state: State) -> Option<Self> {
        match state {
            State::FreeClean => Some(Self::Clean),
            State::FreeDirty => Some(Self::Dirty),
            State::Inside | State::Hypervisor | State::Ram | State::Shared => None,
        }
    }
}

/// A block of 2^`order` frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Block {
    pub(super) first: u64,
    pub(super) order: u8,
    pub(super) contents: Contents,
}

impl Block {
    /// Returns the frame after its last.
    pub(super) const fn end(&self) -> u64 {
        self.first + (1 << self.order)
    }
}

/// One list for each order, and which of them hold something.
#[derive(Clone, Copy, Debug)]
struct Lists {
    heads: [u32; ORDERS],
    filled: u32,
}

/// The free lists.
#[derive(Debug)]
pub(super) struct Buddy {
    lists: [[Lists; 2]; ZONES],
    free: u64,
    dirty: u64,
}

impl Buddy {
    pub(super) const fn new() -> Self {
        let empty = Lists { heads: [NIL; ORDERS], filled: 0 };
        Self { lists: [[empty; 2]; ZONES], free: 0, dirty: 0 }
    }

    /// Returns how many frames are free.
    pub(super) const fn free(&self) -> u64 {
        self.free
    }

    /// Returns how many of the free frames are dirty.
    pub(super) const fn dirty(&self) -> u64 {
        self.dirty
    }

    /// Adds `count` frames from `first` on, which are in one bank and marked [`State::Inside`].
    pub(super) fn add(&mut self, table: &mut Table, first: u64, count: u64, contents: Contents) {
        let end = first + count;
        let mut at = first;
        while at < end {
            let order = largest_order(at, end);
            self.insert(table, Block { first: at, order, contents });
            at += 1 << order;
        }
    }

    /// Takes a block of `order`, wholly below frame `limit`; the rest of a larger one stays free.
    ///
    /// Its entries are left [`State::Inside`].
    pub(super) fn take(&mut self, table: &mut Table, order: u8, limit: u64) -> Option<Block> {
        let block = self.find(table, order, limit)?;
        self.unlink(table, block);
        let mut size = block.order;
        while size > order {
            size -= 1;
            let upper = Block { first: block.first + (1 << size), order: size, ..block };
            self.push(table, upper);
        }
        Some(Block { order, ..block })
    }

    /// Takes a dirty block of at most `order`, the largest there is.
    pub(super) fn take_dirty(&mut self, table: &mut Table, order: u8) -> Option<Block> {
        let dirty = Contents::Dirty.index();
        let largest = |lists: &[Lists; 2]| lists.get(dirty)?.filled.checked_ilog2();
        let largest = self.lists.iter().filter_map(largest).max()?;
        let size = u8::try_from(largest).ok()?;
        let zone = self.lists.iter().position(|lists| largest_is(lists, dirty, largest))?;
        let block = self.head(table, zone, Contents::Dirty, size)?;
        self.unlink(table, block);
        let mut size = size;
        while size > order {
            size -= 1;
            self.push(table, Block { first: block.first + (1 << size), order: size, ..block });
        }
        Some(Block { order: size, ..block })
    }

    /// Returns the lowest free block of at least `order` below frame `limit`; walks whole lists.
    pub(super) fn lowest(&self, table: &Table, order: u8, limit: u64) -> Option<Block> {
        let mut best: Option<Block> = None;
        for zone in 0..ZONES {
            for contents in [Contents::Clean, Contents::Dirty] {
                for size in order..=MAX_ORDER {
                    let mut next = self.list(zone, contents, size);
                    while let Some(first) = table.mfn(next) {
                        let fits = first + (1 << order) <= limit;
                        if fits && best.is_none_or(|best| first < best.first) {
                            best = Some(Block { first, order: size, contents });
                        }
                        next = table.at(next).next;
                    }
                }
            }
        }
        best
    }

    /// Returns the free block that holds `mfn`.
    pub(super) fn holding(&self, table: &Table, mfn: u64) -> Option<Block> {
        let bank = table.bank(mfn)?;
        (0..=MAX_ORDER).find_map(|order| {
            let first = mfn & !((1 << order) - 1);
            let frame = table.at(u32::try_from(bank.index(first)?).ok()?);
            let contents = Contents::of(frame.state)?;
            (frame.detail == order).then_some(Block { first, order, contents })
        })
    }

    /// Takes a block that [`Buddy::holding`] returned off its list.
    pub(super) fn unlink(&mut self, table: &mut Table, block: Block) {
        let Some(index) = link(table, block.first) else { return };
        let Frame { next, previous, .. } = *table.at(index);
        if next != NIL {
            table.at_mut(next).previous = previous;
        }
        if previous == NIL {
            self.set_list(block, next);
        } else {
            table.at_mut(previous).next = next;
        }
        *table.at_mut(index) = Frame::INSIDE;
        self.free -= 1 << block.order;
        if block.contents == Contents::Dirty {
            self.dirty -= 1 << block.order;
        }
    }

    /// Adds a block and merges it with its free buddies of the same kind.
    fn insert(&mut self, table: &mut Table, mut block: Block) {
        let Some(bank) = table.bank(block.first) else { return };
        while block.order < MAX_ORDER {
            let first = block.first ^ (1 << block.order);
            let Some(index) = bank.index(first).and_then(|index| u32::try_from(index).ok()) else {
                break;
            };
            let buddy = table.at(index);
            if buddy.state != block.contents.state() || buddy.detail != block.order {
                break;
            }
            self.unlink(table, Block { first, ..block });
            block.first = block.first.min(first);
            block.order += 1;
        }
        self.push(table, block);
    }

    /// Puts a block at the head of its list.
    fn push(&mut self, table: &mut Table, block: Block) {
        let Some(index) = link(table, block.first) else { return };
        let next = self.list(zone(block.first), block.contents, block.order);
        if next != NIL {
            table.at_mut(next).previous = index;
        }
        *table.at_mut(index) = Frame {
            next,
            previous: NIL,
            state: block.contents.state(),
            detail: block.order,
            ..Frame::INSIDE
        };
        self.set_list(block, index);
        self.free += 1 << block.order;
        if block.contents == Contents::Dirty {
            self.dirty += 1 << block.order;
        }
    }

    /// Finds a block of at least `order` with enough of it below frame `limit`: clean before dirty.
    fn find(&self, table: &Table, order: u8, limit: u64) -> Option<Block> {
        for contents in [Contents::Clean, Contents::Dirty] {
            for (zone, lists) in self.lists.iter().enumerate().rev() {
                let filled = lists.get(contents.index())?.filled >> order << order;
                if filled == 0 {
                    continue;
                }
                let end = ZONE_ENDS.get(zone).copied().unwrap_or(0);
                if end <= limit {
                    let size = u8::try_from(filled.trailing_zeros()).ok()?;
                    return self.head(table, zone, contents, size);
                }
                let sizes = (order..=MAX_ORDER).filter(|size| filled & 1 << size != 0);
                for size in sizes {
                    let found = self.scan(table, zone, contents, size, order, limit);
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        None
    }

    /// Looks in one list for a block whose first 2^`order` frames are below frame `limit`.
    fn scan(
        &self,
        table: &Table,
        zone: usize,
        contents: Contents,
        size: u8,
        order: u8,
        limit: u64,
    ) -> Option<Block> {
        let mut next = self.list(zone, contents, size);
        for _ in 0..SCAN {
            let first = table.mfn(next)?;
            if first + (1 << order) <= limit {
                return Some(Block { first, order: size, contents });
            }
            next = table.at(next).next;
        }
        None
    }

    fn head(&self, table: &Table, zone: usize, contents: Contents, order: u8) -> Option<Block> {
        let first = table.mfn(self.list(zone, contents, order))?;
        Some(Block { first, order, contents })
    }

    fn list(&self, zone: usize, contents: Contents, order: u8) -> u32 {
        self.lists
            .get(zone)
            .and_then(|lists| lists.get(contents.index())?.heads.get(usize::from(order)))
            .copied()
            .unwrap_or(NIL)
    }

    fn set_list(&mut self, block: Block, head: u32) {
        let lists = self
            .lists
            .get_mut(zone(block.first))
            .and_then(|lists| lists.get_mut(block.contents.index()))
            .expect("there is a list for each zone and kind");
        if let Some(slot) = lists.heads.get_mut(usize::from(block.order)) {
            *slot = head;
        }
        let bit = 1 << block.order;
        lists.filled = if head == NIL { lists.filled & !bit } else { lists.filled | bit };
    }
}

/// Returns the order of the largest aligned block that starts at `at` and ends by `end`.
pub(super) fn largest_order(at: u64, end: u64) -> u8 {
    let order = at.trailing_zeros().min((end - at).ilog2()).min(u32::from(MAX_ORDER));
    u8::try_from(order).unwrap_or(0)
}

fn largest_is(lists: &[Lists; 2], contents: usize, order: u32) -> bool {
    lists.get(contents).is_some_and(|lists| lists.filled.checked_ilog2() == Some(order))
}

fn link(table: &Table, mfn: u64) -> Option<u32> {
    u32::try_from(table.index(mfn)?).ok()
}

fn zone(mfn: u64) -> usize {
    ZONE_ENDS.iter().position(|end| mfn < *end).unwrap_or(ZONES - 1)
}
