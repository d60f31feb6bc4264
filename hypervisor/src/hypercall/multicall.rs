//! `HYPERVISOR_multicall` (`public/xen.h`): a list of hypercalls in one.

use super::{Arguments, Caller, Outcome, dispatch};
use hv_core::guest::{GuestMemory, Handle};
use hypercall_abi::errno::Errno;
use hypercall_abi::hypercall;
use hypercall_abi::multicall::MulticallEntry;

const ENTRY: u64 = size_of::<MulticallEntry>() as u64;
const RESULT: u64 = core::mem::offset_of!(MulticallEntry, result) as u64;

/// Carries out the x1 calls at x0, in order. Each result stands beside its call; one that is not to
/// be written ends the list.
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [list, count, ..] = *arguments;
    for index in 0..count {
        let at = list.wrapping_add(index.wrapping_mul(ENTRY));
        let again = Outcome::Again([at, count - index, 0, 0, 0]);
        if index != 0 && caller.hv.machine.interrupt_pending() {
            return again;
        }
        match entry(caller, at) {
            Ok(Entry::Done) => {}
            Ok(Entry::Unfinished) => return again,
            Err(error) => return error.into(),
        }
    }
    Outcome::Done(Ok(0))
}

enum Entry {
    Done,
    Unfinished,
}

fn entry(caller: &Caller<'_>, at: u64) -> Result<Entry, Errno> {
    let handle = Handle::<MulticallEntry>::from_register(at);
    let mut entry = handle.load(caller.guest)?;
    let [a0, a1, a2, a3, a4, _] = entry.args;
    let outcome = if entry.op == hypercall::MULTICALL {
        Errno::EINVAL.into()
    } else {
        dispatch(caller, entry.op, &[a0, a1, a2, a3, a4])
    };
    match outcome {
        Outcome::Done(result) => {
            let result = Outcome::register(result).to_le_bytes();
            caller.guest.write(at.wrapping_add(RESULT), &result)?;
            Ok(Entry::Done)
        }
        Outcome::Again([a0, a1, a2, a3, a4]) => {
            entry.args = [a0, a1, a2, a3, a4, 0];
            handle.store(caller.guest, &entry)?;
            Ok(Entry::Unfinished)
        }
    }
}
