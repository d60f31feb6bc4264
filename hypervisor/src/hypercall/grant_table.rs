//! `HYPERVISOR_grant_table_op` (`public/grant_table.h`).
//!
//! An operation is an array of requests. Each gets its own status; only an array that cannot be read
//! or written is an error of the hypercall. When an interrupt waits, the call goes on with the rest of
//! the array.

mod copy;
mod flush;
mod map;
mod table;

use super::{Arguments, Caller, Outcome, word};
use crate::domain::Domain;
use alloc::sync::Arc;
use hv_core::grant::GrantError;
use hv_core::guest::Handle;
use hv_core::ids::DomId;
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::grant_table as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The low bits of the command name the operation; those above hold how far a preempted one is.
const OPERATION_BITS: u32 = 12;
const OPERATION: u32 = (1 << OPERATION_BITS) - 1;

/// Carries out the operation in x0 on the array at x1 of the length in x2.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, array, count, ..] = *arguments;
    let (command, count) = (word(command), word(count));
    if count > i32::MAX.cast_unsigned() {
        return Errno::EINVAL.into();
    }
    let (operation, progress) = (command & OPERATION, command >> OPERATION_BITS);
    if progress != 0 && operation != abi::GNTTABOP_CACHE_FLUSH {
        return Errno::EINVAL.into();
    }
    match operation {
        abi::GNTTABOP_MAP_GRANT_REF => each(caller, operation, array, count, map::map),
        abi::GNTTABOP_UNMAP_GRANT_REF => each(caller, operation, array, count, map::unmap),
        abi::GNTTABOP_UNMAP_AND_REPLACE => {
            each(caller, operation, array, count, map::unmap_and_replace)
        }
        abi::GNTTABOP_COPY => each(caller, operation, array, count, copy::copy),
        abi::GNTTABOP_TRANSFER => each(caller, operation, array, count, table::transfer),
        abi::GNTTABOP_SWAP_GRANT_REF => each(caller, operation, array, count, table::swap),
        abi::GNTTABOP_CACHE_FLUSH => flush::handle(caller, array, count, progress),
        abi::GNTTABOP_SETUP_TABLE => table::setup(caller, array, count).into(),
        abi::GNTTABOP_QUERY_SIZE => table::query_size(caller, array, count).into(),
        abi::GNTTABOP_GET_STATUS_FRAMES => table::status_frames(caller, array, count).into(),
        abi::GNTTABOP_SET_VERSION => table::set_version(caller, array).into(),
        abi::GNTTABOP_GET_VERSION => table::get_version(caller, array).into(),
        _ => Errno::ENOSYS.into(),
    }
}

/// Carries out `action` on each of `count` requests at `array`, until an interrupt waits.
///
/// `action` fills in the reply. What the reply may need undone when it cannot be written, it gets to
/// know by the second call of the pair it returns.
fn each<T: Copy + FromBytes + Immutable + IntoBytes>(
    caller: &Caller<'_>,
    operation: u32,
    array: u64,
    count: u32,
    action: impl Fn(&Caller<'_>, &mut T) -> Undo,
) -> Outcome {
    let handle = Handle::<T>::from_register(array);
    for index in 0..count {
        let at = handle.element(u64::from(index));
        if index != 0 && caller.hv.machine.interrupt_pending() {
            let next = array.wrapping_add(size_of::<T>() as u64 * u64::from(index));
            return Outcome::Again([u64::from(operation), next, u64::from(count - index), 0, 0]);
        }
        let mut request = T::new_zeroed();
        if let Err(fault) = at.load_into(caller.guest, &mut request) {
            return Errno::from(fault).into();
        }
        let undo = action(caller, &mut request);
        if let Err(fault) = at.store(caller.guest, &request) {
            undo.carry_out(caller);
            return Errno::from(fault).into();
        }
    }
    Outcome::Done(Ok(0))
}

/// What is taken back if the guest cannot be told of it.
#[must_use = "a reply that cannot be written must leave nothing behind"]
enum Undo {
    /// Nothing: the request left nothing behind that only its reply names.
    Nothing,
    /// The mapping with this handle.
    Mapping(u32),
}

impl Undo {
    fn carry_out(self, caller: &Caller<'_>) {
        match self {
            Self::Nothing => {}
            Self::Mapping(handle) => map::undo(caller, handle),
        }
    }
}

/// Returns the status for the outcome of a request.
fn status(outcome: Result<(), GrantError>) -> i16 {
    match outcome {
        Ok(()) => abi::GNTST_OKAY,
        Err(error) => error.status(),
    }
}

/// Returns the domain whose table a request concerns: the caller, or one it rules over.
fn table_of(caller: &Caller<'_>, dom: u16) -> Result<Arc<Domain>, GrantError> {
    let target = caller.target(dom).map_err(|_| GrantError::BadDomain)?;
    privilege::over(caller.subject(), target.id).map_err(|_| GrantError::PermissionDenied)?;
    Ok(target)
}

/// Returns the domain that grants the caller something, if the two may see each other.
fn granter(caller: &Caller<'_>, dom: DomId) -> Result<Arc<Domain>, GrantError> {
    if dom == caller.domain.id {
        return Ok(Arc::clone(caller.domain));
    }
    let granter = caller.hv.domain(dom).ok_or(GrantError::BadDomain)?;
    let (subject, neighbours) = (caller.subject(), caller.neighbours());
    privilege::connect(neighbours, subject, subject, granter.subject())
        .map_err(|_| GrantError::PermissionDenied)?;
    Ok(granter)
}

#[cfg(test)]
mod tests;
