//! Grant tables: the table itself, mapping, copying, and everything that is refused.

use crate::suite::{Outcome, Suite, check, check_eq, check_errno, hole, is_xen};
use core::sync::atomic::Ordering;
use hypercall_abi::grant_table::{
    GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_BAD_COPY_ARG,
    GNTST_BAD_DOMAIN, GNTST_BAD_GNTREF, GNTST_BAD_HANDLE, GNTST_GENERAL_ERROR, GNTST_OKAY,
    GNTTABOP_COPY, GNTTABOP_MAP_GRANT_REF, GNTTABOP_SETUP_TABLE, GTF_PERMIT_ACCESS, GTF_READING,
    GTF_WRITING, GnttabCopy, GnttabCopyPtr, GnttabMapGrantRef, GnttabSetupTable,
};
use hypercall_abi::hypercall::GRANT_TABLE_OP;
use hypercall_abi::ids::DOMID_SELF;
use pv_guest_lib::grant::{Access, GrantTable};
use pv_guest_lib::hypercall::{grant_table as ops, raw, result};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::{probe, tree};

const NO_DOMAIN: u16 = 0x7000;
const REF: u32 = 20;
const OTHER_REF: u32 = 21;
const FRAMES: u32 = 3;

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("the table's size is told", sizes);
    suite.test("only version 1 is offered", versions);
    let table = match GrantTable::map(FRAMES) {
        Ok(table) => table,
        Err(error) => {
            suite.test("the table is mapped", || Err(error.into()));
            return suite.finish();
        }
    };
    suite.test("the table grew to what was mapped", grown);
    suite.test("the table's frames are told", frames);
    suite.test("a grant is mapped and unmapped", || map(table));
    suite.test("a mapping is the granted page, and gone after unmapping", || contents(table));
    suite.test("a grant in use is not revoked", || busy(table));
    suite.test("a grant is mapped twice and unmapped twice", || twice(table));
    suite.test("a grant for reading is not written", || read_only(table));
    suite.test("bad references, domains and flags are refused", || bad_maps(table));
    suite.test("bad handles are refused", || bad_unmaps(table));
    suite.test("a batch goes on after a bad item", || batch(table));
    suite.test("an entry of the last frame works", || last_frame(table));
    suite.test("bytes are copied between frames", copy_frames);
    suite.test("bytes are copied between grants", || copy_grants(table));
    suite.test("bad copies are refused", || bad_copies(table));
    suite.test("a copy to a grant for reading is refused", || copy_read_only(table));
    suite.test("transfers are refused", refuse_transfer);
    suite.test("bad operations and addresses are refused", bad_calls);
    suite.test("a thousand mappings leave nothing behind", || many(table));
    suite.finish();
}

fn sizes() -> Outcome {
    for dom in [DOMID_SELF, 0] {
        let size = ops::query_size(dom)?;
        check_eq!(size.status, GNTST_OKAY);
        check!(size.max_nr_frames >= 4, "only {} frames", size.max_nr_frames);
        check!(size.nr_frames <= size.max_nr_frames);
    }
    check_eq!(ops::query_size(NO_DOMAIN)?.status, GNTST_BAD_DOMAIN);
    Ok(())
}

fn versions() -> Outcome {
    check_eq!(ops::set_version(1)?, 1);
    check_eq!(ops::get_version(DOMID_SELF)?, 1);
    check_errno!(ops::set_version(0), EINVAL);
    check_errno!(ops::set_version(3), EINVAL);
    check!(ops::set_version(2).is_err());
    check_errno!(ops::get_version(NO_DOMAIN), ESRCH);
    check_eq!(ops::get_version(DOMID_SELF)?, 1);
    Ok(())
}

fn grown() -> Outcome {
    check!(ops::query_size(DOMID_SELF)?.nr_frames >= FRAMES);
    Ok(())
}

fn setup(dom: u16, nr_frames: u32, list: SharedPage) -> Result<i16, crate::suite::Failure> {
    let mut item =
        GnttabSetupTable { dom, nr_frames, frame_list: list.address(), ..Default::default() };
    ops::batch(GNTTABOP_SETUP_TABLE, core::slice::from_mut(&mut item))?;
    Ok(item.status)
}

fn frames() -> Outcome {
    let list = SharedPage::allocate();
    check_eq!(setup(DOMID_SELF, 2, list)?, GNTST_OKAY);
    let window = tree::get().grant_window.start >> 12;
    check_eq!(list.word64(0).load(Ordering::SeqCst), window);
    check_eq!(list.word64(8).load(Ordering::SeqCst), window + 1);
    check_eq!(setup(NO_DOMAIN, 1, list)?, GNTST_BAD_DOMAIN);
    check_eq!(setup(DOMID_SELF, 1 << 20, list)?, GNTST_GENERAL_ERROR);
    Ok(())
}

const FLAGS: u32 = GNTMAP_HOST_MAP;

fn map(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    table.give(REF, 0, page.frame(), Access::ReadWrite);
    let at = hole(0) << 12;
    let mapping = ops::map(0, REF, at, FLAGS)?;
    check_eq!(mapping.status, GNTST_OKAY);
    // The address for devices is the machine's, and Dom0's frames are the machine's.
    check_eq!(mapping.dev_bus_addr, page.frame() << 12);
    check_eq!(table.flags(REF), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    check_eq!(ops::unmap(mapping.handle, at)?, GNTST_OKAY);
    check_eq!(table.flags(REF), GTF_PERMIT_ACCESS);
    check!(table.revoke(REF));
    Ok(())
}

fn contents(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    page.word64(0x128).store(0x1234_5678, Ordering::SeqCst);
    table.give(REF, 0, page.frame(), Access::ReadWrite);
    let at = hole(1) << 12;
    check!(probe::load64(at).is_err(), "there is something at {at:#x} already");
    let mapping = ops::map(0, REF, at, FLAGS)?;
    check_eq!(mapping.status, GNTST_OKAY);
    check_eq!(probe::load64(at + 0x128)?, 0x1234_5678);
    // SAFETY: it is the page above, which only atomics reach.
    unsafe { probe::store64(at + 0x130, 0x55aa)? };
    check_eq!(page.word64(0x130).load(Ordering::SeqCst), 0x55aa);
    check_eq!(ops::unmap(mapping.handle, at)?, GNTST_OKAY);
    let Err(fault) = probe::load64(at + 0x128) else {
        check!(false, "the mapping is still there");
        return Ok(());
    };
    check_eq!(fault.far, at + 0x128);
    check!(table.revoke(REF));
    Ok(())
}

fn busy(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    table.give(REF, 0, page.frame(), Access::ReadWrite);
    let at = hole(2) << 12;
    let mapping = ops::map(0, REF, at, FLAGS | GNTMAP_READONLY)?;
    check_eq!(mapping.status, GNTST_OKAY);
    check_eq!(table.flags(REF), GTF_PERMIT_ACCESS | GTF_READING);
    check!(!table.revoke(REF));
    check_eq!(ops::unmap(mapping.handle, at)?, GNTST_OKAY);
    check!(table.revoke(REF));
    Ok(())
}

fn twice(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    table.give(REF, 0, page.frame(), Access::ReadWrite);
    let (one, two) = (hole(3) << 12, hole(4) << 12);
    let first = ops::map(0, REF, one, FLAGS)?;
    let second = ops::map(0, REF, two, FLAGS | GNTMAP_READONLY)?;
    check_eq!((first.status, second.status), (GNTST_OKAY, GNTST_OKAY));
    check!(first.handle != second.handle);
    check_eq!(ops::unmap(first.handle, one)?, GNTST_OKAY);
    check_eq!(table.flags(REF), GTF_PERMIT_ACCESS | GTF_READING);
    check_eq!(probe::load64(two)?, 0);
    check_eq!(ops::unmap(second.handle, two)?, GNTST_OKAY);
    check_eq!(table.flags(REF), GTF_PERMIT_ACCESS);
    check!(table.revoke(REF));
    Ok(())
}

fn read_only(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    table.give(REF, 0, page.frame(), Access::Read);
    let at = hole(5) << 12;
    check_eq!(ops::map(0, REF, at, FLAGS)?.status, GNTST_GENERAL_ERROR);
    check_eq!(table.flags(REF) & (GTF_READING | GTF_WRITING), 0);
    let mapping = ops::map(0, REF, at, FLAGS | GNTMAP_READONLY)?;
    check_eq!(mapping.status, GNTST_OKAY);
    check_eq!(probe::load64(at)?, 0);
    // Xen 4.20 tries a write to such a page again, for ever.
    if !is_xen() {
        // SAFETY: if it were written, it would be the page above, which only atomics reach.
        let written = unsafe { probe::store64(at, 1) };
        check!(written.is_err_and(|fault| fault.far == at), "a page for reading was written");
    }
    check_eq!(page.word64(0).load(Ordering::SeqCst), 0);
    check_eq!(ops::unmap(mapping.handle, at)?, GNTST_OKAY);
    check!(table.revoke(REF));
    Ok(())
}

fn bad_maps(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    let at = hole(6) << 12;
    table.give(REF, 0, page.frame(), Access::ReadWrite);
    check_eq!(ops::map(NO_DOMAIN, REF, at, FLAGS)?.status, GNTST_BAD_DOMAIN);
    check_eq!(ops::map(0, u32::MAX, at, FLAGS)?.status, GNTST_BAD_GNTREF);
    check_eq!(ops::map(0, FRAMES * 512 + 100_000, at, FLAGS)?.status, GNTST_BAD_GNTREF);
    check!(ops::map(0, OTHER_REF, at, FLAGS)?.status != GNTST_OKAY, "an empty entry was mapped");
    check_eq!(ops::map(0, REF, at, 0)?.status, GNTST_BAD_GNTREF);
    // Granted to somebody else.
    table.give(OTHER_REF, 1, page.frame(), Access::ReadWrite);
    check!(ops::map(0, OTHER_REF, at, FLAGS)?.status != GNTST_OKAY, "another's grant was mapped");
    // A frame that is not there.
    table.give(OTHER_REF, 0, 0xff_ff00, Access::ReadWrite);
    check!(ops::map(0, OTHER_REF, at, FLAGS)?.status != GNTST_OKAY, "a hole was mapped");
    check_eq!(table.flags(OTHER_REF) & (GTF_READING | GTF_WRITING), 0);
    check!(probe::load64(at).is_err(), "a refused mapping was made");
    check!(table.revoke(REF));
    check!(table.revoke(OTHER_REF));
    Ok(())
}

fn bad_unmaps(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    let at = hole(7) << 12;
    for handle in [0x7000, u32::MAX, u32::MAX - 1] {
        check_eq!(ops::unmap(handle, at)?, GNTST_BAD_HANDLE);
    }
    table.give(REF, 0, page.frame(), Access::ReadWrite);
    let mapping = ops::map(0, REF, at, FLAGS)?;
    check_eq!(mapping.status, GNTST_OKAY);
    check_eq!(ops::unmap(mapping.handle, at)?, GNTST_OKAY);
    check!(ops::unmap(mapping.handle, at)? != GNTST_OKAY, "a mapping was ended twice");
    check!(table.revoke(REF));
    Ok(())
}

fn batch(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    table.give(REF, 0, page.frame(), Access::ReadWrite);
    let item = |number: u64, reference: u32| GnttabMapGrantRef {
        host_addr: hole(number) << 12,
        flags: FLAGS,
        reference,
        ..Default::default()
    };
    let mut items = [item(8, REF), item(9, u32::MAX), item(10, REF)];
    ops::batch(GNTTABOP_MAP_GRANT_REF, &mut items)?;
    check_eq!(items.map(|item| item.status), [GNTST_OKAY, GNTST_BAD_GNTREF, GNTST_OKAY]);
    for item in items.iter().filter(|item| item.status == GNTST_OKAY) {
        check_eq!(ops::unmap(item.handle, item.host_addr)?, GNTST_OKAY);
    }
    check!(table.revoke(REF));
    Ok(())
}

fn last_frame(table: GrantTable) -> Outcome {
    let reference = FRAMES * 512 - 1;
    let page = SharedPage::allocate();
    table.give(reference, 0, page.frame(), Access::ReadWrite);
    let at = hole(11) << 12;
    let mapping = ops::map(0, reference, at, FLAGS)?;
    check_eq!(mapping.status, GNTST_OKAY);
    check_eq!(ops::unmap(mapping.handle, at)?, GNTST_OKAY);
    check!(table.revoke(reference));
    Ok(())
}

fn side(frame_or_ref: u64, offset: u16) -> GnttabCopyPtr {
    GnttabCopyPtr { frame_or_ref, domid: DOMID_SELF, offset, pad: 0 }
}

fn granted(reference: u32, offset: u16) -> GnttabCopyPtr {
    GnttabCopyPtr { frame_or_ref: u64::from(reference), domid: 0, offset, pad: 0 }
}

fn fill(page: SharedPage) {
    for word in 0..512 {
        page.word64(word * 8).store(word as u64 * 0x0101_0101_0101, Ordering::SeqCst);
    }
}

fn copy_frames() -> Outcome {
    let (from, to) = (SharedPage::allocate(), SharedPage::allocate());
    fill(from);
    let whole = GnttabCopy {
        source: side(from.frame(), 0),
        dest: side(to.frame(), 0),
        len: 4096,
        ..Default::default()
    };
    check_eq!(ops::copy(whole)?, GNTST_OKAY);
    for word in 0..512 {
        let copied = to.word64(word * 8).load(Ordering::SeqCst);
        check_eq!(copied, from.word64(word * 8).load(Ordering::SeqCst));
    }
    let part = GnttabCopy {
        source: side(from.frame(), 0x801),
        dest: side(to.frame(), 0x13),
        len: 3,
        ..Default::default()
    };
    let before = to.byte(0x16).load(Ordering::SeqCst);
    check_eq!(ops::copy(part)?, GNTST_OKAY);
    for index in 0..3 {
        let copied = to.byte(0x13 + index).load(Ordering::SeqCst);
        check_eq!(copied, from.byte(0x801 + index).load(Ordering::SeqCst));
    }
    check_eq!(to.byte(0x16).load(Ordering::SeqCst), before);
    Ok(())
}

fn copy_grants(table: GrantTable) -> Outcome {
    let (from, to) = (SharedPage::allocate(), SharedPage::allocate());
    fill(from);
    table.give(REF, 0, from.frame(), Access::Read);
    table.give(OTHER_REF, 0, to.frame(), Access::ReadWrite);
    let copy = GnttabCopy {
        source: granted(REF, 64),
        dest: granted(OTHER_REF, 128),
        len: 512,
        flags: GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF,
        ..Default::default()
    };
    check_eq!(ops::copy(copy)?, GNTST_OKAY);
    for word in 0..64 {
        let copied = to.word64(128 + word * 8).load(Ordering::SeqCst);
        check_eq!(copied, from.word64(64 + word * 8).load(Ordering::SeqCst));
    }
    check_eq!((table.flags(REF) | table.flags(OTHER_REF)) & (GTF_READING | GTF_WRITING), 0);
    check!(table.revoke(REF));
    check!(table.revoke(OTHER_REF));
    Ok(())
}

fn bad_copies(table: GrantTable) -> Outcome {
    let (from, to) = (SharedPage::allocate(), SharedPage::allocate());
    let good = GnttabCopy {
        source: side(from.frame(), 0),
        dest: side(to.frame(), 0),
        len: 16,
        ..Default::default()
    };
    let crossing = GnttabCopy { source: side(from.frame(), 4090), ..good };
    check_eq!(ops::copy(crossing)?, GNTST_BAD_COPY_ARG);
    let crossing = GnttabCopy { dest: side(to.frame(), 4090), ..good };
    check_eq!(ops::copy(crossing)?, GNTST_BAD_COPY_ARG);
    let too_long = GnttabCopy { len: u16::MAX, ..good };
    check_eq!(ops::copy(too_long)?, GNTST_BAD_COPY_ARG);
    let source = GnttabCopyPtr { domid: NO_DOMAIN, ..good.source };
    let nobody = GnttabCopy { source, flags: GNTCOPY_SOURCE_GREF, ..good };
    check_eq!(ops::copy(nobody)?, GNTST_BAD_DOMAIN);
    let hole = GnttabCopy { source: side(hole(12), 0), ..good };
    check!(ops::copy(hole)? != GNTST_OKAY, "a hole was copied");
    let hole = GnttabCopy { dest: side(u64::MAX >> 12, 0), ..good };
    check!(ops::copy(hole)? != GNTST_OKAY, "something was copied to a hole");
    let no_ref = GnttabCopy { source: granted(u32::MAX, 0), flags: GNTCOPY_SOURCE_GREF, ..good };
    check_eq!(ops::copy(no_ref)?, GNTST_BAD_GNTREF);
    check!(table.revoke(REF));
    let empty = GnttabCopy { source: granted(REF, 0), flags: GNTCOPY_SOURCE_GREF, ..good };
    check!(ops::copy(empty)? != GNTST_OKAY, "an empty entry was copied from");
    let mut items = [good, crossing, good];
    ops::batch(GNTTABOP_COPY, &mut items)?;
    check_eq!(items.map(|item| item.status), [GNTST_OKAY, GNTST_BAD_COPY_ARG, GNTST_OKAY]);
    Ok(())
}

fn copy_read_only(table: GrantTable) -> Outcome {
    let (from, to) = (SharedPage::allocate(), SharedPage::allocate());
    fill(from);
    table.give(REF, 0, to.frame(), Access::Read);
    let copy = GnttabCopy {
        source: side(from.frame(), 0),
        dest: granted(REF, 0),
        len: 64,
        flags: GNTCOPY_DEST_GREF,
        ..Default::default()
    };
    check!(ops::copy(copy)? != GNTST_OKAY, "it was written");
    check_eq!(to.word64(8).load(Ordering::SeqCst), 0);
    check!(table.revoke(REF));
    Ok(())
}

fn refuse_transfer() -> Outcome {
    let page = SharedPage::allocate();
    let mut item = hypercall_abi::grant_table::GnttabTransfer {
        mfn: page.frame(),
        domid: 0,
        reference: REF,
        ..Default::default()
    };
    let answer =
        ops::batch(hypercall_abi::grant_table::GNTTABOP_TRANSFER, core::slice::from_mut(&mut item));
    check!(answer.is_err() || item.status != GNTST_OKAY, "a frame was transferred");
    page.word64(0).store(1, Ordering::SeqCst);
    check_eq!(page.word64(0).load(Ordering::SeqCst), 1);
    Ok(())
}

fn bad_calls() -> Outcome {
    // SAFETY: the operation does not exist.
    check_errno!(result(unsafe { raw(GRANT_TABLE_OP, [99, 0, 0, 0, 0]) }), ENOSYS);
    for operation in [0, 1, 2, 5, 6, 8, 10, 11, 12] {
        for address in [0x3f_0000_0000, 0x8000_0000_0000_0000] {
            // SAFETY: there is no memory at these addresses.
            let answer = result(unsafe { raw(GRANT_TABLE_OP, [operation, address, 1, 0, 0]) });
            check_errno!(answer, EFAULT);
        }
    }
    Ok(())
}

fn many(table: GrantTable) -> Outcome {
    let page = SharedPage::allocate();
    table.give(REF, 0, page.frame(), Access::ReadWrite);
    for round in 0..1000 {
        let at = hole(round % 16) << 12;
        let mapping = ops::map(0, REF, at, FLAGS)?;
        check_eq!(mapping.status, GNTST_OKAY);
        check_eq!(ops::unmap(mapping.handle, at)?, GNTST_OKAY);
    }
    check_eq!(table.flags(REF), GTF_PERMIT_ACCESS);
    check!(table.revoke(REF));
    Ok(())
}
