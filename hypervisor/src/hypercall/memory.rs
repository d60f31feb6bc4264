//! `HYPERVISOR_memory_op`: what a domain's memory is and where it is mapped.
//!
//! Operations on many pages stop when an interrupt waits. How far they came stands in the upper bits
//! of the command, with which the guest's instruction is executed again.

mod physmap;
mod reservation;
mod resource;

use super::{Arguments, Caller, Outcome};
use crate::domain::Domain;
use alloc::sync::Arc;
use hv_core::addr::Gfn;
use hv_core::frames::Account;
use hv_core::guest::Handle;
use hv_core::ids::DomId;
use hv_core::privilege::{self, Subject};
use hypercall_abi::errno::Errno;
use hypercall_abi::memory as abi;

/// Carries out a memory operation.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, argument, ..] = *arguments;
    let operation = command & ((1 << abi::OPERATION_BITS) - 1);
    let start = command >> abi::OPERATION_BITS;
    let outcome = match operation {
        abi::ADD_TO_PHYSMAP_BATCH => physmap::batch(caller, argument, start),
        abi::REMOVE_FROM_PHYSMAP => once(start, || physmap::remove(caller, argument)),
        abi::ADD_TO_PHYSMAP => once(start, || physmap::add(caller, argument)),
        abi::POPULATE_PHYSMAP => reservation::populate(caller, argument, start),
        abi::DECREASE_RESERVATION => reservation::decrease(caller, argument, start),
        // There is no place for frames that are mapped nowhere: none is given.
        abi::INCREASE_RESERVATION => Part::Done(Ok(start)),
        abi::ACQUIRE_RESOURCE => resource::acquire(caller, argument, start),
        abi::MAXIMUM_RAM_PAGE => once(start, || {
            let frames = caller.hv.frames.lock();
            Ok(frames.max_mfn().number().saturating_add(1))
        }),
        abi::CURRENT_RESERVATION => once(start, || Ok(account(caller, argument)?.total)),
        abi::MAXIMUM_RESERVATION => once(start, || Ok(account(caller, argument)?.limit)),
        abi::MAXIMUM_GPFN => once(start, || {
            let max = subject_domain(caller, argument)?.p2m.lock().max_mapped();
            Ok(max.map_or(0, Gfn::number))
        }),
        abi::SET_POD_TARGET | abi::GET_POD_TARGET => once(start, || pod_target(caller, argument)),
        abi::GET_SHARING_FREED_PAGES | abi::GET_SHARING_SHARED_PAGES => Part::Done(Ok(0)),
        abi::CLAIM_PAGES => once(start, || reservation::claim(caller, argument)),
        abi::GET_VNUMAINFO => Part::Done(Err(Errno::EOPNOTSUPP)),
        _ => Part::Done(Err(Errno::ENOSYS)),
    };
    match outcome {
        Part::Done(result) => Outcome::Done(result),
        Part::Upto(done) => {
            let mut arguments = *arguments;
            arguments[0] = operation | done << abi::OPERATION_BITS;
            Outcome::Again(arguments)
        }
    }
}

/// How far an operation came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    /// To its end.
    Done(Result<u64, Errno>),
    /// This many of its parts are done, and an interrupt waits.
    Upto(u64),
}

/// Runs an operation that has no parts to go on from.
fn once(start: u64, operation: impl FnOnce() -> Result<u64, Errno>) -> Part {
    Part::Done(if start == 0 { operation() } else { Err(Errno::EINVAL) })
}

/// Returns the domain that `named` is, from the caller's point of view.
fn target(caller: &Caller<'_>, named: u16) -> Result<Arc<Domain>, Errno> {
    let id = DomId(named).resolve(caller.domain.id);
    if id == caller.domain.id {
        return Ok(Arc::clone(caller.domain));
    }
    caller.hv.domain(id).ok_or(Errno::ESRCH)
}

/// Returns the domain that `named` is if the caller may manage its memory.
fn managed(caller: &Caller<'_>, named: u16) -> Result<Arc<Domain>, Errno> {
    let domain = target(caller, named)?;
    privilege::over(subject(caller), domain.id)?;
    Ok(domain)
}

fn subject(caller: &Caller<'_>) -> Subject {
    Subject { dom: caller.domain.id, privileged: caller.domain.is_privileged() }
}

/// Returns the domain whose number stands at `argument`.
fn subject_domain(caller: &Caller<'_>, argument: u64) -> Result<Arc<Domain>, Errno> {
    let request = Handle::<abi::MemoryDomain>::from_register(argument).load(caller.guest)?;
    managed(caller, request.domid)
}

/// Returns the account of the domain whose number stands at `argument`.
fn account(caller: &Caller<'_>, argument: u64) -> Result<Account, Errno> {
    let domain = subject_domain(caller, argument)?;
    caller.hv.frames.lock().account(domain.id).ok_or(Errno::ESRCH)
}

/// Answers as for a domain without frames to be populated later: there are none on Arm.
fn pod_target(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    let handle = Handle::<abi::PodTarget>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    let domain = target(caller, request.domid)?;
    privilege::control(subject(caller))?;
    let account = caller.hv.frames.lock().account(domain.id).ok_or(Errno::ESRCH)?;
    request.tot_pages = account.total;
    request.pod_cache_pages = 0;
    request.pod_entries = 0;
    handle.store(caller.guest, &request)?;
    Ok(0)
}

/// Says whether work on many parts should stop after `done` of them, `left` being left.
fn should_stop(caller: &Caller<'_>, left: u64) -> bool {
    left > 0 && caller.hv.machine.interrupt_pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{DOM0_FRAMES, Fixture, GUEST_LIMIT, RAM, RAM_FRAMES};
    use crate::machine::GuestSpace;
    use core::sync::atomic::Ordering;

    fn ask(fixture: &Fixture, from: u16, command: u64, argument: u64) -> Outcome {
        let domain = fixture.existing(from);
        fixture.call(&domain, |caller| handle(caller, &[command, argument, 0, 0, 0]))
    }

    fn domid(fixture: &Fixture, domid: u16) -> u64 {
        fixture.put(0, &abi::MemoryDomain { domid })
    }

    #[test]
    fn reservations_are_counted_in_frames() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        let own = domid(&fixture, DomId::SELF.0);
        let ask_own = |command| ask(&fixture, 0, command, own);
        assert_eq!(ask_own(abi::CURRENT_RESERVATION), Outcome::Done(Ok(DOM0_FRAMES)));
        assert_eq!(ask_own(abi::MAXIMUM_RESERVATION), Outcome::Done(Ok(DOM0_FRAMES)));
        assert_eq!(ask_own(abi::MAXIMUM_GPFN), Outcome::Done(Ok(0x4_13ff)));
        assert_eq!(ask_own(abi::MAXIMUM_RAM_PAGE), Outcome::Done(Ok(RAM + RAM_FRAMES)));
        let guest = domid(&fixture, 1);
        assert_eq!(ask(&fixture, 0, abi::CURRENT_RESERVATION, guest), Outcome::Done(Ok(0)));
        let limit = ask(&fixture, 0, abi::MAXIMUM_RESERVATION, guest);
        assert_eq!(limit, Outcome::Done(Ok(GUEST_LIMIT)));
    }

    #[test]
    fn bad_pointers_domains_and_commands_have_their_errors() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        fixture.domain(DomId(2));
        let one = domid(&fixture, 1);
        let refused = |from, command, argument, error| {
            let outcome = ask(&fixture, from, command, argument);
            assert_eq!(outcome, Outcome::Done(Err(error)), "command {command}");
        };
        for command in [
            abi::CURRENT_RESERVATION,
            abi::MAXIMUM_GPFN,
            abi::ADD_TO_PHYSMAP,
            abi::ADD_TO_PHYSMAP_BATCH,
            abi::REMOVE_FROM_PHYSMAP,
            abi::ACQUIRE_RESOURCE,
            abi::CLAIM_PAGES,
            abi::SET_POD_TARGET,
        ] {
            refused(0, command, 0, Errno::EFAULT);
            refused(0, command, u64::MAX, Errno::EFAULT);
        }
        refused(2, abi::CURRENT_RESERVATION, one, Errno::EPERM);
        refused(0, abi::CURRENT_RESERVATION | 1 << abi::OPERATION_BITS, one, Errno::EINVAL);
        let nobody = domid(&fixture, 7);
        refused(0, abi::CURRENT_RESERVATION, nobody, Errno::ESRCH);
        for command in [abi::MEMORY_MAP, abi::RESERVED_DEVICE_MEMORY_MAP, 5, 0x3f] {
            refused(0, command, nobody, Errno::ENOSYS);
        }
        refused(0, abi::GET_VNUMAINFO, nobody, Errno::EOPNOTSUPP);
        for command in [abi::GET_SHARING_FREED_PAGES, abi::GET_SHARING_SHARED_PAGES] {
            assert_eq!(ask(&fixture, 0, command, 0), Outcome::Done(Ok(0)));
        }
    }

    #[test]
    fn a_populate_on_demand_target_is_answered_with_what_there_is() {
        let fixture = Fixture::new();
        fixture.domain(DomId(1));
        let request = abi::PodTarget { domid: 0, target_pages: 5, ..Default::default() };
        let argument = fixture.put(0x80, &request);
        assert_eq!(ask(&fixture, 0, abi::SET_POD_TARGET, argument), Outcome::Done(Ok(0)));
        let reply: abi::PodTarget = fixture.get(0x80);
        assert_eq!((reply.tot_pages, reply.pod_entries), (DOM0_FRAMES, 0));
        let outcome = ask(&fixture, 1, abi::SET_POD_TARGET, argument);
        assert_eq!(outcome, Outcome::Done(Err(Errno::EPERM)));
        fixture.guest.read_only.store(true, Ordering::Relaxed);
        let outcome = ask(&fixture, 0, abi::GET_POD_TARGET, argument);
        assert_eq!(outcome, Outcome::Done(Err(Errno::EFAULT)));
        assert_eq!(argument, GuestSpace::BASE + 0x80);
    }
}
