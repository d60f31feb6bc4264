//! System operations as the tools make them, and as guests should not.

use super::abi;
use crate::hypercall::Outcome;
use crate::testbed::{REQUEST, Testbed};
use hv_core::guest::{GuestMemory, Handle};
use hypercall_abi::domctl::{GetDomainInfo, XenctlBitmap};
use hypercall_abi::errno::Errno;
use hypercall_abi::hypercall::SYSCTL;
use hypercall_abi::sysctl::{
    AvailHeap, CpuTopo, CpuTopoInfo, CpupoolOp, DebugKeys, GetCpuInfo, GetDomainInfoList, NumaInfo,
    PhysInfo, ReadConsole, SchedId, SchedulerOp, Sysctl,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where requests keep what they point to.
const BUFFER: u64 = REQUEST + 0x400;

fn call(bed: &Testbed, caller: u16, request: &Sysctl) -> Result<u64, Errno> {
    bed.put(request);
    match bed.call(caller, SYSCTL, [REQUEST, 0, 0, 0, 0]) {
        Outcome::Done(result) => result,
        Outcome::Again(_) => panic!("nothing interrupts"),
    }
}

fn op<T: Immutable + IntoBytes + FromBytes>(
    bed: &Testbed,
    command: u32,
    payload: &T,
) -> Result<T, Errno> {
    call(bed, 0, &Sysctl::with(command, payload))?;
    Ok(bed.reply::<Sysctl>().payload())
}

#[test]
fn envelopes_are_checked_in_xens_order() {
    let bed = Testbed::new();
    let good = Sysctl::new(abi::XEN_SYSCTL_SCHED_ID);
    assert_eq!(call(&bed, 1, &Sysctl { interface_version: 0x16, ..good }), Err(Errno::EACCES));
    assert_eq!(call(&bed, 1, &good), Err(Errno::EPERM));
    assert_eq!(call(&bed, 0, &Sysctl { cmd: 999, ..good }), Err(Errno::ENOSYS));
    assert_eq!(bed.call(0, SYSCTL, [8, 0, 0, 0, 0]), Errno::EFAULT.into());
    bed.put(&good);
    bed.write_protect(true);
    assert_eq!(bed.call(0, SYSCTL, [REQUEST, 0, 0, 0, 0]), Errno::EFAULT.into());
}

#[test]
fn the_host_is_described_so_that_the_tools_create_guests() {
    let bed = Testbed::new();
    let info = op(&bed, abi::XEN_SYSCTL_PHYSINFO, &PhysInfo::default()).unwrap();
    let needed = abi::XEN_SYSCTL_PHYSCAP_HVM
        | abi::XEN_SYSCTL_PHYSCAP_HAP
        | abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V1;
    assert_eq!(info.capabilities & needed, needed);
    assert_eq!(info.capabilities & abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V2, 0);
    assert_eq!((info.nr_cpus, info.max_cpu_id, info.nr_nodes), (2, 1, 1));
    assert_eq!(info.cpu_khz, 1_000_000);
    assert!(info.free_pages > 0 && info.free_pages < info.total_pages);
    let heap = op(&bed, abi::XEN_SYSCTL_AVAILHEAP, &AvailHeap::default()).unwrap();
    assert_eq!(heap.avail_bytes, info.free_pages * 4096);
    let far = AvailHeap { node: 1, ..AvailHeap::default() };
    assert_eq!(op(&bed, abi::XEN_SYSCTL_AVAILHEAP, &far), Err(Errno::EINVAL));
    let sched = op(&bed, abi::XEN_SYSCTL_SCHED_ID, &SchedId::default()).unwrap();
    assert_eq!(sched.sched_id, 6);
}

#[test]
fn domains_are_listed_in_order_and_in_parts() {
    let bed = Testbed::new();
    let list = |first_domain, max_domains, buffer| {
        let request = GetDomainInfoList { first_domain, max_domains, buffer, ..Default::default() };
        op(&bed, abi::XEN_SYSCTL_GETDOMAININFOLIST, &request).map(|reply| reply.num_domains)
    };
    let number = |index| {
        let at = Handle::<GetDomainInfo>::from_register(BUFFER).element(index);
        at.load(&bed.guest).unwrap().domain
    };
    assert_eq!(list(0, 10, BUFFER), Ok(3));
    assert_eq!((number(0), number(1), number(2)), (0, 1, 2));
    assert_eq!(list(1, 1, BUFFER), Ok(1));
    assert_eq!(number(0), 1);
    assert_eq!(list(3, 10, BUFFER), Ok(0));
    assert_eq!(list(0, 0, 0), Ok(0));
    assert_eq!(list(0, 1, 8), Err(Errno::EFAULT));
}

fn pool(bed: &Testbed, op_number: u32, cpupool_id: u32, cpu: u32) -> Result<CpupoolOp, Errno> {
    let cpumap = XenctlBitmap { bitmap: BUFFER, nr_bits: 64, pad: 0 };
    let request = CpupoolOp {
        op: op_number,
        cpupool_id,
        sched_id: 6,
        domid: 1,
        cpu,
        cpumap,
        ..Default::default()
    };
    op(bed, abi::XEN_SYSCTL_CPUPOOL_OP, &request)
}

#[test]
fn pools_are_made_filled_used_and_taken_away() {
    let bed = Testbed::new();
    let cpus = || Handle::<u64>::from_register(BUFFER).load(&bed.guest).unwrap();
    let info = |id| pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_INFO, id, 0);
    let boot = info(0).unwrap();
    assert_eq!((boot.cpupool_id, boot.sched_id, boot.n_dom, cpus()), (0, 6, 3, 3));
    assert_eq!(info(1), Err(Errno::ENOENT));
    let any = abi::XEN_SYSCTL_CPUPOOL_PAR_ANY;
    let made = pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_CREATE, any, 0).unwrap();
    assert_eq!(made.cpupool_id, 1);
    assert_eq!(pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_CREATE, 1, 0), Err(Errno::EEXIST));
    let moved = || pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 1, 0).map(drop);
    assert_eq!(moved(), Err(Errno::ENOENT), "nothing could run there");
    let remove = |cpu| pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU, 0, cpu).map(drop);
    assert_eq!(remove(0), Err(Errno::EINVAL));
    assert_eq!(remove(1), Ok(()));
    assert!(pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO, 0, 0).is_ok());
    assert_eq!(cpus(), 2);
    let cpumap = XenctlBitmap { bitmap: BUFFER, nr_bits: u32::MAX, pad: 0 };
    let endless = abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO;
    let endless = CpupoolOp { op: endless, cpumap, ..Default::default() };
    assert_eq!(op(&bed, abi::XEN_SYSCTL_CPUPOOL_OP, &endless), Err(Errno::EINVAL));
    assert!(pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 1, 1).is_ok());
    assert_eq!(moved(), Ok(()));
    let made = info(1).unwrap();
    assert_eq!((made.n_dom, cpus(), info(0).unwrap().n_dom), (1, 2, 2));
    assert_eq!(pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY, 1, 0), Err(Errno::EBUSY));
    assert_eq!(pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU, 1, 1), Err(Errno::EBUSY));
    assert!(pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 0, 0).is_ok());
    assert!(pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU, 1, any).is_ok());
    assert!(pool(&bed, abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY, 1, 0).is_ok());
    assert_eq!(info(1), Err(Errno::ENOENT));
    assert_eq!(pool(&bed, 99, 0, 0), Err(Errno::ENOSYS));
}

#[test]
fn a_pools_scheduler_has_a_rate_limit() {
    let bed = Testbed::new();
    let sched = |cmd, sched_id, cpupool_id, limit| {
        let parameters = [limit, 0, 0];
        let request = SchedulerOp { sched_id, cpupool_id, cmd, parameters, ..Default::default() };
        op(&bed, abi::XEN_SYSCTL_SCHEDULER_OP, &request).map(|reply| reply.parameters[0])
    };
    let (get, put) = (abi::XEN_SYSCTL_SCHEDOP_GETINFO, abi::XEN_SYSCTL_SCHEDOP_PUTINFO);
    assert_eq!(sched(get, 6, 0, 7), Ok(1_000));
    assert_eq!(sched(put, 6, 0, 2_000), Ok(2_000));
    assert_eq!(sched(get, 6, 0, 7), Ok(2_000));
    assert_eq!(sched(put, 6, 0, 99), Err(Errno::EINVAL));
    assert_eq!(sched(put, 6, 0, 500_001), Err(Errno::EINVAL));
    assert_eq!(sched(put, 6, 0, 0), Ok(0), "none is as good as any");
    assert_eq!(sched(2, 6, 0, 0), Err(Errno::EINVAL));
    assert_eq!(sched(get, 5, 0, 0), Err(Errno::EINVAL));
    assert_eq!(sched(get, 6, 1, 0), Err(Errno::ESRCH));
}

#[test]
fn topology_tells_its_size_when_there_is_no_room_for_it() {
    let bed = Testbed::new();
    let topology = |num_cpus, cputopo| {
        let request = CpuTopoInfo { num_cpus, cputopo, pad: 0 };
        op(&bed, abi::XEN_SYSCTL_CPUTOPOINFO, &request).map(|reply| reply.num_cpus)
    };
    assert_eq!(topology(0, 0), Ok(2));
    bed.guest.write(BUFFER, &[0xff; 36]).unwrap();
    assert_eq!(topology(2, BUFFER), Ok(2));
    let third = Handle::<CpuTopo>::from_register(BUFFER).element(2).load(&bed.guest).unwrap();
    assert_eq!(third.core, u32::MAX, "nothing is written past the room there is");
    let numa = op(&bed, abi::XEN_SYSCTL_NUMAINFO, &NumaInfo::default()).unwrap();
    assert_eq!(numa.num_nodes, 1);
    let idle = GetCpuInfo { max_cpus: 8, info: BUFFER, ..Default::default() };
    assert_eq!(op(&bed, abi::XEN_SYSCTL_GETCPUINFO, &idle).unwrap().nr_cpus, 2);
}

#[test]
fn the_message_buffer_is_read_to_its_end() {
    let bed = Testbed::new();
    bed.hv.print(format_args!("one line"));
    let read = |incremental, index, clear, count| {
        let request =
            ReadConsole { incremental, index, clear, count, buffer: BUFFER, ..Default::default() };
        op(&bed, abi::XEN_SYSCTL_READCONSOLE, &request).unwrap()
    };
    let all = read(1, 0, 0, 1000);
    let mut text = vec![0; all.count as usize];
    bed.guest.read(BUFFER, &mut text).unwrap();
    assert!(String::from_utf8(text).unwrap().ends_with("one line\n"));
    assert_eq!(read(1, all.index, 0, 1000).count, 0, "`xl dmesg` stops here");
    assert_eq!(read(0, 0, 1, 3).count, 3);
    assert_eq!(read(0, 0, 0, 1000).count, 0, "it was cleared");
    let keys = DebugKeys { keys: BUFFER, nr_keys: 1, pad: 0 };
    bed.guest.write(BUFFER, b"q").unwrap();
    assert!(op(&bed, abi::XEN_SYSCTL_DEBUG_KEYS, &keys).is_ok());
    let bad = DebugKeys { keys: 8, nr_keys: 1, pad: 0 };
    assert_eq!(op(&bed, abi::XEN_SYSCTL_DEBUG_KEYS, &bad), Err(Errno::EFAULT));
}
