//! Active entries: what is in use of a domain's grants, by whom and how often.
//!
//! They are made in chunks when the first reference of one is used, so that a large table of unused
//! grants costs nothing.

use crate::{addr::Mfn, ids::DomId, ids::GrantRef};
use alloc::{boxed::Box, vec::Vec};

const CHUNK: usize = 64;

/// The use that is made of one grant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    pub(super) mfn: Mfn,
    pub(super) by: DomId,
    pub(super) readers: u32,
    pub(super) writers: u32,
}

impl Active {
    const UNUSED: Self = Self { mfn: Mfn::new(0), by: DomId(0), readers: 0, writers: 0 };

    pub(super) const fn is_used(&self) -> bool {
        self.readers != 0 || self.writers != 0
    }
}

type Chunk = Box<[Active; CHUNK]>;

/// The uses of a domain's grants.
#[derive(Debug, Default)]
pub(super) struct ActiveTable {
    chunks: Vec<Option<Chunk>>,
    uses: u64,
}

impl ActiveTable {
    /// Returns the entry of `grant`, which the shared table has.
    #[inline(always)]
    pub(super) fn get_mut(&mut self, grant: GrantRef) -> &mut Active {
        let index = grant.index() / CHUNK;
        if self.chunks.len() <= index {
            self.chunks.resize_with(index + 1, || None);
        }
        self.chunks
            .get_mut(index)
            .expect("the list was made long enough")
            .get_or_insert_with(|| Box::new([Active::UNUSED; CHUNK]))
            .get_mut(grant.index() % CHUNK)
            .expect("a remainder is less than the divisor")
    }

    pub(super) fn is_used(&self, grant: GrantRef) -> bool {
        let chunk = self.chunks.get(grant.index() / CHUNK).and_then(Option::as_ref);
        chunk.and_then(|chunk| chunk.get(grant.index() % CHUNK)).is_some_and(Active::is_used)
    }

    /// Counts one use more.
    pub(super) const fn used(&mut self) {
        self.uses += 1;
    }

    /// Counts one use less.
    pub(super) const fn unused(&mut self) {
        self.uses -= 1;
    }

    /// Says how many uses there are.
    pub(super) const fn uses(&self) -> u64 {
        self.uses
    }
}
