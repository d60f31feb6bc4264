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
#[inline(never)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{REQUEST, Testbed};

    fn call(op: u64, args: [u64; 6]) -> MulticallEntry {
        MulticallEntry { op, args, result: 0xdead }
    }

    fn results(bed: &Testbed, count: u64) -> Vec<u64> {
        let list = Handle::<MulticallEntry>::from_register(REQUEST);
        (0..count).map(|index| list.element(index).load(&bed.guest).unwrap().result).collect()
    }

    #[test]
    fn each_call_gets_its_result() {
        let bed = Testbed::new();
        bed.put(&[
            call(hypercall::XEN_VERSION, [0; 6]),
            call(hypercall::EVENT_CHANNEL_OP, [4, 8, 0, 0, 0, 0]),
            call(hypercall::MULTICALL, [REQUEST, 1, 0, 0, 0, 0]),
            call(9999, [0; 6]),
        ]);
        let outcome = bed.call(1, hypercall::MULTICALL, [REQUEST, 4, 0, 0, 0]);
        assert_eq!(outcome, Outcome::Done(Ok(0)));
        let error = |errno: Errno| errno.to_register().cast_unsigned();
        let expected = [0x4_0014, error(Errno::EFAULT), error(Errno::EINVAL), error(Errno::ENOSYS)];
        assert_eq!(results(&bed, 4), expected);
    }

    #[test]
    fn it_stops_between_calls_and_within_one() {
        let bed = Testbed::new();
        bed.put(&[
            call(hypercall::XEN_VERSION, [0; 6]),
            call(hypercall::CONSOLE_IO, [0, 300, REQUEST, 0, 0, 0]),
        ]);
        bed.interrupt(true);
        let first = bed.call(0, hypercall::MULTICALL, [REQUEST, 2, 0, 0, 0]);
        assert_eq!(first, Outcome::Again([REQUEST + 64, 1, 0, 0, 0]));
        let second = bed.call(0, hypercall::MULTICALL, [REQUEST + 64, 1, 0, 0, 0]);
        assert_eq!(second, Outcome::Again([REQUEST + 64, 1, 0, 0, 0]));
        let entry = Handle::<MulticallEntry>::from_register(REQUEST + 64).load(&bed.guest);
        assert_eq!(entry.unwrap().args, [0, 172, REQUEST + 128, 0, 0, 0]);
        bed.interrupt(false);
        let third = bed.call(0, hypercall::MULTICALL, [REQUEST + 64, 1, 0, 0, 0]);
        assert_eq!(third, Outcome::Done(Ok(0)));
        assert_eq!(bed.hv.machine.serial.lock().len(), 300);
    }

    #[test]
    fn a_list_that_cannot_be_read_ends_it() {
        let bed = Testbed::new();
        let outcome = bed.call(1, hypercall::MULTICALL, [8, 1, 0, 0, 0]);
        assert_eq!(outcome, Errno::EFAULT.into());
        let outcome = bed.call(1, hypercall::MULTICALL, [8, 0, 0, 0, 0]);
        assert_eq!(outcome, Outcome::Done(Ok(0)));
    }
}
