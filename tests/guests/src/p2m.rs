//! The guest's memory map: holes, what is put over them, and memory given back and taken again.

use crate::suite::{Outcome, Suite, check, check_eq, check_errno, hole};
use core::sync::atomic::Ordering;
use hypercall_abi::hypercall::MEMORY_OP;
use hypercall_abi::ids::{DOMID_INVALID, DOMID_SELF};
use hypercall_abi::memory::{SPACE_GMFN_FOREIGN, SPACE_GRANT_TABLE, SPACE_SHARED_INFO};
use pv_guest_lib::hypercall::{memory as ops, raw, result};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::{map, probe, shared_info, tree};

const DATA_ABORT: u64 = 0x25;
const INSTRUCTION_ABORT: u64 = 0x21;
const NO_DOMAIN: u16 = 0x7000;

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("reading a hole is a data abort with its address", read_hole);
    suite.test("writing a hole is a data abort with its address", write_hole);
    suite.test("executing a hole is an instruction abort with its address", execute_hole);
    suite.test("all of memory is there", whole_memory);
    suite.test("reservations are told", reservations);
    suite.test("the shared page is put over a page", put_shared_page);
    suite.test("bad spaces, domains and frames are refused", bad_adds);
    suite.test("a removed page is a hole", remove);
    suite.test("a page given back comes back", give_back);
    suite.test("a block of pages given back comes back", give_back_block);
    suite.test("bad reservations do nothing", bad_reservations);
    suite.test("own frames are not foreign", foreign);
    suite.test("bad operations and addresses are refused", bad_calls);
    suite.finish();
}

fn read_hole() -> Outcome {
    for offset in [0, 0x128, 0xff8] {
        let address = (hole(0) << 12) + offset;
        let faults = [
            probe::load8(address).map(u64::from),
            probe::load16(address).map(u64::from),
            probe::load32(address).map(u64::from),
            probe::load64(address),
        ];
        for fault in faults {
            let Err(fault) = fault else {
                check!(false, "there is something at {address:#x}");
                return Ok(());
            };
            check_eq!((fault.class(), fault.far), (DATA_ABORT, address));
            check_eq!(fault.esr & 1 << 6, 0);
        }
    }
    Ok(())
}

fn write_hole() -> Outcome {
    let address = (hole(0) << 12) + 0x40;
    // SAFETY: there is nothing.
    let Err(fault) = (unsafe { probe::store64(address, 1) }) else {
        check!(false, "there is something at {address:#x}");
        return Ok(());
    };
    check_eq!((fault.class(), fault.far), (DATA_ABORT, address));
    Ok(())
}

fn execute_hole() -> Outcome {
    let address = (hole(0) << 12) + 0x80;
    // SAFETY: there is nothing.
    let Err(fault) = (unsafe { probe::execute(address) }) else {
        check!(false, "there is something at {address:#x}");
        return Ok(());
    };
    check_eq!((fault.class(), fault.far), (INSTRUCTION_ABORT, address));
    Ok(())
}

fn whole_memory() -> Outcome {
    let mut total = 0;
    for range in &tree::get().memory {
        for address in (range.start..range.start + range.len).step_by(1 << 20) {
            probe::load64(address)?;
        }
        probe::load64(range.start + range.len - 8)?;
        total += range.len;
    }
    check!(total >= 64 << 20);
    Ok(())
}

fn reservations() -> Outcome {
    let pages: u64 = tree::get().memory.iter().map(|range| range.len >> 12).sum();
    for dom in [DOMID_SELF, 0] {
        let current = ops::current_reservation(dom)?;
        check!(current >= pages, "{current} frames of {pages}");
        check!(ops::maximum_reservation(dom)? >= current);
        let last = tree::get().memory.iter().map(|range| (range.start + range.len) >> 12).max();
        check!(Some(ops::maximum_gpfn(dom)? + 1) >= last);
    }
    check!(ops::maximum_ram_page()? > 0x4_0000);
    check_errno!(ops::current_reservation(NO_DOMAIN), ESRCH);
    check_errno!(ops::maximum_reservation(NO_DOMAIN), ESRCH);
    check_errno!(ops::maximum_gpfn(NO_DOMAIN), ESRCH);
    Ok(())
}

fn put_shared_page() -> Outcome {
    shared_info::map()?;
    // An odd version would mean that the wall clock is being written.
    let [version, ..] = shared_info::wall_clock();
    check_eq!(version.load(Ordering::SeqCst) & 1, 0);
    Ok(())
}

fn bad_adds() -> Outcome {
    let gpfn = hole(1);
    check_errno!(ops::add_to_physmap(DOMID_SELF, 99, 0, gpfn), ENOSYS);
    check_errno!(ops::add_to_physmap(DOMID_SELF, SPACE_GMFN_FOREIGN, 0, gpfn), ENOSYS);
    check_errno!(ops::add_to_physmap(NO_DOMAIN, SPACE_SHARED_INFO, 0, gpfn), ESRCH);
    check_errno!(ops::add_to_physmap(DOMID_SELF, SPACE_SHARED_INFO, 1, gpfn), EINVAL);
    check_errno!(ops::add_to_physmap(DOMID_SELF, SPACE_GRANT_TABLE, 1 << 30, gpfn), EINVAL);
    check!(probe::load64(gpfn << 12).is_err(), "a refused page was mapped");
    check!(ops::add_to_physmap(DOMID_SELF, SPACE_GRANT_TABLE, 0, u64::MAX >> 12).is_err());
    Ok(())
}

fn is_hole(page: SharedPage) -> bool {
    let address = page.frame() << 12;
    probe::load64(address).is_err_and(|fault| fault.class() == DATA_ABORT && fault.far == address)
}

fn remove() -> Outcome {
    let page = SharedPage::allocate();
    page.word64(0).store(7, Ordering::SeqCst);
    ops::remove_from_physmap(DOMID_SELF, page.frame())?;
    check!(is_hole(page));
    check_errno!(ops::remove_from_physmap(DOMID_SELF, page.frame()), ENOENT);
    check_errno!(ops::remove_from_physmap(NO_DOMAIN, page.frame()), ESRCH);
    check_eq!(ops::populate_physmap(DOMID_SELF, &mut [page.frame()], 0)?, 1);
    probe::load64(page.frame() << 12)?;
    Ok(())
}

fn give_back() -> Outcome {
    let page = SharedPage::allocate();
    for _ in 0..10 {
        check_eq!(ops::decrease_reservation(DOMID_SELF, &mut [page.frame()], 0)?, 1);
        check!(is_hole(page));
        check_eq!(ops::populate_physmap(DOMID_SELF, &mut [page.frame()], 0)?, 1);
        page.word64(0).store(5, Ordering::SeqCst);
        check_eq!(page.word64(0).load(Ordering::SeqCst), 5);
    }
    Ok(())
}

fn give_back_block() -> Outcome {
    // The last 2 MiB of memory but one: nothing of this guest's is there, nor its device tree.
    let Some(range) = tree::get().memory.first() else { return Ok(()) };
    let first = (range.start + range.len - (4 << 20)) >> 12;
    check!(!tree::get().own.contains(first << 12));
    let neighbours = [(first << 12) - 8, (first + 512) << 12];
    check_eq!(ops::decrease_reservation(DOMID_SELF, &mut [first], 9)?, 1);
    for frame in [first, first + 1, first + 255, first + 511] {
        check!(probe::load64(frame << 12).is_err(), "{frame:#x} is still there");
    }
    for address in neighbours {
        probe::load64(address)?;
    }
    check_eq!(ops::populate_physmap(DOMID_SELF, &mut [first], 9)?, 1);
    for frame in [first, first + 1, first + 255, first + 511] {
        probe::load64(frame << 12)?;
    }
    Ok(())
}

fn bad_reservations() -> Outcome {
    let page = SharedPage::allocate();
    check_eq!(ops::decrease_reservation(NO_DOMAIN, &mut [page.frame()], 0)?, 0);
    check_eq!(ops::decrease_reservation(DOMID_SELF, &mut [u64::MAX >> 12], 0)?, 0);
    check_eq!(ops::decrease_reservation(DOMID_SELF, &mut [page.frame()], 40)?, 0);
    check_eq!(ops::populate_physmap(DOMID_SELF, &mut [hole(0)], 40)?, 0);
    check_eq!(ops::populate_physmap(DOMID_SELF, &mut [u64::MAX >> 12], 0)?, 0);
    check!(!is_hole(page));
    Ok(())
}

fn foreign() -> Outcome {
    let page = SharedPage::allocate();
    for domain in [0, NO_DOMAIN, DOMID_INVALID] {
        // The whole call or each frame of it is refused.
        let answer = ops::map_foreign(domain, &[page.frame()], &[hole(2)]);
        let mapped = answer.as_ref().is_ok_and(|errors| errors.contains(&0));
        check!(!mapped, "domain {domain:#x}: {answer:?}");
    }
    check!(probe::load64(hole(2) << 12).is_err());
    Ok(())
}

fn bad_calls() -> Outcome {
    // SAFETY: the operation does not exist.
    check_errno!(result(unsafe { raw(MEMORY_OP, [60, 0, 0, 0, 0]) }), ENOSYS);
    for address in [0x3f_0000_0000, 0x8000_0000_0000_0000] {
        for operation in [3, 4, 7, 14, 15, 23, 28] {
            // SAFETY: there is no memory at these addresses.
            let answer = result(unsafe { raw(MEMORY_OP, [operation, address, 0, 0, 0]) });
            check_errno!(answer, EFAULT);
        }
        // These answer with what they did.
        for operation in [0, 1, 6] {
            // SAFETY: there is no memory at these addresses.
            let answer = result(unsafe { raw(MEMORY_OP, [operation, address, 0, 0, 0]) });
            check_eq!(answer, Ok(0));
        }
    }
    // An array of frames that is not there.
    let mut request = hypercall_abi::memory::MemoryReservation {
        extent_start: 0x3f_0000_0000,
        nr_extents: 1,
        domid: DOMID_SELF,
        ..Default::default()
    };
    let answer = ops::plain(hypercall_abi::memory::DECREASE_RESERVATION, &mut request);
    check!(answer == Ok(0) || answer.is_err(), "it gave {answer:?}");
    check!(map::physical(0x1000) == 0x1000);
    Ok(())
}
