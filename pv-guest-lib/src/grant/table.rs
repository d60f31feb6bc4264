//! The grant table itself, version 1 (`public/grant_table.h`): entries by number, for who keeps the numbers himself.

use crate::hypercall::{HypercallError, memory};
use crate::page::SharedPage;
use crate::{map, tree};
use core::sync::atomic::Ordering;
use hypercall_abi::grant_table::{
    GNTTAB_ENTRIES_PER_FRAME, GTF_INVALID, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY,
    GTF_WRITING,
};
use hypercall_abi::ids::DOMID_SELF;
use hypercall_abi::memory::SPACE_GRANT_TABLE;

const ENTRY_SIZE: usize = 8;

/// The guest's own table.
#[derive(Clone, Copy)]
pub struct GrantTable {
    first: SharedPage,
    frames: u32,
}

/// What another domain may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Read and write it.
    ReadWrite,
}

impl GrantTable {
    /// Maps the first `frames` frames of the table at its window.
    pub fn map(frames: u32) -> Result<Self, HypercallError> {
        let window = tree::get().grant_window;
        map::make_memory(window.start, u64::from(frames) * 4096);
        for frame in (0..u64::from(frames)).rev() {
            let gpfn = (window.start >> 12) + frame;
            memory::add_to_physmap(DOMID_SELF, SPACE_GRANT_TABLE, frame, gpfn)?;
        }
        // SAFETY: the window is for this; its frames were just mapped and stay.
        let first = unsafe { SharedPage::at(window.start) };
        Ok(Self { first, frames })
    }

    /// Returns how many frames are mapped.
    pub fn frames(self) -> u32 {
        self.frames
    }

    /// Maps one frame more.
    pub fn grow(self) -> Result<Self, HypercallError> {
        let window = tree::get().grant_window;
        map::make_memory(window.start, u64::from(self.frames + 1) * 4096);
        let gpfn = (window.start >> 12) + u64::from(self.frames);
        memory::add_to_physmap(DOMID_SELF, SPACE_GRANT_TABLE, u64::from(self.frames), gpfn)?;
        Ok(Self { first: self.first, frames: self.frames + 1 })
    }

    /// Returns the page and offset of an entry.
    fn place(self, reference: u32) -> (SharedPage, usize) {
        let frame = reference / GNTTAB_ENTRIES_PER_FRAME;
        assert!(frame < self.frames, "no entry {reference} in {} frames", self.frames);
        let index = usize::try_from(reference % GNTTAB_ENTRIES_PER_FRAME).unwrap_or(usize::MAX);
        if frame == 0 {
            return (self.first, index * ENTRY_SIZE);
        }
        // SAFETY: `map` mapped so many frames one after another, for good.
        let page = unsafe { SharedPage::at(self.first.address() + u64::from(frame) * 4096) };
        (page, index * ENTRY_SIZE)
    }

    /// Lets `domain` use a frame by entry `reference`.
    pub fn give(self, reference: u32, domain: u16, frame: u64, access: Access) {
        let (page, offset) = self.place(reference);
        let frame = u32::try_from(frame).expect("version 1 has frames below 16 TiB");
        page.word32(offset + 4).store(frame, Ordering::Relaxed);
        page.word16(offset + 2).store(domain, Ordering::Relaxed);
        let read_only = if access == Access::Read { GTF_READONLY } else { 0 };
        page.word16(offset).store(GTF_PERMIT_ACCESS | read_only, Ordering::SeqCst);
    }

    /// Takes a grant back, unless it is in use.
    pub fn revoke(self, reference: u32) -> bool {
        let (page, offset) = self.place(reference);
        let flags = page.word16(offset);
        loop {
            let now = flags.load(Ordering::SeqCst);
            if now & (GTF_READING | GTF_WRITING) != 0 {
                return false;
            }
            let done = flags.compare_exchange(now, GTF_INVALID, Ordering::SeqCst, Ordering::SeqCst);
            if done.is_ok() {
                return true;
            }
        }
    }

    /// Returns an entry's type and `GTF_` bits.
    pub fn flags(self, reference: u32) -> u16 {
        let (page, offset) = self.place(reference);
        page.word16(offset).load(Ordering::SeqCst)
    }
}
