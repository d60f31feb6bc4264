//! One entry of the guest's shared table: `{u16 flags, u16 domid, u32 frame}`
//! (`public/grant_table.h`, `struct grant_entry_v1`).
//!
//! The guest revokes a grant by a compare-and-swap that expects neither "reading" nor "writing", so
//! these are set by one too, together with the check of what stands beside them.

use super::{Access, GrantError};
use crate::{
    addr::{Gfn, MachineAddr},
    ids::DomId,
    memory::FrameMemory,
};

const TYPE: u32 = 0b11;
const PERMIT_ACCESS: u32 = 1;
const READ_ONLY: u32 = 1 << 2;
const READING: u32 = 1 << 3;
const WRITING: u32 = 1 << 4;
/// Part of a page only: a kind of version 2.
const SUB_PAGE: u32 = 1 << 8;
const DOMID_SHIFT: u32 = 16;
/// How often a guest may get in our way before it is taken to do so on purpose.
const TRIES: u32 = 5;

/// Which flags to clear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Clear {
    Writing,
    ReadingAndWriting,
}

/// Marks the entry at `at` as read, and as written for a writer.
///
/// If it is not in use yet, it must grant access to `granted_to`.
pub(super) fn claim(
    memory: &impl FrameMemory,
    at: MachineAddr,
    granted_to: Option<DomId>,
    access: Access,
) -> Result<(), GrantError> {
    let mut old = memory.load_u32(at);
    for _ in 0..TRIES {
        if let Some(dom) = granted_to
            && (old & (TYPE | SUB_PAGE) != PERMIT_ACCESS || old >> DOMID_SHIFT != u32::from(dom.0))
        {
            return Err(GrantError::General);
        }
        let new = match access {
            Access::Read => old | READING,
            Access::Write if old & READ_ONLY != 0 => return Err(GrantError::General),
            Access::Write => old | READING | WRITING,
        };
        match memory.compare_exchange_u32(at, old, new) {
            Ok(_) => return Ok(()),
            Err(now) => old = now,
        }
    }
    Err(GrantError::General)
}

/// Returns the guest frame that the entry names.
pub(super) fn frame(memory: &impl FrameMemory, at: MachineAddr) -> Gfn {
    Gfn::new(u64::from(memory.load_u32(MachineAddr::new(at.raw() + 4))))
}

/// Takes the marks of [`claim`] back.
pub(super) fn clear(memory: &impl FrameMemory, at: MachineAddr, what: Clear) {
    // Both are in the low half; the other half is the domain's number, of no concern here.
    let keep: u16 = match what {
        Clear::Writing => !(1 << 4),
        Clear::ReadingAndWriting => !(1 << 4 | 1 << 3),
    };
    memory.fetch_and_u16(at, keep);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMemory;

    const AT: MachineAddr = MachineAddr::new(0x4000_0008);

    #[test]
    fn a_claim_marks_and_a_clear_unmarks_only_the_flags() {
        let memory = FakeMemory::default();
        memory.store_u32(AT, 0x0007_0001);
        claim(&memory, AT, Some(DomId(7)), Access::Write).unwrap();
        assert_eq!(memory.load_u32(AT), 0x0007_0019);
        clear(&memory, AT, Clear::Writing);
        assert_eq!(memory.load_u32(AT), 0x0007_0009);
        clear(&memory, AT, Clear::ReadingAndWriting);
        assert_eq!(memory.load_u32(AT), 0x0007_0001);
    }

    #[test]
    fn a_transfer_or_part_of_a_page_is_not_access() {
        let memory = FakeMemory::default();
        for flags in [0, 2, 3, 1 | SUB_PAGE] {
            memory.store_u32(AT, flags);
            let outcome = claim(&memory, AT, Some(DomId(0)), Access::Read);
            assert_eq!(outcome, Err(GrantError::General));
            assert_eq!(memory.load_u32(AT), flags);
        }
    }

    /// Tries every entry there can be, for every request: no sample, but all of them.
    #[test]
    fn every_entry_is_claimed_just_when_it_grants_what_is_asked_for() {
        const OTHER: u32 = 8;
        let memory = FakeMemory::default();
        for (flags, owner) in (0..=0xffff_u32).flat_map(|flags| [(flags, 7), (flags, OTHER)]) {
            let entry = flags | owner << DOMID_SHIFT;
            for (is_first, access) in [false, true]
                .into_iter()
                .flat_map(|is_first| [Access::Read, Access::Write].map(|access| (is_first, access)))
            {
                memory.store_u32(AT, entry);
                let claimed = claim(&memory, AT, is_first.then_some(DomId(7)), access);
                let kind = flags & 0b11 == 1 && flags & 0x100 == 0 && owner == 7;
                let writable = access == Access::Read || flags & 0b100 == 0;
                let marks = if access == Access::Write { 0b11000 } else { 0b01000 };
                let (allowed, after) = if (kind || !is_first) && writable {
                    (Ok(()), entry | marks)
                } else {
                    (Err(GrantError::General), entry)
                };
                assert_eq!((claimed, memory.load_u32(AT)), (allowed, after), "{entry:#x}");
            }
        }
    }
}
