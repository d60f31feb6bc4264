//! The shared table itself: its size, its version, and what moves entries about.

use super::{Undo, status, table_of};
use crate::hypercall::Caller;
use hv_core::addr::Gfn;
use hv_core::grant::{Access, GrantError};
use hv_core::guest::Handle;
use hv_core::ids::GrantRef;
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::grant_table::{
    GnttabGetVersion, GnttabQuerySize, GnttabSetVersion, GnttabSetupTable, GnttabSwapGrantRef,
    GnttabTransfer,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The one version there is on Arm.
const VERSION: u32 = 1;
/// A frame of the table that is mapped nowhere.
const NOWHERE: u64 = u64::MAX;

/// Says how large the table is and may become.
pub(super) fn query_size(caller: &Caller<'_>, array: u64, count: u32) -> Result<(), Errno> {
    let (handle, mut request) = only_one::<GnttabQuerySize>(caller, array, count)?;
    let outcome = table_of(caller, request.dom).map(|domain| {
        let grants = domain.grants.lock();
        // The first frame is made when it is needed; for the guest it was always there.
        request.nr_frames = u32::try_from(grants.frames().len()).unwrap_or(u32::MAX).max(1);
        request.max_nr_frames = grants.max_frames();
    });
    request.status = status(outcome);
    Ok(handle.store(caller.guest, &request)?)
}

/// Makes the table at least so large, and lists where its frames are mapped.
pub(super) fn setup(caller: &Caller<'_>, array: u64, count: u32) -> Result<(), Errno> {
    let (handle, mut request) = only_one::<GnttabSetupTable>(caller, array, count)?;
    request.status = status(try_setup(caller, &request));
    Ok(handle.store(caller.guest, &request)?)
}

fn try_setup(caller: &Caller<'_>, request: &GnttabSetupTable) -> Result<(), GrantError> {
    let domain = table_of(caller, request.dom)?;
    if let Some(last) = request.nr_frames.checked_sub(1) {
        caller.hv.grant_frame(&domain, last).map_err(|_| GrantError::General)?;
    }
    let list = Handle::<u64>::from_register(request.frame_list);
    for index in 0..request.nr_frames {
        let frame = domain.grants.lock().frames().get(index as usize).copied();
        let place = frame.and_then(|mfn| caller.hv.frames.lock().shared_at(mfn));
        let place = place.map_or(NOWHERE, Gfn::number);
        list.element(u64::from(index))
            .store(caller.guest, &place)
            .map_err(|_| GrantError::BadVirtAddr)?;
    }
    Ok(())
}

/// There are no status frames in version 1: a request for none succeeds.
pub(super) fn status_frames(caller: &Caller<'_>, array: u64, count: u32) -> Result<(), Errno> {
    // The structure has the shape of that of `setup_table`.
    let (handle, mut request) = only_one::<StatusFrames>(caller, array, count)?;
    let outcome = table_of(caller, request.dom).and(if request.nr_frames == 0 {
        Ok(())
    } else {
        Err(GrantError::General)
    });
    request.status = status(outcome);
    Ok(handle.store(caller.guest, &request)?)
}

/// `struct gnttab_get_status_frames`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes)]
#[repr(C)]
struct StatusFrames {
    nr_frames: u32,
    dom: u16,
    status: i16,
    frame_list: u64,
}

/// Chooses the version: the first, or none.
pub(super) fn set_version(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<GnttabSetVersion>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    let outcome = match request.version {
        VERSION => Ok(()),
        2 => Err(Errno::ENOSYS),
        _ => Err(Errno::EINVAL),
    };
    request.version = VERSION;
    handle.store(caller.guest, &request)?;
    outcome
}

/// Says which version is in use.
pub(super) fn get_version(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<GnttabGetVersion>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    let target = caller.target(request.dom)?;
    privilege::over(caller.subject(), target.id)?;
    request.version = VERSION;
    Ok(handle.store(caller.guest, &request)?)
}

/// Exchanges two entries of the caller's.
pub(super) fn swap(caller: &Caller<'_>, request: &mut GnttabSwapGrantRef) -> Undo {
    let (left, right) = (GrantRef(request.ref_a), GrantRef(request.ref_b));
    let outcome = caller.domain.grants.lock().swap(caller.memory(), left, right);
    request.status = status(outcome);
    Undo::Nothing
}

/// Refuses to give a frame away: on Arm no frame is ever taken from its domain like that.
pub(super) fn transfer(caller: &Caller<'_>, request: &mut GnttabTransfer) -> Undo {
    let gfn = Gfn::new(request.mfn);
    let error = match caller.hv.hold_ram(caller.domain, gfn, Access::Read) {
        None => GrantError::BadPage,
        Some(mfn) => {
            caller.hv.put_page(mfn);
            GrantError::General
        }
    };
    request.status = error.status();
    Undo::Nothing
}

fn only_one<T: FromBytes + Immutable + IntoBytes>(
    caller: &Caller<'_>,
    array: u64,
    count: u32,
) -> Result<(Handle<T>, T), Errno> {
    if count != 1 {
        return Err(Errno::EINVAL);
    }
    let handle = Handle::from_register(array);
    let request = handle.load(caller.guest)?;
    Ok((handle, request))
}
