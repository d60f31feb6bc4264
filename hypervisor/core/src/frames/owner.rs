//! What is known of each frame, and of each domain's share of memory.
//!
//! The table has one 16-byte entry a frame, for the banks of memory the machine has; a hole between
//! banks costs nothing. An entry's links serve the allocator while its frame is free, and remember where
//! a shared page is mapped while it is in use.

use crate::{
    addr::{Gfn, Mfn, to_index},
    ids::DomId,
};
use alloc::vec::Vec;

/// No entry: the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// What a frame is at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum State {
    /// Nobody's, or inside a free block whose first frame says more.
    Inside,
    /// The first frame of a free block, all zero and written back to memory.
    FreeClean,
    /// The first frame of a free block that holds somebody's old data.
    FreeDirty,
    /// The hypervisor's own: tables, control pages, blocks being scrubbed.
    Hypervisor,
    /// A domain's memory.
    Ram,
    /// The hypervisor's, lent to a domain: its shared page, its grant table.
    Shared,
}

/// One frame's entry.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Frame {
    /// The next block of the same free list; low half of the guest frame plus one of a shared page.
    pub(super) next: u32,
    /// The block before; high half likewise.
    pub(super) previous: u32,
    /// How many hold the frame. It is freed when the last lets go.
    pub(super) references: u32,
    /// The domain, for [`State::Ram`] and [`State::Shared`]; [`DomId::XEN`] for the hypervisor's own.
    pub(super) owner: DomId,
    /// What the frame is.
    pub(super) state: State,
    /// The order of the free block that starts here; 1 while its owner holds a frame in use.
    pub(super) detail: u8,
}

const _: () = assert!(size_of::<Frame>() == 16);

impl Frame {
    /// A frame that nobody has.
    pub(super) const INSIDE: Self = Self {
        next: 0,
        previous: 0,
        references: 0,
        owner: DomId(0),
        state: State::Inside,
        detail: 0,
    };

    /// A frame that `owner` has just been given, which holds it by one reference.
    pub(super) const fn taken(owner: DomId, state: State) -> Self {
        Self { owner, state, references: 1, detail: 1, ..Self::INSIDE }
    }

    /// Says whether the owner itself still holds the frame.
    pub(super) const fn held_by_owner(&self) -> bool {
        self.detail != 0
    }

    /// Returns where a shared page is mapped in its domain.
    pub(super) const fn shared_at(&self) -> Option<Gfn> {
        match (self.next as u64 | (self.previous as u64) << 32).checked_sub(1) {
            Some(number) => Some(Gfn::new(number)),
            None => None,
        }
    }

    /// Remembers where a shared page is mapped in its domain.
    #[expect(clippy::cast_possible_truncation, reason = "the halves are taken on purpose")]
    pub(super) fn set_shared_at(&mut self, gfn: Option<Gfn>) {
        let word = gfn.map_or(0, |gfn| gfn.number().saturating_add(1));
        self.next = word as u32;
        self.previous = (word >> 32) as u32;
    }
}

/// A run of memory without holes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bank {
    /// Its first frame.
    pub(super) base: u64,
    /// How many frames it has.
    pub(super) len: u64,
    /// The index of its first entry.
    first: u64,
}

impl Bank {
    /// Returns the index of `mfn`'s entry if the frame is in this bank.
    pub(super) const fn index(&self, mfn: u64) -> Option<usize> {
        match mfn.checked_sub(self.base) {
            Some(offset) if offset < self.len => Some(to_index(self.first + offset)),
            _ => None,
        }
    }
}

/// The entries of all frames.
#[derive(Debug)]
pub(super) struct Table {
    /// The largest bank, which nearly every frame is in, and so is looked at first.
    largest: Bank,
    banks: Vec<Bank>,
    frames: Vec<Frame>,
}

impl Table {
    /// Makes entries for `banks` of (first frame, count), in any order and not overlapping.
    pub(super) fn new(banks: impl IntoIterator<Item = (Mfn, u64)>) -> Self {
        let mut first = 0;
        let banks: Vec<Bank> = banks
            .into_iter()
            .map(|(base, len)| {
                let bank = Bank { base: base.number(), len, first };
                first += len;
                bank
            })
            .collect();
        assert!(first < u64::from(NIL), "the links are 32 bits wide: 16 TiB of memory");
        let largest = banks.iter().copied().max_by_key(|bank| bank.len);
        let largest = largest.unwrap_or(Bank { base: 0, len: 0, first: 0 });
        Self { largest, banks, frames: alloc::vec![Frame::INSIDE; to_index(first)] }
    }

    /// Returns the bank that `mfn` is in.
    pub(super) fn bank(&self, mfn: u64) -> Option<Bank> {
        self.banks.iter().find(|bank| bank.index(mfn).is_some()).copied()
    }

    /// Returns the banks.
    pub(super) fn banks(&self) -> &[Bank] {
        &self.banks
    }

    /// Returns the index of `mfn`'s entry.
    #[inline(always)]
    pub(super) fn index(&self, mfn: u64) -> Option<usize> {
        let index = self.largest.index(mfn);
        if index.is_some() { index } else { self.index_elsewhere(mfn) }
    }

    #[cold]
    #[inline(never)]
    fn index_elsewhere(&self, mfn: u64) -> Option<usize> {
        self.banks.iter().find_map(|bank| bank.index(mfn))
    }

    /// Returns the frame whose entry is at `index`.
    pub(super) fn mfn(&self, index: u32) -> Option<u64> {
        let index = u64::from(index);
        self.banks.iter().find_map(|bank| {
            let offset = index.checked_sub(bank.first)?;
            (offset < bank.len).then_some(bank.base + offset)
        })
    }

    /// Returns the entry of `mfn`.
    pub(super) fn get(&self, mfn: u64) -> Option<&Frame> {
        self.frames.get(self.index(mfn)?)
    }

    /// Returns the entry of `mfn` to change.
    pub(super) fn get_mut(&mut self, mfn: u64) -> Option<&mut Frame> {
        let index = self.index(mfn)?;
        self.frames.get_mut(index)
    }

    /// Returns the entries of `count` frames from `mfn` on, which lie in one bank.
    pub(super) fn run_mut(&mut self, mfn: u64, count: u64) -> Option<&mut [Frame]> {
        let bank = self.bank(mfn)?;
        let first = bank.index(mfn)?;
        (count <= bank.len - (mfn - bank.base)).then_some(())?;
        self.frames.get_mut(first..first + to_index(count))
    }

    /// Returns the entry at an index that is one of the table's own links.
    pub(super) fn at(&self, index: u32) -> &Frame {
        self.frames.get(index as usize).expect("links point into the table")
    }

    /// Returns the entry at an index that is one of the table's own links, to change.
    pub(super) fn at_mut(&mut self, index: u32) -> &mut Frame {
        self.frames.get_mut(index as usize).expect("links point into the table")
    }
}

/// One domain's share of memory, in frames.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Account {
    /// Frames of memory it owns, mapped or not.
    pub total: u64,
    /// What `total` may grow to.
    pub limit: u64,
    /// Pages of the hypervisor's lent to it.
    pub shared: u64,
    /// Frames promised to it and not yet taken (`XENMEM_claim_pages`).
    pub claimed: u64,
    /// Frames set aside for its grant table and not yet taken.
    pub grants: u64,
    /// Frames set aside for its translation tables, those in use included.
    pub pool: u64,
    /// Frames that its translation tables use.
    pub tables: u64,
    /// It is being destroyed: it gets no more, and its last frame is news.
    pub dying: bool,
    /// A block of its memory that is being scrubbed a part at a time.
    pub(super) parked: Option<super::Allocation>,
}

impl Account {
    /// Returns how many free frames are kept back for it.
    pub const fn set_aside(&self) -> u64 {
        self.grants + self.pool.saturating_sub(self.tables)
    }
}
