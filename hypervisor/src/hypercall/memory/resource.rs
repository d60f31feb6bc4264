//! Resources of another domain, mapped straight into the caller: its grant table.

use super::{Part, should_stop, subject};
use crate::domain::Domain;
use crate::hypercall::Caller;
use alloc::sync::Arc;
use hv_core::addr::Gfn;
use hv_core::guest::Handle;
use hv_core::ids::DomId;
use hv_core::p2m::Kind;
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::memory::{self as abi, AcquireResource};

/// Maps frames of a resource at guest frames that the caller names, or says how many there are.
pub(super) fn acquire(caller: &Caller<'_>, argument: u64, start: u64) -> Part {
    match acquire_each(caller, argument, start) {
        Ok(part) => part,
        Err(error) => Part::Done(Err(error)),
    }
}

fn acquire_each(caller: &Caller<'_>, argument: u64, start: u64) -> Result<Part, Errno> {
    let handle = Handle::<AcquireResource>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    if request.pad != 0 {
        return Err(Errno::EINVAL);
    }
    let domain = another(caller, request.domid)?;
    let available = match (request.kind, request.id) {
        (abi::RESOURCE_GRANT_TABLE, abi::RESOURCE_GRANT_TABLE_SHARED) => {
            domain.grants.lock().max_frames()
        }
        // Version 1 has no status frames.
        (abi::RESOURCE_GRANT_TABLE, _) => return Err(Errno::EINVAL),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let list = Handle::<u64>::from_register(request.frame_list);
    if list.is_null() {
        if request.nr_frames != 0 {
            return Err(Errno::EINVAL);
        }
        request.nr_frames = available;
        handle.store(caller.guest, &request)?;
        return Ok(Part::Done(Ok(0)));
    }
    if request.nr_frames > u32::MAX >> abi::OPERATION_BITS {
        return Err(Errno::E2BIG);
    }
    let count = u64::from(request.nr_frames);
    let end = request.frame.checked_add(count).ok_or(Errno::EINVAL)?;
    if end > u64::from(available) || start > count {
        return Err(Errno::EINVAL);
    }
    for number in start..count {
        let gfn = Gfn::new(list.element(number).load(caller.guest)?);
        let index = u32::try_from(request.frame + number).map_err(|_| Errno::EINVAL)?;
        map_grant_frame(caller, &domain, index, gfn)?;
        let done = number + 1;
        if should_stop(caller, count - done) {
            return Ok(Part::Upto(done));
        }
    }
    Ok(Part::Done(Ok(0)))
}

/// Returns the domain that `named` is; the caller must rule over it and cannot be it.
fn another(caller: &Caller<'_>, named: u16) -> Result<Arc<Domain>, Errno> {
    let id = DomId(named).resolve(caller.domain.id);
    if id == caller.domain.id {
        return Err(Errno::EPERM);
    }
    let domain = caller.hv.domain(id).ok_or(Errno::ESRCH)?;
    privilege::over_another(subject(caller), id)?;
    Ok(domain)
}

fn map_grant_frame(
    caller: &Caller<'_>,
    domain: &Domain,
    index: u32,
    gfn: Gfn,
) -> Result<(), Errno> {
    let mfn = caller.hv.grant_frame(domain, index)?;
    caller.hv.frames.lock().get(mfn, domain.id)?;
    let mapped = caller.hv.map_frames(caller.domain, gfn, mfn, 1, Kind::ForeignRw);
    if mapped.is_err() {
        caller.hv.put_page(mfn);
    }
    Ok(mapped?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use crate::hypercall::{Outcome, memory};
    use crate::machine::GuestSpace;
    use core::sync::atomic::Ordering;

    const LIST: u64 = 0x100;
    const HOLE: u64 = 0x8_0000;

    fn ask(fixture: &Fixture, from: u16, start: u64, request: AcquireResource) -> Outcome {
        let argument = fixture.put(0, &request);
        let command = abi::ACQUIRE_RESOURCE | start << abi::OPERATION_BITS;
        let domain = fixture.existing(from);
        fixture.call(&domain, |caller| memory::handle(caller, &[command, argument, 0, 0, 0]))
    }

    fn grant_table(nr_frames: u32) -> AcquireResource {
        AcquireResource {
            domid: 1,
            kind: abi::RESOURCE_GRANT_TABLE,
            id: abi::RESOURCE_GRANT_TABLE_SHARED,
            nr_frames,
            frame_list: GuestSpace::BASE + LIST,
            ..Default::default()
        }
    }

    fn with_guest() -> Fixture {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        for number in 0..8_u64 {
            fixture.put(LIST + 8 * number, &(HOLE + number));
        }
        fixture
    }

    #[test]
    fn the_size_of_a_grant_table_is_told_without_a_list() {
        let fixture = with_guest();
        let question = AcquireResource { frame_list: 0, ..grant_table(0) };
        assert_eq!(ask(&fixture, 0, 0, question), Outcome::Done(Ok(0)));
        assert_eq!(fixture.get::<AcquireResource>(0).nr_frames, 4);
        let odd = AcquireResource { frame_list: 0, ..grant_table(1) };
        assert_eq!(ask(&fixture, 0, 0, odd), Outcome::Done(Err(Errno::EINVAL)));
    }

    #[test]
    fn grant_frames_are_mapped_where_the_caller_says_and_outlive_their_domain() {
        let fixture = with_guest();
        assert_eq!(ask(&fixture, 0, 0, grant_table(2)), Outcome::Done(Ok(0)));
        let frames = fixture.existing(1).grants.lock().frames().to_vec();
        let dom0 = fixture.existing(0);
        let found = dom0.p2m.lock().lookup(fixture.hv.machine.memory(), Gfn::new(HOLE + 1));
        let found = found.unwrap();
        assert_eq!((found.mfn, found.kind), (frames[1], Kind::ForeignRw));
        let guest = fixture.existing(1);
        while fixture.hv.destroy(&guest) != crate::domain::destroy::Progress::Done {}
        assert!(fixture.hv.domain(DomId(1)).is_some(), "a zombie: Dom0 has pages of it");
        fixture.hv.unmap_frames(&dom0, Gfn::new(HOLE), 2).unwrap();
        assert!(fixture.hv.domain(DomId(1)).is_none());
    }

    #[test]
    fn an_interrupt_stops_it_between_two_frames() {
        let fixture = with_guest();
        fixture.hv.machine.interrupted.store(true, Ordering::Relaxed);
        let next = abi::ACQUIRE_RESOURCE | 1 << abi::OPERATION_BITS;
        let again = Outcome::Again([next, GuestSpace::BASE, 0, 0, 0]);
        assert_eq!(ask(&fixture, 0, 0, grant_table(2)), again);
        assert_eq!(ask(&fixture, 0, 1, grant_table(2)), Outcome::Done(Ok(0)));
        assert_eq!(ask(&fixture, 0, 3, grant_table(2)), Outcome::Done(Err(Errno::EINVAL)));
    }

    #[test]
    fn wrong_requests_have_their_errors() {
        let fixture = with_guest();
        let good = grant_table(1);
        for (from, request, error) in [
            (0, AcquireResource { pad: 1, ..good }, Errno::EINVAL),
            (0, AcquireResource { domid: 0, ..good }, Errno::EPERM),
            (0, AcquireResource { domid: DomId::SELF.0, ..good }, Errno::EPERM),
            (0, AcquireResource { domid: 9, ..good }, Errno::ESRCH),
            (1, AcquireResource { domid: 0, ..good }, Errno::EPERM),
            (0, AcquireResource { kind: 0, ..good }, Errno::EOPNOTSUPP),
            (0, AcquireResource { kind: 9, ..good }, Errno::EOPNOTSUPP),
            (0, AcquireResource { id: 1, ..good }, Errno::EINVAL),
            (0, AcquireResource { frame: 4, ..good }, Errno::EINVAL),
            (0, AcquireResource { frame: u64::MAX, ..good }, Errno::EINVAL),
            (0, AcquireResource { nr_frames: 5, ..good }, Errno::EINVAL),
            (0, AcquireResource { nr_frames: u32::MAX, ..good }, Errno::E2BIG),
            (0, AcquireResource { frame_list: 8, ..good }, Errno::EFAULT),
        ] {
            let outcome = ask(&fixture, from, 0, request);
            assert_eq!(outcome, Outcome::Done(Err(error)), "{request:?}");
        }
    }
}
