//! The balloon: memory given back to the hypervisor and taken again, as the toolstack wants (`xl mem-set`).
//!
//! The toolstack writes the domain's size in KiB to `memory/target`.

use crate::hypercall::memory;
use crate::page::{SIZE, SharedPages};
use crate::xenstore::{Scope, StoreError, Watch};
use alloc::vec::Vec;
use hypercall_abi::ids::DOMID_SELF;

/// Pages that are given back or asked for in one call.
const BATCH: usize = 128;
const TARGET: &str = "memory/target";

/// Pages that are lent to the hypervisor.
#[derive(Default)]
pub struct Balloon {
    pages: Vec<SharedPages>,
}

impl Balloon {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many pages are in it.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Gives back up to `count` pages of the heap; returns how many went.
    pub fn inflate(&mut self, count: usize) -> usize {
        let before = self.pages.len();
        let mut left = count;
        while left > 0 {
            let batch: Vec<_> =
                (0..left.min(BATCH)).map_while(|_| SharedPages::try_allocate(1)).collect();
            let mut frames: Vec<u64> = batch.iter().map(|pages| pages.page(0).frame()).collect();
            let gone = memory::decrease_reservation(DOMID_SELF, &mut frames, 0).unwrap_or(0);
            let gone = usize::try_from(gone).unwrap_or(0).min(batch.len());
            let (lent, kept) = batch.split_at(gone);
            self.pages.extend(lent);
            kept.iter().for_each(|pages| pages.recycle());
            left -= gone;
            if gone < BATCH {
                break;
            }
        }
        self.pages.len() - before
    }

    /// Takes up to `count` pages back; returns how many came.
    pub fn deflate(&mut self, count: usize) -> usize {
        let before = self.pages.len();
        let mut left = count.min(before);
        while left > 0 {
            let from = self.pages.len() - left.min(BATCH);
            let batch = self.pages.split_off(from);
            let mut frames: Vec<u64> = batch.iter().map(|pages| pages.page(0).frame()).collect();
            let back = memory::populate_physmap(DOMID_SELF, &mut frames, 0).unwrap_or(0);
            let back = usize::try_from(back).unwrap_or(0).min(batch.len());
            let (here, still) = batch.split_at(back);
            here.iter().for_each(|pages| pages.recycle());
            self.pages.extend(still);
            left -= back;
            if back < BATCH {
                break;
            }
        }
        before - self.pages.len()
    }

    /// Watches the size that the toolstack wants.
    pub fn watch() -> Result<Watch, StoreError> {
        Watch::new(TARGET)
    }

    /// Gives back or takes pages until the domain has the size that the toolstack wants, as far as that is possible.
    ///
    /// Returns that size and the domain's, in KiB.
    pub fn adjust(&mut self) -> Result<(u64, u64), StoreError> {
        let target: u64 = Scope::PLAIN.read_as(TARGET)?;
        let size = || memory::current_reservation(DOMID_SELF).unwrap_or(0) * (SIZE / 1024);
        let now = size();
        let pages = |kib: u64| usize::try_from(kib / (SIZE / 1024)).unwrap_or(usize::MAX);
        if now > target {
            self.inflate(pages(now - target));
        } else {
            self.deflate(pages(target - now));
        }
        Ok((target, size()))
    }
}
