//! Control operations as the tools make them, and as guests should not.

use super::abi;
use crate::command_line::Options;
use crate::domain::destroy::Progress;
use crate::hypercall::Outcome;
use crate::interface::Interface;
use crate::state::HostGic;
use crate::testbed::{GUEST_RAM, REQUEST, Testbed};
use core::sync::atomic::Ordering;
use hv_core::addr::{Gfn, MachineAddr, Mfn};
use hv_core::guest::{GuestMemory, Handle};
use hv_core::ids::{DomId, Irq, VcpuId};
use hv_core::lifecycle::ShutdownReason;
use hv_core::p2m::Kind;
use hv_core::sched::Hold;
use hypercall_abi::arch_arm::{ArchDomainconfig, VGCF_ONLINE, VcpuGuestContext};
use hypercall_abi::domctl::{
    AddressSize, BindPtIrq, CacheFlush, CreateDomain, Domctl, GetDomainInfo, GetVcpuInfo,
    IomemPermission, MaxMem, MaxVcpus, MemoryMapping, PagingMempool, SchedCredit, SchedulerOp,
    SetDomainHandle, SetTimeOffset, VcpuAffinity, VcpuContext, VuartOp, XenctlBitmap,
};
use hypercall_abi::errno::Errno;
use hypercall_abi::hypercall::DOMCTL;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where requests keep what they point to.
const BUFFER: u64 = REQUEST + 0x400;

fn call(bed: &Testbed, caller: u16, request: &Domctl) -> Result<u64, Errno> {
    bed.put(request);
    match bed.call(caller, DOMCTL, [REQUEST, 0, 0, 0, 0]) {
        Outcome::Done(result) => result,
        Outcome::Again(_) => panic!("nothing interrupts"),
    }
}

fn op<T: Immutable + IntoBytes>(
    bed: &Testbed,
    command: u32,
    domain: u16,
    payload: &T,
) -> Result<u64, Errno> {
    call(bed, 0, &Domctl::with(command, domain, payload))
}

fn answer<T: FromBytes>(bed: &Testbed) -> T {
    bed.reply::<Domctl>().payload()
}

fn wanted() -> CreateDomain {
    CreateDomain {
        flags: abi::XEN_DOMCTL_CDF_HVM | abi::XEN_DOMCTL_CDF_HAP,
        max_vcpus: 2,
        max_evtchn_port: 1023,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_opts: 1,
        handle: [7; 16],
        ..CreateDomain::default()
    }
}

fn create(bed: &Testbed, domain: u16, wanted: &CreateDomain) -> Result<u16, Errno> {
    op(bed, abi::XEN_DOMCTL_CREATEDOMAIN, domain, wanted)?;
    Ok(bed.reply::<Domctl>().domain)
}

fn info(bed: &Testbed, domain: u16) -> Result<GetDomainInfo, Errno> {
    call(bed, 0, &Domctl::new(abi::XEN_DOMCTL_GETDOMAININFO, domain))?;
    Ok(answer(bed))
}

#[test]
fn envelopes_are_checked_in_xens_order() {
    let bed = Testbed::new();
    let good = Domctl::new(abi::XEN_DOMCTL_GETDOMAININFO, 1);
    let old = Domctl { interface_version: 0x15, ..good };
    assert_eq!(call(&bed, 1, &old), Err(Errno::EACCES));
    assert_eq!(call(&bed, 0, &Domctl { domain: 50, ..good }), Err(Errno::ESRCH));
    assert_eq!(call(&bed, 1, &good), Err(Errno::EPERM));
    assert_eq!(call(&bed, 0, &Domctl { cmd: 9999, ..good }), Err(Errno::ENOSYS));
    let create = Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, 0, &wanted());
    assert_eq!(call(&bed, 1, &create), Err(Errno::EPERM));
    assert_eq!(bed.call(0, DOMCTL, [8, 0, 0, 0, 0]), Errno::EFAULT.into());
    let colors = Domctl { cmd: abi::XEN_DOMCTL_SET_LLC_COLORS, ..good };
    assert_eq!(call(&bed, 0, &colors), Err(Errno::EOPNOTSUPP), "libxl goes on at this only");
}

#[test]
fn tools_of_xen_4_17_create_a_domain_too() {
    let interface = Interface::Xen4_17;
    let bed = Testbed::with(Options { interface, ..Options::default() });
    let mut request = Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, 0, &wanted());
    assert_eq!(call(&bed, 0, &request), Err(Errno::EACCES), "these are 4.20's");
    request.interface_version = 0x15;
    interface.give_creation(&mut request);
    assert_eq!(call(&bed, 0, &request), Ok(0));
    let mut reply = bed.reply::<Domctl>();
    interface.take_creation(&mut reply);
    assert_eq!(reply.payload::<CreateDomain>().arch.gic_version, 2);
    assert_eq!(reply.domain, 3);
}

#[test]
fn tools_of_xen_4_17_walk_the_domains_over_gaps() {
    let interface = Interface::Xen4_17;
    let bed = Testbed::with(Options { interface, ..Options::default() });
    let version = interface.domctl();
    let mut create = Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, 9, &wanted());
    interface.give_creation(&mut create);
    create.interface_version = version;
    assert_eq!(call(&bed, 0, &create), Ok(0));
    let created = bed.reply::<Domctl>().domain;
    let ask = |domain| {
        let request = Domctl::new(abi::XEN_DOMCTL_GETDOMAININFO, domain);
        call(&bed, 0, &Domctl { interface_version: version, ..request })?;
        Ok((bed.reply::<Domctl>().domain, answer::<GetDomainInfo>(&bed).domain))
    };
    assert_eq!(ask(0), Ok((0, 0)));
    assert_eq!(ask(4), Ok((created, created)), "none from 4 to it");
    assert_eq!(ask(created + 1), Err(Errno::ESRCH));
}

#[test]
fn a_domain_is_created_with_the_next_number_and_paused() {
    let bed = Testbed::new();
    let number = create(&bed, 0, &wanted()).unwrap();
    assert_eq!(number, 3);
    let reply: CreateDomain = answer(&bed);
    assert_eq!(reply.arch.gic_version, 2, "the tools need to know which");
    let made = info(&bed, 3).unwrap();
    assert_eq!(made.flags & abi::XEN_DOMINF_PAUSED, abi::XEN_DOMINF_PAUSED);
    assert_eq!((made.max_vcpu_id, made.tot_pages), (u32::MAX, 0));
    assert_eq!(made.handle, [7; 16]);
    assert_eq!(create(&bed, 2, &wanted()), Err(Errno::EEXIST));
    assert_eq!(create(&bed, 9, &wanted()), Ok(9));
}

#[test]
fn configurations_that_cannot_be_are_refused() {
    let bed = Testbed::new();
    let bad = [
        CreateDomain { flags: abi::XEN_DOMCTL_CDF_HVM, ..wanted() },
        CreateDomain { flags: wanted().flags | 1 << 6, ..wanted() },
        CreateDomain { max_vcpus: 0, ..wanted() },
        CreateDomain { max_vcpus: 129, ..wanted() },
        CreateDomain { max_vcpus: u32::MAX, ..wanted() },
        CreateDomain { grant_opts: 2, ..wanted() },
        CreateDomain { altp2m_opts: 1, ..wanted() },
        CreateDomain { vmtrace_size: 1, ..wanted() },
        CreateDomain {
            arch: ArchDomainconfig { nr_spis: 2000, ..ArchDomainconfig::default() },
            ..wanted()
        },
        CreateDomain {
            arch: ArchDomainconfig { gic_version: 9, ..ArchDomainconfig::default() },
            ..wanted()
        },
    ];
    for wanted in bad {
        assert_eq!(create(&bed, 0, &wanted), Err(Errno::EINVAL), "{wanted:?}");
    }
    bed.put(&Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, 0, &wanted()));
    bed.write_protect(true);
    assert_eq!(bed.call(0, DOMCTL, [REQUEST, 0, 0, 0, 0]), Errno::EFAULT.into());
    bed.write_protect(false);
    assert_eq!(bed.hv.all_domains().unwrap().len(), 3, "nobody could be told of it");
}

#[test]
fn a_guest_has_the_hosts_interrupt_controller_and_no_other() {
    let with = |gic_version, max_vcpus| CreateDomain {
        arch: ArchDomainconfig { gic_version, ..ArchDomainconfig::default() },
        max_vcpus,
        ..wanted()
    };
    let bed = Testbed::new();
    assert_eq!(create(&bed, 0, &with(1, 2)), Err(Errno::ENODEV), "as on Xen");
    assert_eq!(create(&bed, 0, &with(2, 128)), Ok(3));
    let interface = MachineAddr::new(0xff84_6000);
    let mut bed = Testbed::new();
    bed.hv.host.gic = HostGic::V2 { interface };
    assert_eq!(create(&bed, 0, &with(2, 2)), Err(Errno::ENODEV));
    for version in [0, 1] {
        assert_eq!(create(&bed, 0, &with(version, 9)), Err(Errno::EINVAL));
    }
    let free = bed.hv.frames.lock().free();
    assert_eq!(create(&bed, 0, &with(0, 8)), Ok(3));
    assert_eq!(answer::<CreateDomain>(&bed).arch.gic_version, 1);
    assert_eq!(info(&bed, 3).unwrap().arch_config.gic_version, 1);
    let domain = bed.domain(3);
    let seen = |gfn| domain.p2m.lock().lookup(bed.hv.machine.memory(), Gfn::new(gfn));
    for (page, gfn) in [0x3002, 0x3003].into_iter().enumerate() {
        let mapping = seen(gfn).unwrap();
        assert_eq!(mapping.mfn.number(), 0xf_f846 + page as u64);
        assert_eq!(mapping.kind, Kind::Device);
    }
    assert_eq!((seen(0x3001), seen(0x3004)), (None, None));
    drop(domain);
    while bed.hv.destroy(&bed.domain(3)) == Progress::More {}
    assert_eq!(bed.hv.frames.lock().free(), free);
}

#[test]
fn a_guest_whose_interrupt_controller_finds_no_memory_leaves_nothing() {
    let mut bed = Testbed::new();
    bed.hv.host.gic = HostGic::V2 { interface: MachineAddr::new(0xff84_6000) };
    let mut taken = Vec::new();
    while let Ok(frame) = { bed.hv.frames.lock().alloc_hypervisor(0) } {
        taken.push(frame.first);
    }
    // With one frame more each time, it fails at each of its steps.
    let mut made = false;
    for count in 0..300 {
        assert_eq!(bed.hv.frames.lock().available(), count);
        match create(&bed, 9, &wanted()) {
            Ok(_) => {
                made = true;
                while bed.hv.destroy(&bed.domain(9)) == Progress::More {}
            }
            Err(error) => assert_eq!(error, Errno::ENOMEM, "{count} frames"),
        }
        assert_eq!(bed.hv.frames.lock().available(), count, "they all came back");
        bed.hv.frames.lock().free_hypervisor(taken.pop().unwrap(), 1);
    }
    assert!(made);
}

#[test]
fn pauses_are_counted() {
    let bed = Testbed::new();
    let pause = |domain| call(&bed, 0, &Domctl::new(abi::XEN_DOMCTL_PAUSEDOMAIN, domain));
    let unpause = |domain| call(&bed, 0, &Domctl::new(abi::XEN_DOMCTL_UNPAUSEDOMAIN, domain));
    let held = || {
        let domain = bed.domain(1);
        let vcpu = domain.vcpu(VcpuId(0)).unwrap();
        bed.hv.scheduler.lock().holds(vcpu.sched).contains(Hold::PAUSED)
    };
    assert_eq!(pause(0), Err(Errno::EINVAL), "nobody pauses itself");
    assert_eq!(unpause(1), Err(Errno::EINVAL));
    assert_eq!(pause(1), Ok(0));
    assert_eq!(pause(1), Ok(0));
    assert!(held());
    assert_eq!(unpause(1), Ok(0));
    assert!(held());
    assert_eq!(unpause(1), Ok(0));
    assert!(!held());
}

#[test]
fn a_domains_state_shows_in_its_flags() {
    let bed = Testbed::new();
    let alive = info(&bed, 1).unwrap();
    assert_eq!(alive.domain, 1);
    assert_eq!(alive.tot_pages, crate::testbed::DOMAIN_FRAMES);
    assert_eq!((alive.nr_online_vcpus, alive.max_vcpu_id), (2, 1));
    assert_eq!(alive.flags & (abi::XEN_DOMINF_SHUTDOWN | abi::XEN_DOMINF_DYING), 0);
    assert_eq!(alive.flags >> 16, 0xffff, "no reason yet is all ones");
    bed.hv.shut_down(&bed.domain(1), ShutdownReason::REBOOT);
    let down = info(&bed, 1).unwrap();
    assert_eq!(down.flags & abi::XEN_DOMINF_SHUTDOWN, abi::XEN_DOMINF_SHUTDOWN);
    assert_eq!(down.flags >> 16 & 0xff, 1);
    assert_eq!(call(&bed, 0, &Domctl::new(abi::XEN_DOMCTL_RESUMEDOMAIN, 0)), Err(Errno::EINVAL));
    assert_eq!(call(&bed, 0, &Domctl::new(abi::XEN_DOMCTL_RESUMEDOMAIN, 1)), Ok(0));
    assert_eq!(info(&bed, 1).unwrap().flags & abi::XEN_DOMINF_SHUTDOWN, 0);
}

#[test]
fn a_destroyed_domain_gives_all_back() {
    let bed = Testbed::new();
    let before = bed.hv.frames.lock().free();
    let number = create(&bed, 0, &wanted()).unwrap();
    op(&bed, abi::XEN_DOMCTL_MAX_VCPUS, number, &MaxVcpus { max: 2 }).unwrap();
    op(&bed, abi::XEN_DOMCTL_MAX_MEM, number, &MaxMem { max_memkb: 1024 }).unwrap();
    let domain = bed.domain(number);
    let block = bed.hv.frames.lock().alloc_for(domain.id, 4, None).unwrap();
    bed.hv.map_frames(&domain, GUEST_RAM, block.first, 16, Kind::RamRw).unwrap();
    bed.hv.grant_frame(&domain, 3).unwrap();
    domain.ports.lock().alloc_unbound(bed.memory(), DomId(0)).unwrap();
    drop(domain);
    let destroy = |domain| call(&bed, 0, &Domctl::new(abi::XEN_DOMCTL_DESTROYDOMAIN, domain));
    assert_eq!(destroy(0), Err(Errno::EINVAL));
    assert_eq!(destroy(number), Ok(0));
    assert_eq!(info(&bed, number), Err(Errno::ESRCH));
    assert_eq!(bed.hv.frames.lock().free(), before);
    assert_eq!(destroy(number), Err(Errno::ESRCH));
}

#[test]
fn a_domain_whose_frame_is_mapped_stays_until_it_is_not() {
    let bed = Testbed::new();
    let entry = bed.hv.grant_frame(&bed.domain(1), 0).unwrap().base();
    let value = 1 | (GUEST_RAM.number() << 32);
    hv_core::memory::FrameMemory::store_u64(bed.memory(), entry, value);
    let map = hypercall_abi::grant_table::GnttabMapGrantRef {
        host_addr: 0x7000_0000,
        flags: hypercall_abi::grant_table::GNTMAP_HOST_MAP,
        dom: 1,
        ..Default::default()
    };
    bed.array_op(0, hypercall_abi::hypercall::GRANT_TABLE_OP, 0, &map).unwrap();
    let handle = bed.reply::<hypercall_abi::grant_table::GnttabMapGrantRef>().handle;
    let destroy = Domctl::new(abi::XEN_DOMCTL_DESTROYDOMAIN, 1);
    assert_eq!(call(&bed, 0, &destroy), Ok(0));
    let zombie = info(&bed, 1).unwrap();
    assert_eq!(zombie.flags & abi::XEN_DOMINF_DYING, abi::XEN_DOMINF_DYING);
    let unmap = hypercall_abi::grant_table::GnttabUnmapGrantRef {
        host_addr: 0x7000_0000,
        handle,
        ..Default::default()
    };
    bed.array_op(0, hypercall_abi::hypercall::GRANT_TABLE_OP, 1, &unmap).unwrap();
    assert_eq!(bed.reply::<hypercall_abi::grant_table::GnttabUnmapGrantRef>().status, 0);
    assert_eq!(info(&bed, 1), Err(Errno::ESRCH));
}

#[test]
fn virtual_processors_get_their_registers_and_give_them_back() {
    let bed = Testbed::new();
    let number = create(&bed, 0, &wanted()).unwrap();
    let context = |command, vcpu, ctxt| {
        let payload = VcpuContext { vcpu, ctxt, pad: 0 };
        op(&bed, command, number, &payload)
    };
    let (set, get) = (abi::XEN_DOMCTL_SETVCPUCONTEXT, abi::XEN_DOMCTL_GETVCPUCONTEXT);
    assert_eq!(
        op(&bed, abi::XEN_DOMCTL_MAX_VCPUS, number, &MaxVcpus { max: 3 }),
        Err(Errno::EINVAL)
    );
    assert_eq!(op(&bed, abi::XEN_DOMCTL_MAX_VCPUS, number, &MaxVcpus { max: 2 }), Ok(0));
    assert_eq!(op(&bed, abi::XEN_DOMCTL_MAX_VCPUS, number, &MaxVcpus { max: 2 }), Ok(0));
    let mut registers = VcpuGuestContext { flags: VGCF_ONLINE, ..VcpuGuestContext::default() };
    registers.user_regs.pc64 = 0x4008_0000;
    registers.user_regs.cpsr = 0x1c5;
    registers.user_regs.x[0] = 0x4800_0000;
    registers.sctlr = 0x00c5_0078;
    bed.guest.write(BUFFER, registers.as_bytes()).unwrap();
    assert_eq!(context(get, 0, BUFFER), Err(Errno::ENODATA));
    assert_eq!(context(set, 2, BUFFER), Err(Errno::EINVAL));
    assert_eq!(context(set, 0, 8), Err(Errno::EFAULT));
    assert_eq!(context(set, 0, BUFFER), Ok(0));
    bed.guest.write(BUFFER, &[0; 352]).unwrap();
    assert_eq!(context(get, 0, BUFFER), Ok(0));
    let read = Handle::<VcpuGuestContext>::from_register(BUFFER).load(&bed.guest).unwrap();
    assert_eq!(read, registers);
    for mode in [0x1_u64, 0x9, 0xd, 0x13] {
        let mut bad = registers;
        bad.user_regs.cpsr = mode;
        bed.guest.write(BUFFER, bad.as_bytes()).unwrap();
        assert_eq!(context(set, 0, BUFFER), Err(Errno::EINVAL), "mode {mode:#x}");
    }
    assert_eq!(context(set, 0, 0), Ok(0), "a null pointer resets it");
    assert_eq!(context(get, 0, BUFFER), Err(Errno::ENODATA));
    let own = VcpuContext { vcpu: 0, ctxt: BUFFER, pad: 0 };
    assert_eq!(op(&bed, set, 0, &own), Err(Errno::EINVAL));
}

#[test]
fn a_virtual_processor_tells_how_it_is() {
    let bed = Testbed::new();
    let ask = |vcpu| {
        let payload = GetVcpuInfo { vcpu, ..GetVcpuInfo::default() };
        op(&bed, abi::XEN_DOMCTL_GETVCPUINFO, 1, &payload)?;
        Ok::<_, Errno>(answer::<GetVcpuInfo>(&bed))
    };
    let info = ask(0).unwrap();
    assert_eq!((info.online, info.blocked, info.running), (1, 0, 0));
    assert_eq!(ask(2).unwrap_err(), Errno::EINVAL);
}

#[test]
fn affinities_come_back_as_they_take_effect() {
    let bed = Testbed::new();
    let map = |bitmap| XenctlBitmap { bitmap, nr_bits: 64, pad: 0 };
    let request = |flags, vcpu| VcpuAffinity {
        vcpu,
        flags,
        cpumap_hard: map(BUFFER),
        cpumap_soft: map(BUFFER + 8),
    };
    let set = |flags, vcpu| op(&bed, abi::XEN_DOMCTL_SETVCPUAFFINITY, 1, &request(flags, vcpu));
    let sets = || {
        let buffer = Handle::<u64>::from_register(BUFFER);
        (buffer.load(&bed.guest).unwrap(), buffer.element(1).load(&bed.guest).unwrap())
    };
    bed.guest.write(BUFFER, &u64::MAX.to_le_bytes()).unwrap();
    bed.guest.write(BUFFER + 8, &2_u64.to_le_bytes()).unwrap();
    assert_eq!(set(3, 0), Ok(0));
    assert_eq!(sets(), (3, 2), "there are two processors");
    bed.guest.write(BUFFER, &4_u64.to_le_bytes()).unwrap();
    assert_eq!(set(1, 0), Err(Errno::EINVAL), "none of these is there");
    assert_eq!(set(0, 0), Err(Errno::EINVAL));
    assert_eq!(set(1 << 5, 0), Err(Errno::EINVAL));
    assert_eq!(set(1, 2), Err(Errno::EINVAL));
    assert_eq!(op(&bed, abi::XEN_DOMCTL_GETVCPUAFFINITY, 1, &request(3, 0)), Ok(0));
    assert_eq!(sets().1, 2);
    let mut narrow = request(3, 0);
    (narrow.cpumap_hard.nr_bits, narrow.cpumap_soft.nr_bits) = (1, 1);
    bed.guest.write(BUFFER, &[0xff; 16]).unwrap();
    assert_eq!(op(&bed, abi::XEN_DOMCTL_GETVCPUAFFINITY, 1, &narrow), Ok(0));
    assert_eq!(sets(), (!0xff | 3, !0xff | 2), "whole bytes, as Xen");
}

#[test]
fn a_set_is_filled_to_the_room_there_is_unless_there_is_too_much() {
    let bed = Testbed::new();
    let get = |nr_bits| {
        bed.guest.write(BUFFER, &[0xff; 64]).unwrap();
        let map = XenctlBitmap { bitmap: BUFFER, nr_bits, pad: 0 };
        op(&bed, abi::XEN_DOMCTL_GETNODEAFFINITY, 1, &map)
    };
    let filled = |len: usize| {
        let mut bytes = [0; 64];
        bed.guest.read(BUFFER, &mut bytes).unwrap();
        bytes[0] == 1 && bytes[1..len].iter().all(|byte| *byte == 0) && bytes[len] == 0xff
    };
    for (bits, len) in [(1, 1), (8, 1), (9, 2), (64, 8), (65, 9), (257, 33)] {
        assert_eq!(get(bits), Ok(0));
        assert!(filled(len), "{bits} bits");
    }
    assert_eq!(get(0), Ok(0));
    assert_eq!(get(u32::MAX), Err(Errno::EINVAL));
    let end = XenctlBitmap { bitmap: u64::MAX - 3, nr_bits: 64, pad: 0 };
    assert_eq!(op(&bed, abi::XEN_DOMCTL_GETNODEAFFINITY, 1, &end), Err(Errno::EFAULT));
}

#[test]
fn control_operations_are_carried_out_one_at_a_time() {
    let bed = Testbed::new();
    bed.put(&Domctl::new(abi::XEN_DOMCTL_PAUSEDOMAIN, 1));
    let pause = || bed.call(0, DOMCTL, [REQUEST, 0, 0, 0, 0]);
    let other = bed.hv.control.lock();
    assert_eq!(pause(), Outcome::Again([REQUEST, 0, 0, 0, 0]));
    drop(other);
    assert_eq!(pause(), Outcome::Done(Ok(0)));
}

#[test]
fn domains_are_refused_before_the_heap_is_full() {
    let bed = Testbed::new();
    let free = bed.hv.frames.lock().free();
    let taken = &bed.hv.machine.heap_taken;
    let all = bed.hv.machine.heap_free();
    let made = create(&bed, 0, &wanted()).unwrap();
    taken.store(all - crate::room::RESERVE - 1024, Ordering::Relaxed);
    let before = bed.hv.frames.lock().free();
    assert_eq!(create(&bed, 0, &wanted()), Err(Errno::ENOMEM));
    let vcpus = |max| op(&bed, abi::XEN_DOMCTL_MAX_VCPUS, made, &MaxVcpus { max });
    assert_eq!(vcpus(2), Err(Errno::ENOMEM));
    assert_eq!(bed.hv.frames.lock().free(), before);
    taken.store(0, Ordering::Relaxed);
    assert_eq!(vcpus(2), Ok(0));
    assert_eq!(vcpus(2), Ok(0), "asking again changes nothing");
    assert_eq!(call(&bed, 0, &Domctl::new(abi::XEN_DOMCTL_DESTROYDOMAIN, made)), Ok(0));
    assert_eq!(bed.hv.frames.lock().free(), free);
}

#[test]
fn weights_and_caps_are_credit2s() {
    let bed = Testbed::new();
    let ask = |sched_id, cmd, weight, cap| {
        let credit = SchedCredit { weight, cap };
        let payload = SchedulerOp { sched_id, cmd, credit, rest: [0; 12] };
        op(&bed, abi::XEN_DOMCTL_SCHEDULER_OP, 1, &payload)?;
        Ok(answer::<SchedulerOp>(&bed).credit)
    };
    assert_eq!(ask(6, 1, 0, 0), Ok(SchedCredit { weight: 256, cap: 0 }));
    assert_eq!(ask(6, 0, 512, 50), Ok(SchedCredit { weight: 512, cap: 50 }));
    assert_eq!(ask(6, 1, 0, 0), Ok(SchedCredit { weight: 512, cap: 50 }));
    assert_eq!(ask(5, 1, 0, 0), Err(Errno::EINVAL), "that is another scheduler");
    assert_eq!(ask(6, 9, 0, 0), Err(Errno::EINVAL));
}

#[test]
fn memory_limits_sizes_and_names_are_kept() {
    let bed = Testbed::new();
    assert_eq!(op(&bed, abi::XEN_DOMCTL_MAX_MEM, 1, &MaxMem { max_memkb: 4096 }), Ok(0));
    assert_eq!(info(&bed, 1).unwrap().max_pages, 1024);
    let pool = |size| op(&bed, abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, 1, &PagingMempool { size });
    call(&bed, 0, &Domctl::new(abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, 1)).unwrap();
    assert_eq!(answer::<PagingMempool>(&bed).size, 64 << 10, "what Xen starts with");
    assert_eq!(pool(4097), Err(Errno::EINVAL));
    assert_eq!(pool(1 << 20), Ok(0));
    call(&bed, 0, &Domctl::new(abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, 1)).unwrap();
    assert_eq!(answer::<PagingMempool>(&bed).size, 1 << 20);
    let handle = SetDomainHandle { handle: [9; 16] };
    assert_eq!(op(&bed, abi::XEN_DOMCTL_SETDOMAINHANDLE, 1, &handle), Ok(0));
    assert_eq!(info(&bed, 1).unwrap().handle, [9; 16]);
    let size =
        |domain, size| op(&bed, abi::XEN_DOMCTL_SET_ADDRESS_SIZE, domain, &AddressSize { size });
    assert_eq!(size(1, 64), Err(Errno::EBUSY), "it has memory already");
    let number = create(&bed, 0, &wanted()).unwrap();
    assert_eq!(size(number, 64), Ok(0));
    assert_eq!(size(number, 32), Err(Errno::EINVAL));
    let offset = SetTimeOffset { time_offset_seconds: -5 };
    assert_eq!(op(&bed, abi::XEN_DOMCTL_SETTIMEOFFSET, 1, &offset), Ok(0));
}

#[test]
fn device_frames_are_given_on_only_by_who_has_them() {
    let bed = Testbed::new();
    let permit = |first_mfn, nr_mfns, allow_access| {
        let payload = IomemPermission { first_mfn, nr_mfns, allow_access, pad: [0; 7] };
        op(&bed, abi::XEN_DOMCTL_IOMEM_PERMISSION, 1, &payload)
    };
    let map = |first_mfn, nr_mfns, add_mapping| {
        let first_gfn = 0x1_0000;
        let payload = MemoryMapping { first_gfn, first_mfn, nr_mfns, add_mapping, padding: 0 };
        op(&bed, abi::XEN_DOMCTL_MEMORY_MAPPING, 1, &payload)
    };
    assert_eq!(permit(0x9000, 4, 1), Err(Errno::EPERM), "Dom0 has it not itself");
    bed.domain(0).devices.lock().insert(0x9000..0x9100);
    assert_eq!(map(0x9000, 4, 1), Err(Errno::EPERM));
    assert_eq!(permit(0x9000, 0x100, 1), Ok(0));
    assert_eq!(permit(0x9000, 0, 1), Err(Errno::EINVAL));
    assert_eq!(permit(u64::MAX, 2, 1), Err(Errno::EINVAL));
    assert_eq!(map(0x9000, 65, 1), Err(Errno::E2BIG));
    assert_eq!(map(0x9000, 4, 2), Err(Errno::EINVAL));
    assert_eq!(map(u64::MAX, 4, 1), Err(Errno::EINVAL));
    assert_eq!(map(0x9000, 4, 1), Ok(0));
    let there = |gfn| {
        let domain = bed.domain(1);
        let p2m = domain.p2m.lock();
        p2m.lookup(bed.memory(), Gfn::new(gfn)).map(|mapping| (mapping.mfn, mapping.kind))
    };
    assert_eq!(there(0x1_0003), Some((Mfn::new(0x9003), Kind::Device)));
    assert_eq!(map(0x9000, 4, 0), Ok(0));
    assert_eq!(there(0x1_0003), None);
    assert_eq!(permit(0x9000, 0x100, 0), Ok(0));
    assert_eq!(map(0x9000, 4, 1), Err(Errno::EPERM));
}

#[test]
fn caches_are_cleaned_in_parts() {
    let bed = Testbed::new();
    let flush = |start_pfn, nr_pfns| {
        bed.put(&Domctl::with(abi::XEN_DOMCTL_CACHEFLUSH, 1, &CacheFlush { start_pfn, nr_pfns }));
        bed.call(0, DOMCTL, [REQUEST, 0, 0, 0, 0])
    };
    let start = GUEST_RAM.number();
    assert_eq!(flush(start, 64), Outcome::Done(Ok(0)));
    assert_eq!(flush(start, (1 << 18) + 1), Errno::EINVAL.into());
    assert_eq!(flush(u64::MAX, 2), Errno::EINVAL.into());
    bed.interrupt(true);
    assert_eq!(flush(start, 100), Outcome::Again([REQUEST, 0, 0, 0, 0]));
    let rest: CacheFlush = answer(&bed);
    assert_eq!((rest.start_pfn, rest.nr_pfns), (start + 64, 36));
}

/// Makes a domain with one page of memory, which has not run yet.
fn with_page(bed: &Testbed, nr_spis: u32) -> (u16, u64) {
    let arch = ArchDomainconfig { nr_spis, ..ArchDomainconfig::default() };
    let number = create(bed, 0, &CreateDomain { arch, ..wanted() }).unwrap();
    let domain = bed.domain(number);
    bed.hv.frames.lock().set_limit(domain.id, 4).unwrap();
    let page = bed.hv.frames.lock().alloc_for(domain.id, 0, None).unwrap();
    bed.hv.map_frames(&domain, GUEST_RAM, page.first, 1, Kind::RamRw).unwrap();
    (number, GUEST_RAM.number())
}

#[test]
fn a_uart_is_given_once_and_before_the_domain_runs() {
    let bed = Testbed::new();
    let (number, gfn) = with_page(&bed, 1);
    let good = VuartOp { gfn, ..VuartOp::default() };
    let init = |domain, wanted: &VuartOp| op(&bed, abi::XEN_DOMCTL_VUART_OP, domain, wanted);
    assert_eq!(init(1, &good), Err(Errno::EPERM));
    assert_eq!(init(0, &good), Err(Errno::EPERM));
    let wrong = [
        (VuartOp { pad: [0, 1], ..good }, Errno::EINVAL),
        (VuartOp { cmd: 1, ..good }, Errno::EINVAL),
        (VuartOp { kind: 1, ..good }, Errno::EOPNOTSUPP),
        (VuartOp { gfn: gfn + 1, ..good }, Errno::EINVAL),
        (VuartOp { gfn: u64::MAX, ..good }, Errno::EINVAL),
    ];
    for (wanted, error) in wrong {
        assert_eq!(init(number, &wanted), Err(error), "{wanted:?}");
    }
    assert_eq!(init(number, &good), Ok(0));
    let port = answer::<VuartOp>(&bed).evtchn;
    let status = bed.domain(number).ports.lock().status(port).unwrap().0;
    assert_eq!(status, hv_core::evtchn::Status::Unbound(DomId(0)));
    assert_eq!(init(number, &good), Err(Errno::EINVAL), "it has one");
    let uarts = Irq::new(32).unwrap();
    let _ = bed.domain(0).vgic.lock().assign_hardware(uarts);
    let spi = BindPtIrq { machine_irq: 32, irq_type: 4, spi: 32, ..BindPtIrq::default() };
    let bound = op(&bed, abi::XEN_DOMCTL_BIND_PT_IRQ, number, &spi);
    assert_eq!(bound, Err(Errno::EBUSY), "the UART has this interrupt");
    let (other, gfn) = with_page(&bed, 1);
    assert_eq!(op(&bed, abi::XEN_DOMCTL_BIND_PT_IRQ, other, &spi), Ok(0));
    assert_eq!(init(other, &VuartOp { gfn, ..good }), Err(Errno::EINVAL), "a device has it");
    let (without_interrupts, gfn) = with_page(&bed, 0);
    assert_eq!(init(without_interrupts, &VuartOp { gfn, ..good }), Err(Errno::EINVAL));
}

#[test]
fn a_uart_that_cannot_be_given_leaves_nothing_behind() {
    let bed = Testbed::new();
    let free = bed.hv.frames.lock().free();
    let (number, gfn) = with_page(&bed, 1);
    let domain = bed.domain(number);
    let good = VuartOp { gfn, ..VuartOp::default() };
    bed.put(&Domctl::with(abi::XEN_DOMCTL_VUART_OP, number, &good));
    bed.write_protect(true);
    assert_eq!(bed.call(0, DOMCTL, [REQUEST, 0, 0, 0, 0]), Errno::EFAULT.into());
    bed.write_protect(false);
    assert_eq!(domain.ports.lock().open_ports(), 0);
    while domain.ports.lock().alloc_unbound(bed.memory(), DomId(0)).is_ok() {}
    assert_eq!(op(&bed, abi::XEN_DOMCTL_VUART_OP, number, &good), Err(Errno::ENOSPC));
    assert!(domain.uart.lock().is_none());
    assert_eq!(bed.hv.destroy(&domain), Progress::Done);
    assert!(bed.hv.domain(DomId(number)).is_none(), "its page is not held");
    let (number, _) = with_page(&bed, 1);
    assert_eq!(op(&bed, abi::XEN_DOMCTL_VUART_OP, number, &good), Ok(0));
    assert_eq!(bed.hv.destroy(&bed.domain(number)), Progress::Done);
    assert!(bed.hv.domain(DomId(number)).is_none(), "nor is that of one at its end");
    assert_eq!(bed.hv.frames.lock().free(), free);
}
