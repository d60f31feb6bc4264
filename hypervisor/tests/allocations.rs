//! What a hypercall makes the hypervisor allocate.
//!
//! A guest's calls allocate nothing: they are made while not a byte of heap can be had, and must answer
//! as they do with plenty. Dom0's may allocate: each is made with no heap to spare and then with ever
//! more, so that each of its allocations fails once. Until there is enough it must answer `ENOMEM` and
//! leave frames and heap as they were. An allocation that cannot fail ends the test's process.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use cap::Cap;
use core::sync::atomic::{AtomicUsize, Ordering};
use hv_core::addr::MachineAddr;
use hv_core::guest::GuestMemory;
use hv_core::ids::DomId;
use hv_core::memory::FrameMemory;
use hypercall_abi::domctl::{
    self, CreateDomain, Domctl, IomemPermission, MaxVcpus, MemoryMapping, PagingMempool,
    SchedCredit, SchedulerOp,
};
use hypercall_abi::errno::Errno;
use hypercall_abi::event_channel::{
    self as evtchn, EvtchnAllocUnbound, EvtchnBindIpi, EvtchnBindVcpu, EvtchnBindVirq, EvtchnClose,
    EvtchnExpandArray, EvtchnInitControl, EvtchnReset, EvtchnSend, EvtchnSetPriority, EvtchnStatus,
    EvtchnUnmask,
};
use hypercall_abi::grant_table::{
    self as grant, GnttabCacheFlush, GnttabCopy, GnttabCopyPtr, GnttabMapGrantRef, GnttabQuerySize,
    GnttabSetupTable, GnttabSwapGrantRef, GnttabUnmapGrantRef,
};
use hypercall_abi::hvm::{self, HvmParam};
use hypercall_abi::hypercall::{
    CONSOLE_IO, DOMCTL, EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, HYPFS_OP, MEMORY_OP, MULTICALL,
    PLATFORM_OP, SCHED_OP, SYSCTL, VCPU_OP, VM_ASSIST, XEN_VERSION,
};
use hypercall_abi::memory::{self as physmap, AddToPhysmap, MemoryReservation, RemoveFromPhysmap};
use hypercall_abi::platform::{PlatformOp, SetTime64, XENPF_INTERFACE_VERSION, XENPF_SETTIME64};
use hypercall_abi::sched::{self, SchedPoll, SchedShutdown, SchedWatchdog};
use hypercall_abi::sysctl::{self, CpupoolOp, DebugKeys, GetDomainInfoList, Sysctl};
use hypercall_abi::vcpu::{self, VcpuRegisterVcpuInfo};
use hypervisor::hypercall::Outcome;
use hypervisor::testbed::{GUEST_RAM, REQUEST, Testbed};
use std::alloc::System;
use zerocopy::IntoBytes;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Where requests keep what they point to.
const BUFFER: u64 = REQUEST + 0x400;
const SELF: u16 = 0x7ff0;
/// A page of each domain's that nothing else is done with, and what lies past its memory.
const PAGE: u64 = GUEST_RAM.number() + 20;
const HOLE: u64 = GUEST_RAM.number() + 0x1000;
/// The grant of domain 1 for itself, and the one for Dom0.
const OWN: u32 = 9;
const FOR_DOM0: u32 = 10;

/// A call that is made while the heap is short.
struct Call {
    name: &'static str,
    make: fn(&Testbed) -> Answer,
}

/// What a call came to: its result, and what it wrote of the reply.
type Answer = (Outcome, [u64; 8]);

/// Makes a call with `heap` bytes to spare; returns the answer, and how many bytes are taken more.
fn make(bed: &Testbed, call: &Call, heap: usize) -> (Answer, isize) {
    bed.hv.machine.stock();
    let before = HEAP.allocated();
    HEAP.set_limit(before.saturating_add(heap)).unwrap();
    let answer = (call.make)(bed);
    HEAP.set_limit(usize::MAX).unwrap();
    (answer, HEAP.allocated().cast_signed() - before.cast_signed())
}

fn reply(bed: &Testbed, outcome: Outcome) -> Answer {
    let mut words = [0; 8];
    bed.guest.read(REQUEST, words.as_mut_bytes()).unwrap();
    (outcome, words)
}

fn op<T: IntoBytes + zerocopy::Immutable>(
    bed: &Testbed,
    domain: u16,
    number: u64,
    command: u64,
    request: &T,
) -> Answer {
    bed.put(request);
    let outcome = bed.call(domain, number, [command, REQUEST, 1, 0, 0]);
    reply(bed, outcome)
}

fn event<T: IntoBytes + zerocopy::Immutable>(bed: &Testbed, command: u32, request: &T) -> Answer {
    op(bed, 1, EVENT_CHANNEL_OP, command.into(), request)
}

fn granted<T: IntoBytes + zerocopy::Immutable>(bed: &Testbed, command: u32, request: &T) -> Answer {
    op(bed, 1, GRANT_TABLE_OP, command.into(), request)
}

/// Sets the guest's first entries: one for itself and one for Dom0.
fn write_entries(bed: &Testbed) {
    let table = bed.domain(1).grants.lock().frames().first().copied().unwrap();
    for (reference, dom) in [(OWN, 1_u64), (FOR_DOM0, 0)] {
        let entry = MachineAddr::new(table.base().raw() + u64::from(reference) * 8);
        bed.memory().store_u64(entry, 1 | dom << 16 | (PAGE + 1) << 32);
    }
}

fn map_own(bed: &Testbed, gfn: u64) -> Answer {
    let host_addr = gfn << 12;
    let flags = grant::GNTMAP_HOST_MAP;
    let map = GnttabMapGrantRef { host_addr, flags, reference: OWN, dom: 1, ..Default::default() };
    granted(bed, grant::GNTTABOP_MAP_GRANT_REF, &map)
}

fn copy_own(bed: &Testbed, reference: u32) -> Answer {
    let copy = GnttabCopy {
        source: GnttabCopyPtr { frame_or_ref: reference.into(), domid: SELF, ..Default::default() },
        dest: GnttabCopyPtr { frame_or_ref: PAGE, domid: SELF, ..Default::default() },
        len: 64,
        flags: grant::GNTCOPY_SOURCE_GREF,
        ..Default::default()
    };
    granted(bed, grant::GNTTABOP_COPY, &copy)
}

fn reservation(bed: &Testbed, command: u64, gfn: u64) -> Answer {
    bed.guest.write(BUFFER, gfn.as_bytes()).unwrap();
    let request = MemoryReservation {
        extent_start: BUFFER,
        nr_extents: 1,
        domid: SELF,
        ..Default::default()
    };
    op(bed, 1, MEMORY_OP, command, &request)
}

fn add(bed: &Testbed, space: u16, idx: u64, gpfn: u64) -> Answer {
    let request =
        AddToPhysmap { domid: SELF, space: space.into(), idx, gpfn, ..Default::default() };
    op(bed, 1, MEMORY_OP, physmap::ADD_TO_PHYSMAP, &request)
}

macro_rules! calls {
    ($($name:literal => $make:expr,)*) => { &[$(Call { name: $name, make: $make },)*] };
}

/// What a guest does, in the order in which each of these finds something to do.
const GUEST: &[Call] = calls! {
    "alloc_unbound" => |bed| event(bed, evtchn::EVTCHNOP_ALLOC_UNBOUND,
        &EvtchnAllocUnbound { dom: SELF, remote_dom: 0, port: 0 }),
    "bind_virq" => |bed| event(bed, evtchn::EVTCHNOP_BIND_VIRQ, &EvtchnBindVirq::default()),
    "every port there is" => |bed| loop {
        let answer = event(bed, evtchn::EVTCHNOP_BIND_IPI, &EvtchnBindIpi::default());
        if answer.0 != Outcome::Done(Ok(0)) {
            return answer;
        }
    },
    "bind_vcpu" => |bed| event(bed, evtchn::EVTCHNOP_BIND_VCPU, &EvtchnBindVcpu { port: 1, vcpu: 1 }),
    "send" => |bed| event(bed, evtchn::EVTCHNOP_SEND, &EvtchnSend { port: 9 }),
    "unmask" => |bed| event(bed, evtchn::EVTCHNOP_UNMASK, &EvtchnUnmask { port: 9 }),
    "status" => |bed| event(bed, evtchn::EVTCHNOP_STATUS,
        &EvtchnStatus { dom: SELF, port: 9, ..Default::default() }),
    "init_control" => |bed| event(bed, evtchn::EVTCHNOP_INIT_CONTROL,
        &EvtchnInitControl { control_gfn: PAGE + 2, ..Default::default() }),
    "expand_array" => |bed| event(bed, evtchn::EVTCHNOP_EXPAND_ARRAY,
        &EvtchnExpandArray { array_gfn: PAGE + 3 }),
    "set_priority" => |bed| event(bed, evtchn::EVTCHNOP_SET_PRIORITY,
        &EvtchnSetPriority { port: 9, priority: 1 }),
    "the whole event array" => |bed| loop {
        let array = EvtchnExpandArray { array_gfn: PAGE + 3 };
        let answer = event(bed, evtchn::EVTCHNOP_EXPAND_ARRAY, &array);
        if answer.0 != Outcome::Done(Ok(0)) {
            return answer;
        }
    },
    "close" => |bed| event(bed, evtchn::EVTCHNOP_CLOSE, &EvtchnClose { port: 700 }),
    "a port behind linked words" => |bed| {
        let words = bed.page(1, 23);
        for port in 600..1024 {
            bed.memory().store_u32(MachineAddr::new(words.raw() + port * 4), 1 << 29);
        }
        event(bed, evtchn::EVTCHNOP_BIND_IPI, &EvtchnBindIpi::default())
    },
    "reset" => |bed| event(bed, evtchn::EVTCHNOP_RESET, &EvtchnReset { dom: SELF }),
    "bind_ipi after a reset" => |bed| event(bed, evtchn::EVTCHNOP_BIND_IPI, &EvtchnBindIpi::default()),
    "setup_table" => |bed| granted(bed, grant::GNTTABOP_SETUP_TABLE,
        &GnttabSetupTable { dom: SELF, nr_frames: 64, frame_list: BUFFER, ..Default::default() }),
    "copy" => |bed| {
        write_entries(bed);
        copy_own(bed, OWN)
    },
    "a copy from each group of grants" => |bed| {
        (0..512).map(|group| copy_own(bed, group * 64)).last().unwrap()
    },
    "map" => |bed| map_own(bed, HOLE),
    "map over it" => |bed| map_own(bed, HOLE),
    "every handle there is" => |bed| {
        (0..8192).map(|past| map_own(bed, HOLE + past % 4096)).last().unwrap()
    },
    "unmap" => |bed| granted(bed, grant::GNTTABOP_UNMAP_GRANT_REF,
        &GnttabUnmapGrantRef { host_addr: (HOLE + 1) << 12, handle: 1, ..Default::default() }),
    "swap" => |bed| granted(bed, grant::GNTTABOP_SWAP_GRANT_REF, &GnttabSwapGrantRef { ref_a: 20, ref_b: 21, ..Default::default() }),
    "query_size" => |bed| granted(bed, grant::GNTTABOP_QUERY_SIZE,
        &GnttabQuerySize { dom: SELF, ..Default::default() }),
    "cache_flush" => |bed| granted(bed, grant::GNTTABOP_CACHE_FLUSH, &GnttabCacheFlush {
        dev_bus_addr: bed.page(1, 5).raw(), length: 64, op: grant::GNTTAB_CACHE_CLEAN, ..Default::default() }),
    "decrease_reservation" => |bed| reservation(bed, physmap::DECREASE_RESERVATION, PAGE + 10),
    "populate_physmap" => |bed| reservation(bed, physmap::POPULATE_PHYSMAP, PAGE + 10),
    "populate_physmap far away" => |bed| {
        (0..64).map(|index| reservation(bed, physmap::POPULATE_PHYSMAP, index << 18 | 7)).last().unwrap()
    },
    "shared_info" => |bed| add(bed, physmap::SPACE_SHARED_INFO, 0, PAGE + 12),
    "grant frame" => |bed| add(bed, physmap::SPACE_GRANT_TABLE, 3, HOLE + 0x2000),
    "remove_from_physmap" => |bed| op(bed, 1, MEMORY_OP, physmap::REMOVE_FROM_PHYSMAP,
        &RemoveFromPhysmap { domid: SELF, gpfn: PAGE + 12, ..Default::default() }),
    "register_vcpu_info" => |bed| {
        bed.put(&VcpuRegisterVcpuInfo { mfn: PAGE + 13, ..Default::default() });
        let number = vcpu::VCPUOP_REGISTER_VCPU_INFO;
        reply(bed, bed.call(1, VCPU_OP, [number.into(), 1, REQUEST, 0, 0]))
    },
    "runstate area" => |bed| {
        bed.put(&(BUFFER + 0x100));
        let number = vcpu::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA;
        reply(bed, bed.call(1, VCPU_OP, [number.into(), 0, REQUEST, 0, 0]))
    },
    "get_runstate_info" => |bed| {
        let number = vcpu::VCPUOP_GET_RUNSTATE_INFO;
        reply(bed, bed.call(1, VCPU_OP, [number.into(), 0, REQUEST, 0, 0]))
    },
    "poll" => |bed| {
        bed.guest.write(BUFFER, 1_u32.as_bytes()).unwrap();
        op(bed, 1, SCHED_OP, sched::SCHEDOP_POLL.into(),
            &SchedPoll { ports: BUFFER, nr_ports: 1, timeout: 1 << 40, ..Default::default() })
    },
    "watchdog" => |bed| op(bed, 1, SCHED_OP, sched::SCHEDOP_WATCHDOG.into(), &SchedWatchdog { id: 0, timeout: 9 }),
    "another watchdog" => |bed| op(bed, 1, SCHED_OP, sched::SCHEDOP_WATCHDOG.into(), &SchedWatchdog { id: 0, timeout: 9 }),
    "yield" => |bed| reply(bed, bed.call(1, SCHED_OP, [sched::SCHEDOP_YIELD.into(), 0, 0, 0, 0])),
    "set_param" => |bed| op(bed, 1, HVM_OP, hvm::HVMOP_SET_PARAM.into(),
        &HvmParam { domid: SELF, index: hvm::HVM_PARAM_CALLBACK_IRQ, value: 1 << 56, ..Default::default() }),
    "console write" => |bed| {
        bed.guest.write(BUFFER, b"hello\n").unwrap();
        reply(bed, bed.call(1, CONSOLE_IO, [0, 6, BUFFER, 0, 0]))
    },
    "extraversion" => |bed| reply(bed, bed.call(1, XEN_VERSION, [1, REQUEST, 0, 0, 0])),
    "vm_assist" => |bed| reply(bed, bed.call(1, VM_ASSIST, [0, 5, 0, 0, 0])),
    "multicall" => |bed| {
        bed.put(&[XEN_VERSION, 0, 0, 0, 0, 0, 0, 0]);
        reply(bed, bed.call(1, MULTICALL, [REQUEST, 1, 0, 0, 0]))
    },
    "a domctl" => |bed| {
        bed.put(&Domctl::new(domctl::XEN_DOMCTL_GETDOMAININFO, 1));
        reply(bed, bed.call(1, DOMCTL, [REQUEST, 0, 0, 0, 0]))
    },
    "a sysctl" => |bed| {
        bed.put(&Sysctl::new(sysctl::XEN_SYSCTL_GETDOMAININFOLIST));
        reply(bed, bed.call(1, SYSCTL, [REQUEST, 0, 0, 0, 0]))
    },
    "shutdown" => |bed| op(bed, 1, SCHED_OP, sched::SCHEDOP_SHUTDOWN.into(),
        &SchedShutdown { reason: sched::SHUTDOWN_CRASH }),
};

fn control<T: IntoBytes + zerocopy::Immutable>(
    bed: &Testbed,
    command: u32,
    dom: u16,
    payload: &T,
) -> Answer {
    bed.put(&Domctl::with(command, dom, payload));
    reply(bed, bed.call(0, DOMCTL, [REQUEST, 0, 0, 0, 0]))
}

fn system<T: IntoBytes + zerocopy::Immutable>(bed: &Testbed, command: u32, payload: &T) -> Answer {
    bed.put(&Sysctl::with(command, payload));
    reply(bed, bed.call(0, SYSCTL, [REQUEST, 0, 0, 0, 0]))
}

fn create(bed: &Testbed, dom: u16, max_vcpus: u32, max_evtchn_port: u32, frames: i32) -> Answer {
    let wanted = CreateDomain {
        flags: domctl::XEN_DOMCTL_CDF_HVM | domctl::XEN_DOMCTL_CDF_HAP,
        max_vcpus,
        max_evtchn_port,
        max_grant_frames: frames,
        max_maptrack_frames: -1,
        grant_opts: 1,
        ..CreateDomain::default()
    };
    control(bed, domctl::XEN_DOMCTL_CREATEDOMAIN, dom, &wanted)
}

fn pool(bed: &Testbed, op: u32, pool: u32, domid: u32, cpu: u32) -> Answer {
    let sched_id = domctl::XEN_SCHEDULER_CREDIT2;
    let wanted = CpupoolOp { op, cpupool_id: pool, sched_id, domid, cpu, ..CpupoolOp::default() };
    system(bed, sysctl::XEN_SYSCTL_CPUPOOL_OP, &wanted)
}

/// What Dom0 does.
const DOM0: &[Call] = calls! {
    "create" => |bed| create(bed, 5, 2, 1023, -1),
    "create with many of everything" => |bed| create(bed, 6, 128, 131_071, 256),
    "vcpus" => |bed| control(bed, domctl::XEN_DOMCTL_MAX_VCPUS, 5, &MaxVcpus { max: 2 }),
    "many vcpus" => |bed| control(bed, domctl::XEN_DOMCTL_MAX_VCPUS, 6, &MaxVcpus { max: 128 }),
    "set pool" => |bed| control(bed, domctl::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, 5, &PagingMempool { size: 1 << 20 }),
    "a range of devices" => |bed| {
        let permission = IomemPermission { first_mfn: 40, nr_mfns: 2, allow_access: 1, ..Default::default() };
        control(bed, domctl::XEN_DOMCTL_IOMEM_PERMISSION, 5, &permission)
    },
    "a hole in it" => |bed| {
        let permission = IomemPermission { first_mfn: 41, nr_mfns: 1, ..Default::default() };
        control(bed, domctl::XEN_DOMCTL_IOMEM_PERMISSION, 5, &permission)
    },
    "map a device" => |bed| {
        let mapping = MemoryMapping { first_gfn: 0x9_0000, first_mfn: 40, nr_mfns: 1, add_mapping: 1, ..Default::default() };
        control(bed, domctl::XEN_DOMCTL_MEMORY_MAPPING, 5, &mapping)
    },
    "weights" => |bed| {
        let credit = SchedCredit { weight: 512, cap: 50 };
        let wanted = SchedulerOp { sched_id: domctl::XEN_SCHEDULER_CREDIT2, cmd: 0, credit, rest: [0; 12] };
        control(bed, domctl::XEN_DOMCTL_SCHEDULER_OP, 5, &wanted)
    },
    "list" => |bed| {
        let list = GetDomainInfoList { max_domains: 8, buffer: BUFFER, ..Default::default() };
        system(bed, sysctl::XEN_SYSCTL_GETDOMAININFOLIST, &list)
    },
    "create a pool" => |bed| pool(bed, sysctl::XEN_SYSCTL_CPUPOOL_OP_CREATE, 4, 0, 0),
    "take a processor" => |bed| pool(bed, sysctl::XEN_SYSCTL_CPUPOOL_OP_RMCPU, 0, 0, 1),
    "give it" => |bed| pool(bed, sysctl::XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 4, 0, 1),
    "move a domain" => |bed| pool(bed, sysctl::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 4, 5, 0),
    "describe a pool" => |bed| pool(bed, sysctl::XEN_SYSCTL_CPUPOOL_OP_INFO, 4, 0, 0),
    "hypfs" => |bed| {
        bed.guest.write(BUFFER, b"/\0").unwrap();
        reply(bed, bed.call(0, HYPFS_OP, [1, BUFFER, 2, BUFFER + 0x400, 0x800]))
    },
    "time of day" => |bed| {
        let mut payload = [0; 128];
        let time = SetTime64 { secs: 9, ..SetTime64::default() };
        payload[..24].copy_from_slice(time.as_bytes());
        bed.put(&PlatformOp { cmd: XENPF_SETTIME64, interface_version: XENPF_INTERFACE_VERSION, payload });
        reply(bed, bed.call(0, PLATFORM_OP, [REQUEST, 0, 0, 0, 0]))
    },
    "every debug key but the one that restarts" => |bed| {
        bed.guest.write(BUFFER, b"hqrmegia").unwrap();
        system(bed, sysctl::XEN_SYSCTL_DEBUG_KEYS, &DebugKeys { keys: BUFFER, nr_keys: 8, ..Default::default() })
    },
    "six thousand ports of its own" => |bed| {
        let mut answer = None;
        for _ in 0..6000 {
            let request = EvtchnAllocUnbound { dom: SELF, remote_dom: 1, port: 0 };
            let made = op(bed, 0, EVENT_CHANNEL_OP, evtchn::EVTCHNOP_ALLOC_UNBOUND.into(), &request);
            let refused = made.0 != Outcome::Done(Ok(0));
            answer = Some(made);
            if refused {
                break;
            }
        }
        if answer.as_ref().is_some_and(|answer| answer.0 != Outcome::Done(Ok(0))) {
            bed.put(&EvtchnReset { dom: SELF });
            assert_eq!(bed.call(0, EVENT_CHANNEL_OP, [10, REQUEST, 0, 0, 0]), Outcome::Done(Ok(0)));
        }
        answer.unwrap()
    },
    "destroy" => |bed| control(bed, domctl::XEN_DOMCTL_DESTROYDOMAIN, 5, &[0_u8; 8]),
    "destroy the large one" => |bed| control(bed, domctl::XEN_DOMCTL_DESTROYDOMAIN, 6, &[0_u8; 8]),
};

/// Frames that are free and set aside, for a call that was refused to leave as they were.
fn frames(bed: &Testbed) -> (u64, u64) {
    let frames = bed.hv.frames.lock();
    (frames.free(), frames.set_aside())
}

fn guests_calls_answer_the_same_without_any_heap() {
    let (plenty, none) = (Testbed::new(), Testbed::new());
    for call in GUEST {
        println!("guest: {}", call.name);
        let (expected, _) = make(&plenty, call, usize::MAX);
        let (answer, more) = make(&none, call, 0);
        assert_eq!(answer, expected, "{}", call.name);
        assert!(more <= 0, "{} took {more} bytes of heap", call.name);
    }
    // It went to its limits, and what was set aside for it was just enough.
    let account = none.hv.frames.lock().account(DomId(1)).unwrap();
    assert_eq!((account.grants, none.domain(1).grants.lock().frames().len()), (0, 64));
}

fn dom0s_calls_are_refused_until_there_is_enough_heap() {
    let (plenty, scarce) = (Testbed::new(), Testbed::new());
    for bed in [&plenty, &scarce] {
        bed.domain(0).devices.lock().insert(0..1000);
    }
    let refusals = AtomicUsize::new(0);
    for call in DOM0 {
        println!("Dom0: {}", call.name);
        let (expected, taken) = make(&plenty, call, usize::MAX);
        let mut heap = 0;
        loop {
            let before = frames(&scarce);
            let (answer, more) = make(&scarce, call, heap);
            if answer.0 == expected.0 {
                assert_eq!(answer.1, expected.1, "{}", call.name);
                assert!(more <= taken.max(0) + 1024, "{}: {more} and not {taken}", call.name);
                break;
            }
            let name = call.name;
            assert_eq!(answer.0, Errno::ENOMEM.into(), "{name} with {heap} bytes");
            assert_eq!(frames(&scarce), before, "{name} with {heap} bytes leaks frames");
            // The room that lists were given stays with them.
            assert!(more <= 1 << 18, "{name} with {heap} bytes leaks {more}");
            refusals.fetch_add(1, Ordering::Relaxed);
            heap += (heap / 64).max(16) / 16 * 16;
        }
    }
    let refusals = refusals.into_inner();
    assert!(refusals > 1000, "only {refusals} calls were refused");
    assert_eq!(frames(&scarce), frames(&plenty));
}

/// One test, since the heap is everybody's in this process.
#[test]
fn no_call_fails_for_want_of_heap_but_where_it_may() {
    guests_calls_answer_the_same_without_any_heap();
    dom0s_calls_are_refused_until_there_is_enough_heap();
}
