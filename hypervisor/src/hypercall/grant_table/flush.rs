//! Cleaning caches for devices that do not look into them.

use super::{OPERATION_BITS, abi};
use crate::hypercall::{Caller, Outcome};
use hv_core::addr::{MachineAddr, PAGE_SIZE};
use hv_core::frames::Owner;
use hv_core::grant::Search;
use hv_core::guest::Handle;
use hv_core::memory::FrameMemory;
use hypercall_abi::errno::Errno;
use hypercall_abi::grant_table::{GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL, GnttabCacheFlush};

/// How many handles are looked at between two looks for interrupts.
const SEARCH_STEP: u32 = 256;
/// How many handles the bits of a command can name: a search goes on in steps of this fraction.
const PROGRESS_STEP: u32 = 1 << 4;

/// How one request ends.
enum Flushed {
    Done,
    /// An interrupt waits; go on with the search at this handle.
    From(u32),
}

/// Carries out the `count` requests at `array`, the first from where `progress` says.
pub(super) fn handle(caller: &Caller<'_>, array: u64, count: u32, progress: u32) -> Outcome {
    let handle = Handle::<GnttabCacheFlush>::from_register(array);
    let mut first = progress.saturating_mul(PROGRESS_STEP);
    for index in 0..count {
        let again = |from: u32| {
            let next = array.wrapping_add(size_of::<GnttabCacheFlush>() as u64 * u64::from(index));
            let command = abi::GNTTABOP_CACHE_FLUSH | (from / PROGRESS_STEP) << OPERATION_BITS;
            Outcome::Again([u64::from(command), next, u64::from(count - index), 0, 0])
        };
        if index != 0 && caller.hv.machine.interrupt_pending() {
            return again(0);
        }
        let request = match handle.element(u64::from(index)).load(caller.guest) {
            Ok(request) => request,
            Err(fault) => return Errno::from(fault).into(),
        };
        match flush(caller, &request, first) {
            Ok(Flushed::Done) => first = 0,
            Ok(Flushed::From(from)) => return again(from),
            Err(error) => return error.into(),
        }
    }
    Outcome::Done(Ok(0))
}

fn flush(caller: &Caller<'_>, request: &GnttabCacheFlush, first: u32) -> Result<Flushed, Errno> {
    let end = u64::from(request.offset) + u64::from(request.length);
    let known = GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL;
    if u64::from(request.offset) >= PAGE_SIZE || end > PAGE_SIZE || request.op & !known != 0 {
        return Err(Errno::EINVAL);
    }
    if request.length == 0 || request.op == 0 {
        return if first == 0 { Ok(Flushed::Done) } else { Err(Errno::EILSEQ) };
    }
    let frame = MachineAddr::new(request.dev_bus_addr).frame();
    let owner = caller.hv.frames.lock().owner(frame);
    match owner {
        Owner::Nobody => return Err(Errno::EINVAL),
        Owner::Hypervisor => return Err(Errno::EPERM),
        Owner::Domain(dom) | Owner::SharedWith(dom) if dom == caller.domain.id => {}
        Owner::Domain(_) | Owner::SharedWith(_) => {
            let mut from = first;
            loop {
                let found = caller.domain.grants.lock().find_mapping(frame, from, SEARCH_STEP);
                match found {
                    Search::Found => break,
                    Search::Absent => return Err(Errno::EINVAL),
                    Search::From(next) => from = next,
                }
                if caller.hv.machine.interrupt_pending() {
                    return Ok(Flushed::From(from));
                }
            }
        }
    }
    // Cleaning as well never loses data that an invalidation alone would.
    let at = MachineAddr::new(frame.base().raw() + u64::from(request.offset));
    caller.memory().clean_and_invalidate(at, request.length.into());
    Ok(Flushed::Done)
}
