//! How much memory a domain has: populating guest frames, giving them back, claims.

use super::{Part, managed, should_stop, subject, target};
use crate::domain::Domain;
use crate::domain::memory::Tables;
use crate::hypercall::Caller;
use alloc::sync::Arc;
use hv_core::addr::{Gfn, Mfn, PAGE_SHIFT};
use hv_core::frames::{Allocation, LARGEST_ORDER, Owner};
use hv_core::guest::Handle;
use hv_core::p2m::Kind;
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{self as abi, MemoryReservation};

/// The largest block an ordinary domain may ask for: 2 MiB.
const GUEST_ORDER: u8 = 9;

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
fn take_extent(caller: &Caller<'_>, request: &Request, first: Gfn) -> Extent {
    let mut done = 0;
    while done < request.frames() {
        let Some(gfn) = first.checked_add(done) else { return Extent::Refused };
        let released = {
            let memory = caller.hv.machine.memory();
            let mut p2m = request.domain.p2m.lock();
            let (found, rest) = p2m.entry(memory, gfn);
            if found.is_none_or(|found| !matches!(found.kind, Kind::RamRw | Kind::RamRo)) {
                return Extent::Refused;
            }
            let count = rest.min(request.frames() - done);
            let mut tables = Tables(&caller.hv.frames);
            let Ok(step) = p2m.unmap_range(memory, &mut tables, gfn, count, 1) else {
                return Extent::Refused;
            };
            done += step.done;
            caller.hv.flush(&request.domain, &p2m, step.flush)
        };
        caller.hv.let_go(&request.domain, released);
    }
    Extent::Done
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
