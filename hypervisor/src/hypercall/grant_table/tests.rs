//! Grants as guests reach them: statuses, limits, and that every path gives back what it took.

use super::abi;
use crate::hypercall::Outcome;
use crate::machine::GuestSpace;
use crate::testbed::{GUEST_RAM, REQUEST, Testbed};
use hv_core::addr::{Gfn, MachineAddr};
use hv_core::grant::Limits;
use hv_core::guest::{GuestMemory, Handle};
use hv_core::memory::FrameMemory;
use hv_core::p2m::Kind;
use hypercall_abi::errno::Errno;
use hypercall_abi::grant_table::{
    GnttabCacheFlush, GnttabCopy, GnttabCopyPtr, GnttabMapGrantRef, GnttabQuerySize,
    GnttabSetVersion, GnttabSetupTable, GnttabSwapGrantRef, GnttabTransfer, GnttabUnmapGrantRef,
};
use hypercall_abi::hypercall::GRANT_TABLE_OP;
use zerocopy::IntoBytes;

const SELF: u16 = 0x7ff0;
const REF: u32 = 9;
/// Guest address of Dom0's that has nothing behind it.
const WINDOW: u64 = 0x80_0000_0000 - 0x1000;

/// Makes domain 1's table and grants its page `index` to Dom0.
fn grant(bed: &Testbed, index: u64, flags: u16) {
    let entry = MachineAddr::new(entries(bed).raw() + u64::from(REF) * 8);
    bed.memory().store_u32(entry, u32::from(flags));
    let frame = u32::try_from(GUEST_RAM.number() + index).unwrap();
    bed.memory().store_u32(MachineAddr::new(entry.raw() + 4), frame);
}

fn entries(bed: &Testbed) -> MachineAddr {
    bed.hv.grant_frame(&bed.domain(1), 0).unwrap().base()
}

fn entry_flags(bed: &Testbed) -> u32 {
    bed.memory().load_u32(MachineAddr::new(entries(bed).raw() + u64::from(REF) * 8))
}

fn map(bed: &Testbed, flags: u32, reference: u32, dom: u16) -> GnttabMapGrantRef {
    let request =
        GnttabMapGrantRef { host_addr: WINDOW, flags, reference, dom, ..Default::default() };
    bed.array_op(0, GRANT_TABLE_OP, abi::GNTTABOP_MAP_GRANT_REF, &request).unwrap();
    bed.reply()
}

fn unmap(bed: &Testbed, handle: u32, host_addr: u64) -> i16 {
    let request = GnttabUnmapGrantRef { host_addr, handle, ..Default::default() };
    bed.array_op(0, GRANT_TABLE_OP, abi::GNTTABOP_UNMAP_GRANT_REF, &request).unwrap();
    bed.reply::<GnttabUnmapGrantRef>().status
}

fn mapped(bed: &Testbed) -> Option<(MachineAddr, Kind)> {
    let dom0 = bed.domain(0);
    let found = dom0.p2m.lock().lookup(bed.memory(), Gfn::new(WINDOW >> 12));
    found.map(|mapping| (mapping.mfn.base(), mapping.kind))
}

/// Says how many frames are held in all, by asking how many are free after the granter is gone.
fn nothing_is_held(bed: &Testbed) {
    assert_eq!(bed.domain(1).grants.lock().uses(), 0);
    assert_eq!(bed.domain(0).grants.lock().mappings(), 0);
    assert_eq!(mapped(bed), None);
    assert_eq!(entry_flags(bed) & 0b11000, 0);
}

#[test]
fn a_frame_is_mapped_and_unmapped() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let reply = map(&bed, abi::GNTMAP_HOST_MAP, REF, 1);
    assert_eq!((reply.status, reply.dev_bus_addr), (0, bed.page(1, 3).raw()));
    assert_eq!(mapped(&bed), Some((bed.page(1, 3), Kind::GrantRw)));
    assert_eq!(entry_flags(&bed), 0b11001);
    assert_eq!(unmap(&bed, reply.handle + 1, WINDOW), abi::GNTST_BAD_HANDLE);
    assert_eq!(unmap(&bed, reply.handle, WINDOW + 0x1000), abi::GNTST_GENERAL_ERROR);
    assert_eq!(unmap(&bed, reply.handle, 0), abi::GNTST_OKAY, "nothing is asked for");
    assert_eq!(unmap(&bed, reply.handle, WINDOW), abi::GNTST_OKAY);
    nothing_is_held(&bed);
    assert_eq!(unmap(&bed, reply.handle, WINDOW), abi::GNTST_BAD_HANDLE);
}

#[test]
fn a_read_only_mapping_stays_read_only() {
    let bed = Testbed::new();
    grant(&bed, 3, 1 | 4);
    assert_eq!(map(&bed, abi::GNTMAP_HOST_MAP, REF, 1).status, abi::GNTST_GENERAL_ERROR);
    nothing_is_held(&bed);
    let reply = map(&bed, abi::GNTMAP_HOST_MAP | abi::GNTMAP_READONLY, REF, 1);
    assert_eq!(reply.status, abi::GNTST_OKAY);
    assert_eq!(mapped(&bed).unwrap().1, Kind::GrantRo);
    assert_eq!(entry_flags(&bed), 0b01101);
}

#[test]
fn statuses_are_xens() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let host = abi::GNTMAP_HOST_MAP;
    assert_eq!(map(&bed, 0, REF, 1).status, abi::GNTST_BAD_GNTREF);
    assert_eq!(map(&bed, host | abi::GNTMAP_DEVICE_MAP, REF, 1).status, -1);
    assert_eq!(map(&bed, host | abi::GNTMAP_CONTAINS_PTE, REF, 1).status, -1);
    assert_eq!(map(&bed, host, REF, 77).status, abi::GNTST_BAD_DOMAIN);
    assert_eq!(map(&bed, host, REF, SELF).status, abi::GNTST_BAD_DOMAIN);
    assert_eq!(map(&bed, host, 512, 1).status, abi::GNTST_BAD_GNTREF);
    assert_eq!(map(&bed, host, u32::MAX, 1).status, abi::GNTST_BAD_GNTREF);
    assert_eq!(map(&bed, host, REF + 1, 1).status, abi::GNTST_GENERAL_ERROR);
    grant(&bed, 1000, 1);
    assert_eq!(map(&bed, host, REF, 1).status, abi::GNTST_BAD_PAGE);
    nothing_is_held(&bed);
}

#[test]
fn a_place_outside_the_address_space_undoes_the_claim() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let request = GnttabMapGrantRef {
        host_addr: 1 << 50,
        flags: abi::GNTMAP_HOST_MAP,
        reference: REF,
        dom: 1,
        ..Default::default()
    };
    bed.array_op(0, GRANT_TABLE_OP, abi::GNTTABOP_MAP_GRANT_REF, &request).unwrap();
    assert_eq!(bed.reply::<GnttabMapGrantRef>().status, abi::GNTST_GENERAL_ERROR);
    nothing_is_held(&bed);
}

#[test]
fn a_mapping_whose_handle_cannot_be_told_is_taken_back() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    bed.put(&GnttabMapGrantRef {
        host_addr: WINDOW,
        flags: abi::GNTMAP_HOST_MAP,
        reference: REF,
        dom: 1,
        ..Default::default()
    });
    bed.write_protect(true);
    let command = u64::from(abi::GNTTABOP_MAP_GRANT_REF);
    let outcome = bed.call(0, GRANT_TABLE_OP, [command, REQUEST, 1, 0, 0]);
    assert_eq!(outcome, Outcome::Done(Err(Errno::EFAULT)));
    nothing_is_held(&bed);
}

#[test]
fn two_guests_do_not_see_each_others_grants() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let request = GnttabMapGrantRef {
        host_addr: WINDOW,
        flags: abi::GNTMAP_HOST_MAP,
        reference: REF,
        dom: 1,
        ..Default::default()
    };
    bed.array_op(2, GRANT_TABLE_OP, abi::GNTTABOP_MAP_GRANT_REF, &request).unwrap();
    assert_eq!(bed.reply::<GnttabMapGrantRef>().status, abi::GNTST_PERMISSION_DENIED);
}

#[test]
fn a_batch_goes_on_after_an_interrupt() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let element = size_of::<GnttabMapGrantRef>() as u64;
    for index in 0..3 {
        let request = GnttabMapGrantRef {
            host_addr: WINDOW - index * 0x1000,
            flags: abi::GNTMAP_HOST_MAP,
            reference: REF,
            dom: 1,
            status: 99,
            ..Default::default()
        };
        bed.guest.write(REQUEST + index * element, request.as_bytes()).unwrap();
    }
    bed.interrupt(true);
    let first = bed.call(0, GRANT_TABLE_OP, [0, REQUEST, 3, 0, 0]);
    assert_eq!(first, Outcome::Again([0, REQUEST + element, 2, 0, 0]));
    bed.interrupt(false);
    let rest = bed.call(0, GRANT_TABLE_OP, [0, REQUEST + element, 2, 0, 0]);
    assert_eq!(rest, Outcome::Done(Ok(0)));
    let handle = Handle::<GnttabMapGrantRef>::from_register(REQUEST);
    let mut handles: Vec<u32> = (0..3)
        .map(|index| {
            let reply = handle.element(index).load(&bed.guest).unwrap();
            assert_eq!(reply.status, 0);
            reply.handle
        })
        .collect();
    handles.dedup();
    assert_eq!(handles.len(), 3);
    assert_eq!(bed.domain(1).grants.lock().uses(), 3);
}

#[test]
fn counts_commands_and_pointers_are_checked() {
    let bed = Testbed::new();
    let call = |arguments| match bed.call(1, GRANT_TABLE_OP, arguments) {
        Outcome::Done(result) => result,
        Outcome::Again(_) => panic!("nothing interrupts"),
    };
    assert_eq!(call([0, REQUEST, 1 << 31, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(call([0x1000, REQUEST, 1, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(call([3, REQUEST, 1, 0, 0]), Err(Errno::ENOSYS));
    assert_eq!(call([99, REQUEST, 1, 0, 0]), Err(Errno::ENOSYS));
    for command in [0, 1, 4, 5, 7, 11, 12] {
        assert_eq!(call([command, 0, 0, 0, 0]), Ok(0), "an empty array is fine: {command}");
        assert_eq!(call([command, 0, 1, 0, 0]), Err(Errno::EFAULT), "command {command}");
    }
    for command in [2, 6, 9] {
        assert_eq!(call([command, REQUEST, 2, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(call([command, 0, 1, 0, 0]), Err(Errno::EFAULT));
    }
}

#[test]
fn the_table_tells_its_size_and_version() {
    let bed = Testbed::new();
    let query = |caller, dom| {
        let request = GnttabQuerySize { dom, ..Default::default() };
        bed.array_op(caller, GRANT_TABLE_OP, abi::GNTTABOP_QUERY_SIZE, &request).unwrap();
        bed.reply::<GnttabQuerySize>()
    };
    let own = query(1, SELF);
    assert_eq!((own.status, own.nr_frames, own.max_nr_frames), (0, 1, 64));
    assert_eq!(query(1, 2).status, abi::GNTST_PERMISSION_DENIED);
    assert_eq!(query(1, 50).status, abi::GNTST_BAD_DOMAIN);
    assert_eq!(query(0, 1).status, abi::GNTST_OKAY);
    let version = |version| {
        let request = GnttabSetVersion { version };
        bed.array_op(1, GRANT_TABLE_OP, abi::GNTTABOP_SET_VERSION, &request)
    };
    assert_eq!(version(1), Ok(0));
    assert_eq!(version(2), Err(Errno::ENOSYS));
    assert_eq!(bed.reply::<GnttabSetVersion>().version, 1);
    assert_eq!(version(3), Err(Errno::EINVAL));
}

#[test]
fn setting_up_grows_the_table_to_its_limit() {
    let bed = Testbed::new();
    let list = REQUEST + 0x400;
    let setup = |nr_frames, frame_list| {
        let request = GnttabSetupTable { dom: SELF, nr_frames, frame_list, ..Default::default() };
        bed.array_op(1, GRANT_TABLE_OP, abi::GNTTABOP_SETUP_TABLE, &request).unwrap();
        bed.reply::<GnttabSetupTable>().status
    };
    assert_eq!(setup(4, list), abi::GNTST_OKAY);
    assert_eq!(bed.domain(1).grants.lock().frames().len(), 4);
    let place = Handle::<u64>::from_register(list).load(&bed.guest).unwrap();
    assert_eq!(place, u64::MAX, "it is mapped nowhere yet");
    assert_eq!(setup(65, list), abi::GNTST_GENERAL_ERROR);
    assert_eq!(setup(2, 8), abi::GNTST_BAD_VIRT_ADDR);
}

fn copy_request(source: u32, own: u64) -> GnttabCopy {
    GnttabCopy {
        source: GnttabCopyPtr { frame_or_ref: source.into(), domid: 1, offset: 8, pad: 0 },
        dest: GnttabCopyPtr { frame_or_ref: own, domid: SELF, offset: 100, pad: 0 },
        len: 16,
        flags: abi::GNTCOPY_SOURCE_GREF,
        ..Default::default()
    }
}

fn copy(bed: &Testbed, request: &GnttabCopy) -> i16 {
    bed.array_op(0, GRANT_TABLE_OP, abi::GNTTABOP_COPY, request).unwrap();
    let status = bed.reply::<GnttabCopy>().status;
    assert_eq!(bed.domain(1).grants.lock().uses(), 0, "a copy leaves no use behind");
    status
}

#[test]
fn bytes_are_copied_out_of_a_granted_frame_and_into_one() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let from = MachineAddr::new(bed.page(1, 3).raw() + 8);
    let own = MachineAddr::new(bed.page(0, 5).raw() + 100);
    bed.memory().write(from, b"sixteen bytes ok");
    let request = copy_request(REF, GUEST_RAM.number() + 5);
    assert_eq!(copy(&bed, &request), abi::GNTST_OKAY);
    let mut bytes = [0; 16];
    bed.memory().read(own, &mut bytes);
    assert_eq!(&bytes, b"sixteen bytes ok");
    bed.memory().write(own, b"and back they go");
    let back = GnttabCopy {
        source: request.dest,
        dest: request.source,
        flags: abi::GNTCOPY_DEST_GREF,
        ..request
    };
    assert_eq!(copy(&bed, &back), abi::GNTST_OKAY);
    bed.memory().read(from, &mut bytes);
    assert_eq!(&bytes, b"and back they go");
    grant(&bed, 3, 1 | 4);
    assert_eq!(copy(&bed, &back), abi::GNTST_GENERAL_ERROR, "it is read-only now");
}

#[test]
fn copies_that_may_not_be_are_refused() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let good = copy_request(REF, GUEST_RAM.number() + 5);
    assert_eq!(copy(&bed, &GnttabCopy { len: 0, flags: 0, ..good }), abi::GNTST_OKAY);
    assert_eq!(copy(&bed, &GnttabCopy { flags: 0, ..good }), abi::GNTST_PERMISSION_DENIED);
    assert_eq!(copy(&bed, &GnttabCopy { len: 4090, ..good }), abi::GNTST_BAD_COPY_ARG);
    assert_eq!(copy(&bed, &GnttabCopy { len: u16::MAX, ..good }), abi::GNTST_BAD_COPY_ARG);
    assert_eq!(copy(&bed, &copy_request(600, GUEST_RAM.number())), abi::GNTST_BAD_GNTREF);
    assert_eq!(copy(&bed, &copy_request(REF, 3)), abi::GNTST_BAD_PAGE);
    let nobody = GnttabCopyPtr { domid: 50, ..good.source };
    assert_eq!(copy(&bed, &GnttabCopy { source: nobody, ..good }), abi::GNTST_BAD_DOMAIN);
    assert_eq!(entry_flags(&bed), 1);
}

#[test]
fn a_copy_within_one_page_moves_the_bytes_whichever_way_they_overlap() {
    let bed = Testbed::new();
    let own = GUEST_RAM.number() + 5;
    let pattern: Vec<u8> = (0..=255).cycle().take(1000).collect();
    for (from, to) in [(0_u16, 100_u16), (100, 0), (7, 8)] {
        let at = |offset: u16| MachineAddr::new(bed.page(0, 5).raw() + u64::from(offset));
        bed.memory().write(at(from), &pattern);
        let side = |offset| GnttabCopyPtr { frame_or_ref: own, domid: SELF, offset, pad: 0 };
        let request = GnttabCopy {
            source: side(from),
            dest: side(to),
            len: 1000,
            flags: 0,
            ..Default::default()
        };
        assert_eq!(copy(&bed, &request), abi::GNTST_OKAY);
        let mut bytes = vec![0; 1000];
        bed.memory().read(at(to), &mut bytes);
        assert_eq!(bytes, pattern);
    }
}

#[test]
fn caches_are_flushed_for_frames_one_owns_or_has_mapped() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let flush = |caller, at: MachineAddr, offset, length, op| {
        let request = GnttabCacheFlush { dev_bus_addr: at.raw(), offset, length, op };
        bed.array_op(caller, GRANT_TABLE_OP, abi::GNTTABOP_CACHE_FLUSH, &request)
    };
    let theirs = bed.page(1, 3);
    assert_eq!(flush(0, MachineAddr::new(0), 0, 0, 0), Ok(0), "Linux asks so to see if it works");
    assert_eq!(flush(1, theirs, 0, 4096, 3), Ok(0));
    assert_eq!(flush(0, theirs, 0, 64, 1), Err(Errno::EINVAL), "not mapped yet");
    assert_eq!(map(&bed, abi::GNTMAP_HOST_MAP, REF, 1).status, 0);
    assert_eq!(flush(0, theirs, 0, 64, 1), Ok(0));
    assert_eq!(flush(0, theirs, 64, 4096, 1), Err(Errno::EINVAL));
    assert_eq!(flush(0, theirs, 4096, 0, 1), Err(Errno::EINVAL));
    assert_eq!(flush(0, theirs, 0, 64, 4), Err(Errno::EINVAL));
    assert_eq!(flush(0, MachineAddr::new(0x1000), 0, 64, 1), Err(Errno::EINVAL));
    let table = bed.domain(1).p2m.lock().root().base();
    assert_eq!(flush(0, table, 0, 64, 1), Err(Errno::EPERM), "the hypervisor's own");
}

#[test]
fn entries_are_swapped_and_transfers_refused() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let swap = |ref_a, ref_b| {
        let request = GnttabSwapGrantRef { ref_a, ref_b, ..Default::default() };
        bed.array_op(1, GRANT_TABLE_OP, abi::GNTTABOP_SWAP_GRANT_REF, &request).unwrap();
        bed.reply::<GnttabSwapGrantRef>().status
    };
    assert_eq!(swap(REF, 20), abi::GNTST_OKAY);
    assert_eq!(entry_flags(&bed), 0);
    assert_eq!(swap(20, REF), abi::GNTST_OKAY);
    assert_eq!(swap(REF, 512), abi::GNTST_BAD_GNTREF);
    assert_eq!(map(&bed, abi::GNTMAP_HOST_MAP, REF, 1).status, 0);
    assert_eq!(swap(20, REF), abi::GNTST_EAGAIN);
    let transfer = |mfn| {
        let request = GnttabTransfer { mfn, domid: 2, ..Default::default() };
        bed.array_op(1, GRANT_TABLE_OP, abi::GNTTABOP_TRANSFER, &request).unwrap();
        bed.reply::<GnttabTransfer>().status
    };
    assert_eq!(transfer(GUEST_RAM.number()), abi::GNTST_GENERAL_ERROR);
    assert_eq!(transfer(3), abi::GNTST_BAD_PAGE);
}

#[test]
fn a_mapping_over_another_gives_the_others_handle_back() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    let first = map(&bed, abi::GNTMAP_HOST_MAP, REF, 1);
    // More often than there are handles: each takes the place of the one before.
    for _ in 0..5000 {
        assert_eq!(map(&bed, abi::GNTMAP_HOST_MAP, REF, 1).status, abi::GNTST_OKAY);
        assert_eq!(bed.domain(1).grants.lock().uses(), 1);
    }
    assert_eq!(bed.domain(0).grants.lock().mappings(), 1);
    assert_eq!(unmap(&bed, first.handle, WINDOW), abi::GNTST_OKAY, "it was given out again");
    nothing_is_held(&bed);
}

#[test]
fn a_read_only_mapping_takes_the_place_of_one_that_could_be_written() {
    let bed = Testbed::new();
    grant(&bed, 3, 1);
    assert_eq!(map(&bed, abi::GNTMAP_HOST_MAP, REF, 1).status, abi::GNTST_OKAY);
    let flags = abi::GNTMAP_HOST_MAP | abi::GNTMAP_READONLY;
    let second = map(&bed, flags, REF, 1);
    assert_eq!(mapped(&bed).unwrap().1, Kind::GrantRo);
    assert_eq!(entry_flags(&bed), 0b01001, "nobody writes any more");
    assert_eq!(unmap(&bed, second.handle, WINDOW), abi::GNTST_OKAY);
    nothing_is_held(&bed);
}

#[test]
fn what_a_guest_may_have_is_there_whatever_others_took() {
    let bed = Testbed::new();
    while bed.hv.frames.lock().alloc_hypervisor(0).is_ok() {}
    assert_eq!(bed.hv.frames.lock().available(), 0);
    for guest in [1, 2] {
        let frame_list = GuestSpace::BASE + 0x1000;
        let request =
            GnttabSetupTable { dom: SELF, nr_frames: 64, frame_list, ..Default::default() };
        bed.array_op(guest, GRANT_TABLE_OP, abi::GNTTABOP_SETUP_TABLE, &request).unwrap();
        assert_eq!(bed.reply::<GnttabSetupTable>().status, abi::GNTST_OKAY);
        let domain = bed.domain(guest);
        for _ in 0..Limits::GUEST.maptrack_frames {
            let frame = bed.hv.frames.lock().alloc_for_grants(domain.id).unwrap().first;
            domain.grants.lock().add_handles(bed.memory().own(frame));
        }
        assert!(bed.hv.frames.lock().alloc_for_grants(domain.id).is_err(), "that was all");
    }
}
