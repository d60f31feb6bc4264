//! Processors, memory and topology.

use super::Request;
use hv_core::addr::PAGE_SIZE;
use hv_core::guest::Handle;
use hypercall_abi::errno::Errno;
use hypercall_abi::sysctl::{
    AvailHeap, CpuInfo, CpuTopo, CpuTopoInfo, GetCpuInfo, MemInfo, NumaInfo, PhysInfo,
    XEN_SYSCTL_PHYSCAP_GNTTAB_V1, XEN_SYSCTL_PHYSCAP_HAP, XEN_SYSCTL_PHYSCAP_HVM,
};

/// Distance of the one node to itself, as Xen has it where it knows nothing of nodes.
const LOCAL_DISTANCE: u32 = 20;

fn processors(request: &Request<'_>) -> u32 {
    u32::try_from(request.caller.hv.processors.len()).unwrap_or(u32::MAX)
}

pub(super) fn physinfo(request: &mut Request<'_>) -> Result<(), Errno> {
    let hv = request.caller.hv;
    let online = u32::try_from(hv.scheduler.lock().online().iter().count()).unwrap_or(u32::MAX);
    let count = processors(request);
    let mut info = PhysInfo {
        threads_per_core: 1,
        cores_per_socket: online,
        nr_cpus: online,
        max_cpu_id: count.saturating_sub(1),
        nr_nodes: 1,
        cpu_khz: u32::try_from(hv.host.counter_frequency / 1_000).unwrap_or(u32::MAX),
        capabilities: XEN_SYSCTL_PHYSCAP_HVM
            | XEN_SYSCTL_PHYSCAP_HAP
            | XEN_SYSCTL_PHYSCAP_GNTTAB_V1,
        total_pages: hv.host.total_frames,
        max_mfn: hv.host.max_frame.saturating_sub(1),
        ..PhysInfo::default()
    };
    {
        let frames = hv.frames.lock();
        // What is set aside for domains' tables is not free for anything else.
        info.free_pages = frames.available();
        info.outstanding_pages = frames.claimed();
    }
    request.sysctl.set_payload(&info);
    request.reply()
}

pub(super) fn cpu_info(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: GetCpuInfo = request.sysctl.payload();
    let hv = request.caller.hv;
    let array = Handle::<CpuInfo>::from_register(wanted.info);
    let now = hv.machine.now();
    let mut count = 0;
    for processor in hv.processors.iter().take(wanted.max_cpus as usize) {
        let idle = hv.scheduler.lock().idle_time(processor.id, now);
        array
            .element(u64::from(count))
            .store(request.caller.guest, &CpuInfo { idletime: idle.0 })?;
        count += 1;
    }
    wanted.nr_cpus = count;
    request.sysctl.set_payload(&wanted);
    request.reply()
}

pub(super) fn available_heap(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: AvailHeap = request.sysctl.payload();
    if wanted.node > 0 {
        return Err(Errno::EINVAL);
    }
    wanted.avail_bytes = request.caller.hv.frames.lock().available() * PAGE_SIZE;
    request.sysctl.set_payload(&wanted);
    request.reply()
}

/// Each processor counts as a core of its own in the one socket, as Xen has it on Arm.
pub(super) fn cpu_topology(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: CpuTopoInfo = request.sysctl.payload();
    let count = processors(request);
    if wanted.cputopo != 0 {
        let array = Handle::<CpuTopo>::from_register(wanted.cputopo);
        for number in 0..count.min(wanted.num_cpus) {
            let topology = CpuTopo { core: 0, socket: 0, node: 0 };
            array.element(u64::from(number)).store(request.caller.guest, &topology)?;
        }
        wanted.num_cpus = count.min(wanted.num_cpus);
    } else {
        wanted.num_cpus = count;
    }
    request.sysctl.set_payload(&wanted);
    request.reply()
}

pub(super) fn numa(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: NumaInfo = request.sysctl.payload();
    let hv = request.caller.hv;
    let room = wanted.num_nodes > 0;
    if wanted.meminfo != 0 && room {
        let (managed, free) = {
            let frames = hv.frames.lock();
            (frames.managed(), frames.free())
        };
        let info = MemInfo { memsize: managed * PAGE_SIZE, memfree: free * PAGE_SIZE };
        Handle::from_register(wanted.meminfo).store(request.caller.guest, &info)?;
    }
    if wanted.distance != 0 && room {
        Handle::from_register(wanted.distance).store(request.caller.guest, &LOCAL_DISTANCE)?;
    }
    wanted.num_nodes = 1;
    request.sysctl.set_payload(&wanted);
    request.reply()
}
