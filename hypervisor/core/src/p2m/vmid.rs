//! VMIDs: tags by which TLBs tell domains apart, fewer than there may be domains.
//!
//! When all are given out a new generation begins: every TLB forgets everything once, and each domain
//! gets a new one when it next runs. Those that run at that moment keep theirs.
//!
//! No processor loads a tag of a new generation before all TLBs have forgotten the old one. The
//! lock around [`Vmids`] sees to it: an [`Entry`] borrows them until the TLBs have forgotten and
//! the tag is loaded. For the same reason a tag that a processor has loaded is always one that is
//! noted here. `tests/vmid_model.rs` tries it.

use crate::ids::CpuId;
use alloc::vec::Vec;
use core::marker::PhantomData;

/// A tag that was given out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Vmid {
    generation: u64,
    number: u16,
}

impl Vmid {
    /// Returns the number for VTTBR.
    pub const fn number(self) -> u16 {
        self.number
    }
}

/// A tag that a processor is about to load.
///
/// Keeps [`Vmids`] borrowed, and thus their lock held, until it is carried out.
#[derive(Debug)]
#[must_use = "an old domain's translations may answer for the new one"]
pub struct Entry<'a> {
    vmid: Vmid,
    /// Whether a generation began with it.
    is_first: bool,
    vmids: PhantomData<&'a mut Vmids>,
}

impl Entry<'_> {
    /// Loads the tag by `load`, and returns it; if a generation begins, first has all TLBs forget
    /// all guests by `forget_all` (`tlbi alle1is`), which must return when they have.
    pub fn carry_out(self, forget_all: impl FnOnce(), load: impl FnOnce(Vmid)) -> Vmid {
        if self.is_first {
            forget_all();
        }
        load(self.vmid);
        self.vmid
    }
}

/// Gives out tags.
#[derive(Debug)]
pub struct Vmids {
    generation: u64,
    /// One bit a number, set if it is taken in this generation.
    taken: Vec<u64>,
    /// Where the search for a free number goes on.
    next: u16,
    /// What each processor has loaded in this generation.
    active: Vec<Option<Vmid>>,
    /// What each processor had loaded when the generation began.
    kept: Vec<Option<Vmid>>,
}

impl Vmids {
    /// Starts with tags of `bits` bits, 8 or 16, for `cpus` processors.
    pub fn new(bits: u8, cpus: usize) -> Self {
        let words = (1 << bits.clamp(8, 16)) / u64::BITS as usize;
        let mut vmids = Self {
            generation: 1,
            taken: alloc::vec![0; words],
            next: 1,
            active: alloc::vec![None; cpus],
            kept: alloc::vec![None; cpus],
        };
        vmids.take(0);
        vmids
    }

    /// Returns the tag to load on `cpu` for a domain whose tag was `current`.
    ///
    /// The domain keeps its tag locked until it has noted the new one.
    pub fn enter(&mut self, cpu: CpuId, current: Option<Vmid>) -> Entry<'_> {
        let before = self.generation;
        let vmid = match current {
            Some(vmid) if vmid.generation == self.generation => vmid,
            _ => self.renew(current),
        };
        if let Some(active) = self.active.get_mut(cpu.index()) {
            *active = Some(vmid);
        }
        Entry { vmid, is_first: self.generation != before, vmids: PhantomData }
    }

    /// Gives a tag of this generation, or of the next.
    fn renew(&mut self, current: Option<Vmid>) -> Vmid {
        if let Some(kept) = current.and_then(|current| self.keep(current)) {
            return kept;
        }
        if let Some(number) = self.find() {
            return self.give(number);
        }
        self.generation += 1;
        self.taken.fill(0);
        self.take(0);
        for cpu in 0..self.active.len() {
            // A processor that has loaded nothing since the last time still has what it had then.
            let active = self.active.get_mut(cpu).and_then(Option::take);
            let Some(kept) = self.kept.get_mut(cpu) else { continue };
            *kept = active.or(*kept);
            if let Some(vmid) = *kept {
                self.take(vmid.number);
            }
        }
        if let Some(kept) = current.and_then(|current| self.keep(current)) {
            return kept;
        }
        let number = self.find().expect("there are more tags than processors");
        self.give(number)
    }

    /// Renews a tag that some processor had loaded when the generation began.
    fn keep(&mut self, current: Vmid) -> Option<Vmid> {
        let renewed = Vmid { generation: self.generation, ..current };
        let mut found = false;
        for kept in self.kept.iter_mut().filter(|kept| **kept == Some(current)) {
            *kept = Some(renewed);
            found = true;
        }
        found.then_some(renewed)
    }

    fn give(&mut self, number: u16) -> Vmid {
        self.take(number);
        self.next = number.wrapping_add(1);
        Vmid { generation: self.generation, number }
    }

    /// Finds a free number, from the last given one on.
    fn find(&self) -> Option<u16> {
        let words = self.taken.len();
        let start = usize::from(self.next) / u64::BITS as usize % words;
        (0..words).find_map(|step| {
            let word = (start + step) % words;
            let free = (!self.taken.get(word)?).trailing_zeros();
            let number = u32::try_from(word).ok()? * u64::BITS + free;
            (free < u64::BITS).then_some(u16::try_from(number).ok()?)
        })
    }

    fn take(&mut self, number: u16) {
        let word = usize::from(number) / u64::BITS as usize;
        if let Some(word) = self.taken.get_mut(word) {
            *word |= 1 << (u32::from(number) % u64::BITS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;

    /// Enters a domain; says whether all TLBs had to forget first.
    fn enter(vmids: &mut Vmids, cpu: CpuId, current: Option<Vmid>) -> (Vmid, bool) {
        let forgotten = Cell::new(false);
        let mut seen_at_load = None;
        let vmid = vmids
            .enter(cpu, current)
            .carry_out(|| forgotten.set(true), |vmid| seen_at_load = Some((vmid, forgotten.get())));
        assert_eq!(seen_at_load, Some((vmid, forgotten.get())), "loaded, and last of all");
        (vmid, forgotten.get())
    }

    #[test]
    fn a_domain_keeps_its_tag_within_a_generation() {
        let mut vmids = Vmids::new(8, 2);
        let (first, forgotten) = enter(&mut vmids, CpuId(0), None);
        assert!(!forgotten);
        assert_ne!(first.number(), 0, "tag 0 is the hypervisor's, for nobody");
        assert_eq!(enter(&mut vmids, CpuId(1), Some(first)), (first, false));
    }

    #[test]
    fn tags_run_out_after_255_and_everything_is_forgotten_once() {
        let mut vmids = Vmids::new(8, 1);
        let mut seen = BTreeSet::new();
        let mut first = None;
        for _ in 0..255 {
            let (vmid, forgotten) = enter(&mut vmids, CpuId(0), None);
            assert!(!forgotten);
            assert!(seen.insert(vmid.number()));
            first.get_or_insert(vmid);
        }
        assert!(enter(&mut vmids, CpuId(0), None).1);
        let (renewed, forgotten) = enter(&mut vmids, CpuId(0), first);
        assert_ne!(Some(renewed), first);
        assert!(!forgotten);
    }

    #[test]
    fn a_tag_that_is_loaded_elsewhere_is_not_given_to_another_domain() {
        let mut vmids = Vmids::new(8, 2);
        let (running, _) = enter(&mut vmids, CpuId(1), None);
        for _ in 0..1000 {
            let (other, _) = enter(&mut vmids, CpuId(0), None);
            assert_ne!(other.number(), running.number());
        }
        let (again, forgotten) = enter(&mut vmids, CpuId(1), Some(running));
        assert_eq!(again.number(), running.number());
        assert!(!forgotten);
    }

    #[test]
    fn a_domain_that_runs_on_through_generations_keeps_its_number_where_it_is_entered_anew() {
        let mut vmids = Vmids::new(8, 2);
        let (mut current, _) = enter(&mut vmids, CpuId(1), None);
        let number = current.number();
        for generation in 0..5 {
            while !enter(&mut vmids, CpuId(0), None).1 {}
            // Also when it is entered in some generations only.
            if generation % 2 == 0 {
                current = enter(&mut vmids, CpuId(0), Some(current)).0;
                assert_eq!(current.number(), number);
            }
        }
    }
}
