//! How much memory a domain has: populating guest frames, giving them back, claims.

use super::{Part, managed, should_stop, subject, target};
use crate::domain::Domain;
use crate::domain::memory::Tables;
use crate::hypercall::Caller;
use crate::machine::Memory;
use alloc::sync::Arc;
use hv_core::addr::{Gfn, Mfn, PAGE_SHIFT};
use hv_core::frames::{Allocation, LARGEST_ORDER, Owner};
use hv_core::guest::Handle;
use hv_core::p2m::{Kind, P2m};
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{self as abi, MemoryReservation};

/// The largest block an ordinary domain may ask for: 2 MiB.
const GUEST_ORDER: u8 = 9;

/// Entries that are taken out with one flush.
const ENTRIES_AT_ONCE: u32 = 64;

/// Gives a domain memory at given guest frames. The result is how many extents were done.
pub(super) fn populate(caller: &Caller<'_>, argument: u64, start: u64) -> Part {
    let Some(request) = Request::load(caller, argument, start) else {
        return Part::Done(Ok(start));
    };
    request.each(caller, start, |gfn| populate_extent(caller, &request, gfn))
}

/// Takes memory from a domain. The result is how many extents were done.
pub(super) fn decrease(caller: &Caller<'_>, argument: u64, start: u64) -> Part {
    let Some(request) = Request::load(caller, argument, start) else {
        return Part::Done(Ok(start));
    };
    request.each(caller, start, |gfn| take_extent(caller, &request, gfn))
}

/// Promises memory to a domain that is going to be built.
pub(super) fn claim(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    let request = Handle::<MemoryReservation>::from_register(argument).load(caller.guest)?;
    if request.extent_start != 0 || request.extent_order != 0 || request.mem_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let domain = target(caller, request.domid)?;
    privilege::control(subject(caller))?;
    caller.hv.frames.lock().claim_total(domain.id, request.nr_extents)?;
    Ok(0)
}

/// A request that was found to make sense.
struct Request {
    domain: Arc<Domain>,
    extents: Handle<u64>,
    count: u64,
    order: u8,
    flags: u32,
    limit: Option<Mfn>,
}

/// What became of one extent.
enum Extent {
    /// It is done.
    Done,
    /// It cannot be done, and none after it is tried.
    Refused,
    /// An interrupt waits; what was done so far is kept, and the extent is to be tried again.
    Interrupted,
}

impl Request {
    /// Copies the request in; nothing if it is wrong in any way, for which there is no error number.
    fn load(caller: &Caller<'_>, argument: u64, start: u64) -> Option<Self> {
        let request =
            Handle::<MemoryReservation>::from_register(argument).load(caller.guest).ok()?;
        if start >= request.nr_extents || request.nr_extents > u64::MAX >> abi::OPERATION_BITS {
            return None;
        }
        let domain = managed(caller, request.domid).ok()?;
        let largest = if caller.domain.is_privileged() { LARGEST_ORDER } else { GUEST_ORDER };
        let order = u8::try_from(request.extent_order).ok().filter(|order| *order <= largest)?;
        let bits = request.mem_flags & abi::FLAGS_ADDRESS_BITS;
        let limit = match bits {
            0 => None,
            1..=PAGE_SHIFT => return None,
            _ => 1_u64.checked_shl(bits - PAGE_SHIFT).map(Mfn::new),
        };
        Some(Self {
            domain,
            extents: Handle::from_register(request.extent_start),
            count: request.nr_extents,
            order,
            flags: request.mem_flags,
            limit,
        })
    }

    /// Carries `action` out for each extent from number `start` on.
    fn each(&self, caller: &Caller<'_>, start: u64, action: impl Fn(Gfn) -> Extent) -> Part {
        for number in start..self.count {
            if number != start && should_stop(caller, self.count - number) {
                return Part::Upto(number);
            }
            let Ok(gfn) = self.extents.element(number).load(caller.guest) else {
                return Part::Done(Ok(number));
            };
            match action(Gfn::new(gfn)) {
                Extent::Done => {}
                Extent::Refused => return Part::Done(Ok(number)),
                Extent::Interrupted => return Part::Upto(number),
            }
        }
        Part::Done(Ok(self.count))
    }

    const fn frames(&self) -> u64 {
        1 << self.order
    }
}

fn populate_extent(caller: &Caller<'_>, request: &Request, gfn: Gfn) -> Extent {
    // Frames that spring up when touched are not known on Arm.
    if request.flags & abi::FLAGS_POPULATE_ON_DEMAND != 0 {
        return Extent::Refused;
    }
    if request.domain.settings.direct_mapped {
        return restore_extent(caller, request, gfn);
    }
    let taken = {
        let mut frames = caller.hv.frames.lock();
        match frames.unpark(request.domain.id, request.order) {
            Some(block) => Ok(block),
            None => frames.alloc_for(request.domain.id, request.order, request.limit),
        }
    };
    let Ok(mut block) = taken else { return Extent::Refused };
    if !scrub(caller, &mut block) {
        let parked = caller.hv.frames.lock().park(request.domain.id, block);
        if let Err(block) = parked {
            give_back(caller, block.first, block.count());
        }
        return Extent::Interrupted;
    }
    map_extent(caller, request, gfn, block)
}

/// Maps a block that belongs to the domain already, or frees what of it cannot be mapped.
///
/// In holes that needs no flush. What is mapped there already costs one for each entry, since it
/// has to be forgotten before the new one is written (Arm ARM D8.16.1): 512 for the largest block a
/// guest may ask for, which is as long as no interrupt is let in.
fn map_extent(caller: &Caller<'_>, request: &Request, gfn: Gfn, block: Allocation) -> Extent {
    let mut done = 0;
    let mapped = caller.hv.map_counting(
        &request.domain,
        gfn,
        block.first,
        block.count(),
        Kind::RamRw,
        &mut done,
    );
    if mapped.is_ok() {
        return Extent::Done;
    }
    if done > 0 {
        // What was mapped a moment ago has tables already, so taking it out again needs none.
        let _undone = caller.hv.unmap_frames(&request.domain, gfn, done);
    }
    if let Some(rest) = block.first.checked_add(done) {
        give_back(caller, rest, block.count() - done);
    }
    Extent::Refused
}

/// Maps frames of a domain one to one that it once gave up: they were kept for it.
fn restore_extent(caller: &Caller<'_>, request: &Request, gfn: Gfn) -> Extent {
    let first = Mfn::new(gfn.number());
    let all_its_own = {
        let frames = caller.hv.frames.lock();
        (0..request.frames()).all(|past| {
            let owner = first.checked_add(past).map(|mfn| frames.owner(mfn));
            owner == Some(Owner::Domain(request.domain.id))
        })
    };
    if !all_its_own {
        return Extent::Refused;
    }
    let mapped = caller.hv.map_frames(&request.domain, gfn, first, request.frames(), Kind::RamRw);
    if mapped.is_ok() { Extent::Done } else { Extent::Refused }
}

/// Takes one extent out of the domain; all of it has to be its own memory.
///
/// It lets no interrupt in before it is done: a call that goes on can name an extent, and not how
/// far it came in there. A guest's has 512 entries at most, and one flush for each 64 that follow
/// each other.
fn take_extent(caller: &Caller<'_>, request: &Request, first: Gfn) -> Extent {
    let mut done = 0;
    while done < request.frames() {
        let Some(gfn) = first.checked_add(done) else { return Extent::Refused };
        let released = {
            let memory = caller.hv.machine.memory();
            let mut p2m = request.domain.p2m.lock();
            let count = own_memory(&p2m, memory, gfn, request.frames() - done);
            if count == 0 {
                return Extent::Refused;
            }
            let mut tables = Tables::of(caller.hv, &request.domain);
            let step = p2m.unmap_range(memory, &mut tables, gfn, count, ENTRIES_AT_ONCE);
            let Ok(step) = step else { return Extent::Refused };
            done += step.done;
            caller.hv.flush(&request.domain, &p2m, step.flush)
        };
        caller.hv.let_go(&request.domain, released);
    }
    Extent::Done
}

/// Returns how many frames from `first` on, up to `limit`, are the domain's own memory, as far as
/// one step may take them out.
fn own_memory(p2m: &P2m, memory: &Memory, first: Gfn, limit: u64) -> u64 {
    let mut count = 0;
    for _ in 0..ENTRIES_AT_ONCE {
        let Some(gfn) = first.checked_add(count).filter(|_| count < limit) else { break };
        let (found, rest) = p2m.entry(memory, gfn);
        if !found.is_some_and(|found| matches!(found.kind, Kind::RamRw | Kind::RamRo)) {
            break;
        }
        count += rest.min(limit - count);
    }
    count
}

/// Scrubs a block frame by frame; says no if an interrupt came in between.
fn scrub(caller: &Caller<'_>, block: &mut Allocation) -> bool {
    while let Some(frame) = block.next_to_scrub() {
        caller.hv.scrub(frame);
        block.scrubbed += 1;
        if should_stop(caller, block.count() - block.scrubbed) {
            return false;
        }
    }
    true
}

fn give_back(caller: &Caller<'_>, first: Mfn, count: u64) {
    let put = caller.hv.frames.lock().release(first, count);
    caller.hv.bury(put);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{DOM0_FRAMES, DOM0_RAM, Fixture, GUEST_LIMIT, RAM_FRAMES};
    use crate::hypercall::{Outcome, memory};
    use crate::machine::GuestSpace;
    use core::sync::atomic::Ordering;
    use hv_core::addr::PAGE_SIZE;
    use hv_core::ids::{CpuId, DomId};
    use hv_core::memory::FrameMemory;

    const EXTENTS: u64 = 0x100;
    const GUEST_RAM: u64 = 0x4_0000;

    fn ask(
        fixture: &Fixture,
        from: u16,
        command: u64,
        request: MemoryReservation,
        extents: &[u64],
    ) -> Outcome {
        for (extent, number) in extents.iter().zip(0..) {
            fixture.put(EXTENTS + 8 * number, extent);
        }
        let argument = fixture.put(0, &request);
        let domain = fixture.existing(from);
        fixture.call(&domain, |caller| memory::handle(caller, &[command, argument, 0, 0, 0]))
    }

    fn request(domid: u16, order: u32, count: u64) -> MemoryReservation {
        MemoryReservation {
            extent_start: GuestSpace::BASE + EXTENTS,
            nr_extents: count,
            extent_order: order,
            domid,
            ..Default::default()
        }
    }

    fn total(fixture: &Fixture, dom: u16) -> u64 {
        fixture.hv.frames.lock().account(DomId(dom)).unwrap().total
    }

    fn lookup(fixture: &Fixture, dom: u16, gfn: u64) -> Option<(Mfn, u8)> {
        let domain = fixture.existing(dom);
        let p2m = domain.p2m.lock();
        let found = p2m.lookup(fixture.hv.machine.memory(), Gfn::new(gfn))?;
        Some((found.mfn, found.order))
    }

    #[test]
    fn memory_comes_zeroed_in_blocks_as_large_as_asked_for_and_goes_back() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        let memory = fixture.hv.machine.memory();
        for frame in 0x4_0000..0x4_4000 {
            memory.store_u64(Mfn::new(frame).base(), 0xdead);
        }
        let free = fixture.hv.frames.lock().free();
        let two = [GUEST_RAM, GUEST_RAM + 512];
        let outcome = ask(&fixture, 0, abi::POPULATE_PHYSMAP, request(1, 9, 2), &two);
        assert_eq!(outcome, Outcome::Done(Ok(2)));
        assert_eq!(total(&fixture, 1), 1024);
        let (mfn, order) = lookup(&fixture, 1, GUEST_RAM + 511).unwrap();
        assert_eq!(order, 9);
        assert_eq!(memory.load_u64(mfn.base()), 0);
        let outcome = ask(&fixture, 1, abi::DECREASE_RESERVATION, request(0x7ff0, 9, 2), &two);
        assert_eq!(outcome, Outcome::Done(Ok(2)));
        assert_eq!(total(&fixture, 1), 0);
        assert_eq!(lookup(&fixture, 1, GUEST_RAM), None);
        let tables = fixture.existing(1).p2m.lock().tables();
        assert_eq!(fixture.hv.frames.lock().free(), free - u64::from(tables));
    }

    #[test]
    fn single_pages_taken_out_of_a_large_one_leave_the_others() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        let all = ask(&fixture, 0, abi::POPULATE_PHYSMAP, request(1, 9, 1), &[GUEST_RAM]);
        assert_eq!(all, Outcome::Done(Ok(1)));
        let gone = [GUEST_RAM + 3, GUEST_RAM + 4, GUEST_RAM + 3];
        let outcome = ask(&fixture, 1, abi::DECREASE_RESERVATION, request(1, 0, 3), &gone);
        assert_eq!(outcome, Outcome::Done(Ok(2)), "the third is gone already");
        assert_eq!(total(&fixture, 1), 510);
        assert_eq!(lookup(&fixture, 1, GUEST_RAM + 3), None);
        assert!(lookup(&fixture, 1, GUEST_RAM + 5).is_some());
    }

    #[test]
    fn single_pages_go_back_many_with_one_flush_up_to_what_is_not_the_guests_own() {
        let fixture = Fixture::new();
        let domain = fixture.domain(DomId(1));
        let hv = &fixture.hv;
        // Not aligned, so in pages of 4 KiB; the last is not memory.
        let block = hv.frames.lock().alloc_for(DomId(1), 9, None).unwrap();
        let first = Gfn::new(GUEST_RAM + 1);
        hv.map_frames(&domain, first, block.first, 512, Kind::RamRw).unwrap();
        let last = Gfn::new(GUEST_RAM + 512);
        hv.map_frames(&domain, last, Mfn::new(0x9000), 1, Kind::Device).unwrap();
        let vmid = hv.vmids.lock().enter(CpuId(0), None).carry_out(|| {}, |_| {});
        *domain.vmid.lock() = Some(vmid);
        let decrease =
            || ask(&fixture, 1, abi::DECREASE_RESERVATION, request(1, 9, 1), &[GUEST_RAM + 1]);
        hv.machine.asked.lock().clear();
        assert_eq!(decrease(), Outcome::Done(Ok(0)), "the last page is a device's");
        assert_eq!(lookup(&fixture, 1, GUEST_RAM + 511), None);
        assert!(lookup(&fixture, 1, GUEST_RAM + 512).is_some());
        let flushes = hv.machine.asked.lock().len();
        assert_eq!(flushes, 512 / 64);
    }

    #[test]
    fn what_cannot_be_had_ends_the_count() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        let populate = |order, count, extents: &[u64]| {
            ask(&fixture, 0, abi::POPULATE_PHYSMAP, request(1, order, count), extents)
        };
        assert_eq!(populate(18, 1, &[GUEST_RAM]), Outcome::Done(Ok(0)), "a gibibyte");
        assert_eq!(populate(19, 1, &[GUEST_RAM]), Outcome::Done(Ok(0)));
        assert_eq!(populate(u32::MAX, 1, &[GUEST_RAM]), Outcome::Done(Ok(0)));
        let room = GUEST_LIMIT / 512;
        let five: Vec<u64> = (0..=room).map(|number| GUEST_RAM + 512 * number).collect();
        assert_eq!(populate(9, room + 1, &five), Outcome::Done(Ok(room)), "its limit");
        assert_eq!(total(&fixture, 1), GUEST_LIMIT);
        let outcome = ask(&fixture, 1, abi::DECREASE_RESERVATION, request(1, 10, 1), &five);
        assert_eq!(outcome, Outcome::Done(Ok(0)), "too large for an ordinary domain");
    }

    #[test]
    fn a_guest_frame_that_cannot_be_mapped_gives_its_memory_back() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        let free = fixture.hv.frames.lock().free();
        for gfn in [u64::MAX, 1 << 28, (1 << 28) - 1] {
            let outcome = ask(&fixture, 0, abi::POPULATE_PHYSMAP, request(1, 3, 1), &[gfn]);
            assert_eq!(outcome, Outcome::Done(Ok(0)));
        }
        assert_eq!(total(&fixture, 1), 0);
        fixture.existing(1).p2m.lock().set_table_limit(0);
        let outcome = ask(&fixture, 0, abi::POPULATE_PHYSMAP, request(1, 3, 1), &[8]);
        assert_eq!(outcome, Outcome::Done(Ok(0)), "no table is left");
        assert_eq!((total(&fixture, 1), fixture.hv.frames.lock().free()), (0, free));
    }

    #[test]
    fn wrong_requests_do_nothing_and_count_nothing() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        fixture.domain(DomId(2));
        let good = request(1, 0, 1);
        for (from, wrong) in [
            (0, MemoryReservation { domid: 7, ..good }),
            (2, good),
            (0, MemoryReservation { nr_extents: 0, ..good }),
            (0, MemoryReservation { nr_extents: u64::MAX, ..good }),
            (0, MemoryReservation { extent_start: 0, ..good }),
            (0, MemoryReservation { extent_start: u64::MAX, ..good }),
            (0, MemoryReservation { mem_flags: 12, ..good }),
            (0, MemoryReservation { mem_flags: abi::FLAGS_POPULATE_ON_DEMAND, ..good }),
        ] {
            for command in [abi::POPULATE_PHYSMAP, abi::DECREASE_RESERVATION] {
                let outcome = ask(&fixture, from, command, wrong, &[GUEST_RAM]);
                assert_eq!(outcome, Outcome::Done(Ok(0)), "{wrong:?}");
            }
        }
        let past_the_end = abi::POPULATE_PHYSMAP | 9 << abi::OPERATION_BITS;
        let outcome = ask(&fixture, 0, past_the_end, good, &[GUEST_RAM]);
        assert_eq!(outcome, Outcome::Done(Ok(9)));
        let domain = fixture.existing(0);
        let null = fixture
            .call(&domain, |caller| memory::handle(caller, &[abi::POPULATE_PHYSMAP, 0, 0, 0, 0]));
        assert_eq!(null, Outcome::Done(Ok(0)));
        assert_eq!(total(&fixture, 1), 0);
    }

    #[test]
    fn an_interrupt_leaves_a_half_scrubbed_block_to_go_on_with() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        fixture.hv.machine.interrupted.store(true, Ordering::Relaxed);
        let request = request(1, 3, 2);
        let extents = [GUEST_RAM, GUEST_RAM + 8];
        let mut command = abi::POPULATE_PHYSMAP;
        let mut rounds = 0;
        let done = loop {
            match ask(&fixture, 0, command, request, &extents) {
                Outcome::Done(result) => break result,
                Outcome::Again([next, ..]) => command = next,
            }
            rounds += 1;
            assert!(rounds < 20, "each call gets a frame further");
            assert!(total(&fixture, 1) <= 16, "no block is taken twice");
        };
        assert_eq!((done, total(&fixture, 1)), (Ok(2), 16));
        assert!(rounds > 8);
    }

    #[test]
    fn dom0_gives_frames_up_and_gets_the_same_ones_back() {
        let fixture = Fixture::new();
        let pages = [DOM0_RAM + 7, DOM0_RAM + 600];
        let own = request(DomId::SELF.0, 0, 2);
        let free = fixture.hv.frames.lock().free();
        let outcome = ask(&fixture, 0, abi::DECREASE_RESERVATION, own, &pages);
        assert_eq!(outcome, Outcome::Done(Ok(2)));
        assert_eq!(lookup(&fixture, 0, DOM0_RAM + 7), None);
        assert_eq!(total(&fixture, 0), DOM0_FRAMES, "they stay its own");
        assert!(fixture.hv.frames.lock().free() <= free);
        let outcome = ask(&fixture, 0, abi::POPULATE_PHYSMAP, own, &pages);
        assert_eq!(outcome, Outcome::Done(Ok(2)));
        assert_eq!(lookup(&fixture, 0, DOM0_RAM + 7).unwrap().0, Mfn::new(DOM0_RAM + 7));
        let outside = [DOM0_RAM + DOM0_FRAMES, 0];
        let outcome = ask(&fixture, 0, abi::POPULATE_PHYSMAP, own, &outside);
        assert_eq!(outcome, Outcome::Done(Ok(0)), "not its own");
        assert_eq!(PAGE_SIZE, 4096);
    }

    #[test]
    fn claims_are_dom0s_to_make() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        let claim = |from, nr_extents| {
            let request = MemoryReservation { nr_extents, domid: 1, ..Default::default() };
            ask(&fixture, from, abi::CLAIM_PAGES, request, &[])
        };
        assert_eq!(claim(1, 5), Outcome::Done(Err(Errno::EPERM)));
        assert_eq!(claim(0, RAM_FRAMES), Outcome::Done(Err(Errno::EINVAL)));
        assert_eq!(claim(0, 5), Outcome::Done(Ok(0)));
        assert_eq!(fixture.hv.frames.lock().claimed(), 5);
        assert_eq!(claim(0, 0), Outcome::Done(Ok(0)));
        let odd = MemoryReservation { extent_order: 1, domid: 1, ..Default::default() };
        let outcome = ask(&fixture, 0, abi::CLAIM_PAGES, odd, &[]);
        assert_eq!(outcome, Outcome::Done(Err(Errno::EINVAL)));
    }
}
