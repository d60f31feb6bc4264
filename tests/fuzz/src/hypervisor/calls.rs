//! What a guest may ask for: event channels, grants, memory, processors.

use super::draw::{Draw, SELF};
use super::{BUFFER, Play, batch};
use hv_core::addr::MachineAddr;
use hv_core::memory::FrameMemory;
use hypercall_abi::event_channel::{
    self, EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindVcpu, EvtchnBindVirq,
    EvtchnClose, EvtchnExpandArray, EvtchnInitControl, EvtchnReset, EvtchnSend, EvtchnSetPriority,
    EvtchnStatus, EvtchnUnmask,
};
use hypercall_abi::grant_table::{
    self as grant, GnttabCacheFlush, GnttabCopy, GnttabCopyPtr, GnttabGetVersion,
    GnttabMapGrantRef, GnttabQuerySize, GnttabSetVersion, GnttabSetupTable, GnttabSwapGrantRef,
    GnttabTransfer, GnttabUnmapAndReplace, GnttabUnmapGrantRef,
};
use hypercall_abi::hvm::HvmParam;
use hypercall_abi::hypercall::{
    EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, HYPFS_OP, MEMORY_OP, MULTICALL, SCHED_OP, VCPU_OP,
    VM_ASSIST,
};
use hypercall_abi::memory::{
    self as physmap, AcquireResource, AddToPhysmap, AddToPhysmapBatch, MemoryReservation,
    RemoveFromPhysmap,
};
use hypercall_abi::multicall::MulticallEntry;
use hypercall_abi::sched::{self, SchedPoll, SchedRemoteShutdown, SchedShutdown, SchedWatchdog};
use hypercall_abi::vcpu::{self, VcpuRegisterVcpuInfo};
use zerocopy::IntoBytes;

impl Play {
    pub(super) fn events(&mut self, draw: &mut Draw) {
        let command = if draw.seldom(32) { draw.word() } else { u32::from(draw.below(15)) };
        let request = event(draw, command);
        self.op(draw, EVENT_CHANNEL_OP, command, request.as_slice(), 0);
    }

    pub(super) fn grants(&mut self, draw: &mut Draw) {
        match draw.below(20) {
            0..3 => self.grant_something(draw),
            3..7 => {
                let maps = batch(draw, |draw| GnttabMapGrantRef {
                    host_addr: draw.address(),
                    flags: map_flags(draw),
                    reference: draw.reference(),
                    dom: draw.domain(),
                    ..Default::default()
                });
                self.batched(draw, grant::GNTTABOP_MAP_GRANT_REF, &maps);
            }
            7..10 => {
                let unmaps = batch(draw, |draw| {
                    let handle = draw.handle();
                    (handle, draw.seldom(4).then(|| draw.address()))
                });
                let unmaps: Vec<_> = unmaps
                    .into_iter()
                    .map(|(handle, address)| GnttabUnmapGrantRef {
                        host_addr: address.unwrap_or_else(|| self.address_of(handle)),
                        handle,
                        ..Default::default()
                    })
                    .collect();
                self.batched(draw, grant::GNTTABOP_UNMAP_GRANT_REF, &unmaps);
            }
            10 => {
                let nr_frames = u32::from(draw.below(6)) + if draw.seldom(16) { 64 } else { 0 };
                let dom = if draw.seldom(8) { draw.domain() } else { SELF };
                let request =
                    GnttabSetupTable { dom, nr_frames, frame_list: BUFFER, ..Default::default() };
                self.batched(draw, grant::GNTTABOP_SETUP_TABLE, &[request]);
            }
            11..14 => {
                let copies = batch(draw, |draw| {
                    let (source, from) = copy_side(draw);
                    let (dest, to) = copy_side(draw);
                    let from = if from { grant::GNTCOPY_SOURCE_GREF } else { 0 };
                    let to = if to { grant::GNTCOPY_DEST_GREF } else { 0 };
                    let flags = from | to;
                    let len = if draw.seldom(8) { draw.half() } else { u16::from(draw.byte()) };
                    GnttabCopy { source, dest, len, flags, ..Default::default() }
                });
                self.batched(draw, grant::GNTTABOP_COPY, &copies);
            }
            14 => {
                let swaps = batch(draw, |draw| GnttabSwapGrantRef {
                    ref_a: draw.reference(),
                    ref_b: draw.reference(),
                    ..Default::default()
                });
                self.batched(draw, grant::GNTTABOP_SWAP_GRANT_REF, &swaps);
            }
            15 => {
                let flushes = batch(draw, |draw| GnttabCacheFlush {
                    dev_bus_addr: draw.address(),
                    offset: u16::from(draw.byte()) * 16,
                    length: u16::from(draw.byte()) * 16,
                    op: u32::from(draw.below(4)),
                });
                // By machine address, as guests know it from their mappings.
                let flushes: Vec<_> = flushes
                    .into_iter()
                    .map(|flush| {
                        let gfn = hv_core::addr::Gfn::new(flush.dev_bus_addr >> 12);
                        let p2m = self.actor.domain.p2m.lock();
                        let found = p2m.lookup(self.bed.memory(), gfn);
                        let address =
                            found.map_or(flush.dev_bus_addr, |found| found.mfn.base().raw());
                        GnttabCacheFlush { dev_bus_addr: address, ..flush }
                    })
                    .collect();
                self.batched(draw, grant::GNTTABOP_CACHE_FLUSH, &flushes);
            }
            16 => {
                let request = GnttabQuerySize { dom: draw.domain(), ..Default::default() };
                self.batched(draw, grant::GNTTABOP_QUERY_SIZE, &[request]);
            }
            17 => {
                let replaced = [GnttabUnmapAndReplace {
                    host_addr: draw.address(),
                    new_addr: draw.address(),
                    handle: draw.handle(),
                    ..Default::default()
                }];
                self.batched(draw, grant::GNTTABOP_UNMAP_AND_REPLACE, &replaced);
            }
            18 => {
                let (version, dom) = (draw.word() % 4, draw.domain());
                self.batched(draw, grant::GNTTABOP_SET_VERSION, &[GnttabSetVersion { version }]);
                let asked = GnttabGetVersion { dom, ..Default::default() };
                self.batched(draw, grant::GNTTABOP_GET_VERSION, &[asked]);
            }
            _ => {
                let command = draw.word() % 256;
                let transfers = batch(draw, |draw| GnttabTransfer {
                    mfn: draw.gfn(),
                    domid: draw.domain(),
                    reference: draw.reference(),
                    ..Default::default()
                });
                self.batched(draw, command, &transfers);
            }
        }
    }

    fn batched<T: IntoBytes + zerocopy::Immutable>(
        &mut self,
        draw: &mut Draw,
        command: u32,
        requests: &[T],
    ) {
        let count = if draw.seldom(64) { draw.long() } else { requests.len() as u64 };
        self.op(draw, GRANT_TABLE_OP, command, requests, count);
    }

    /// Writes an entry of the acting guest's grant table.
    fn grant_something(&mut self, draw: &mut Draw) {
        let reference = draw.reference();
        let (flags, dom, gfn) = (draw.byte(), draw.domain(), draw.gfn());
        let flags = match flags {
            0..160 => 1,
            160..220 => 1 | 4,
            220..235 => 0,
            _ => u64::from(draw.half()),
        };
        let dom = if dom == SELF { self.actor.domain.id.0 } else { dom };
        let entry = flags | u64::from(dom) << 16 | gfn << 32;
        let frame = {
            let grants = self.actor.domain.grants.lock();
            let index = usize::try_from(reference / 512).unwrap_or(usize::MAX);
            grants.frames().get(index).copied()
        };
        match frame {
            Some(frame) => {
                let at = MachineAddr::new(frame.base().raw() + u64::from(reference % 512) * 8);
                self.bed.memory().store_u64(at, entry);
            }
            None => {
                let request = GnttabSetupTable {
                    dom: SELF,
                    nr_frames: 2,
                    frame_list: BUFFER,
                    ..Default::default()
                };
                self.batched(draw, grant::GNTTABOP_SETUP_TABLE, &[request]);
            }
        }
    }

    /// Returns where the acting guest has the mapping with this handle.
    fn address_of(&self, handle: u32) -> u64 {
        let grants = self.actor.domain.grants.lock();
        grants.mapping(handle).map_or(0, |mapping| mapping.gfn.number() << 12)
    }

    pub(super) fn memory(&mut self, draw: &mut Draw) {
        let target = if draw.seldom(6) { draw.domain() } else { SELF };
        match draw.below(14) {
            command @ 0..5 => {
                let command = [
                    physmap::POPULATE_PHYSMAP,
                    physmap::DECREASE_RESERVATION,
                    physmap::INCREASE_RESERVATION,
                    physmap::POPULATE_PHYSMAP,
                    physmap::DECREASE_RESERVATION,
                ][usize::from(command)];
                let extents = batch(draw, Draw::gfn);
                let extent_order = match draw.byte() {
                    0..160 => 0,
                    byte @ 160..250 => u32::from(byte % 10),
                    _ => draw.word(),
                };
                let mem_flags = if draw.seldom(8) { draw.word() } else { 0 };
                self.put(BUFFER, extents.as_slice());
                let request = MemoryReservation {
                    extent_start: BUFFER,
                    nr_extents: extents.len() as u64
                        + if draw.seldom(32) { draw.long() } else { 0 },
                    extent_order,
                    mem_flags,
                    domid: target,
                    ..Default::default()
                };
                self.op(draw, MEMORY_OP, command, &request, 0);
            }
            5..8 => {
                let space = u32::from(draw.below(7));
                let idx = if draw.seldom(2) { u64::from(draw.below(4)) } else { draw.gfn() };
                let size = if draw.seldom(4) { draw.half() % 64 } else { 1 };
                let gpfn = draw.gfn();
                let request = AddToPhysmap { domid: target, size, space, idx, gpfn };
                self.op(draw, MEMORY_OP, physmap::ADD_TO_PHYSMAP, &request, 0);
            }
            8 => {
                let count = u16::from(draw.below(5));
                let idxs: Vec<u64> = (0..count).map(|_| draw.gfn()).collect();
                let gpfns: Vec<u64> = (0..count).map(|_| draw.gfn()).collect();
                self.put(BUFFER, idxs.as_slice());
                self.put(BUFFER + 0x100, gpfns.as_slice());
                let request = AddToPhysmapBatch {
                    domid: target,
                    space: u16::from(draw.below(6)),
                    size: count,
                    foreign_domid: draw.domain(),
                    idxs: BUFFER,
                    gpfns: BUFFER + 0x100,
                    errs: BUFFER + 0x200,
                };
                self.op(draw, MEMORY_OP, physmap::ADD_TO_PHYSMAP_BATCH, &request, 0);
            }
            9 | 10 => {
                let request =
                    RemoveFromPhysmap { domid: target, gpfn: draw.gfn(), ..Default::default() };
                self.op(draw, MEMORY_OP, physmap::REMOVE_FROM_PHYSMAP, &request, 0);
            }
            11 => {
                let request = AcquireResource {
                    domid: draw.domain(),
                    kind: u16::from(draw.below(3)),
                    id: u32::from(draw.below(3)),
                    nr_frames: u32::from(draw.below(5)),
                    frame: u64::from(draw.below(5)),
                    frame_list: if draw.seldom(4) { 0 } else { BUFFER },
                    ..Default::default()
                };
                let gfns: Vec<u64> = (0..4).map(|_| draw.gfn()).collect();
                self.put(BUFFER, gfns.as_slice());
                self.op(draw, MEMORY_OP, physmap::ACQUIRE_RESOURCE, &request, 0);
            }
            12 => {
                let request = MemoryReservation {
                    nr_extents: u64::from(draw.half()),
                    domid: target,
                    ..Default::default()
                };
                self.op(draw, MEMORY_OP, physmap::CLAIM_PAGES, &request, 0);
            }
            _ => {
                let command = draw.long() % 64;
                let words: Vec<u64> = (0..8).map(|_| draw.register()).collect();
                self.op(draw, MEMORY_OP, command, words.as_slice(), 0);
            }
        }
    }

    /// Calls of which a guest makes few.
    pub(super) fn others(&mut self, draw: &mut Draw) {
        match draw.below(12) {
            0 | 1 => {
                let offset = if draw.seldom(4) { draw.word() } else { u32::from(draw.byte()) * 8 };
                let mfn = draw.gfn();
                self.put(BUFFER, &VcpuRegisterVcpuInfo { mfn, offset, rsvd: 0 });
                let vcpu = u64::from(draw.vcpu());
                let number = u64::from(vcpu::VCPUOP_REGISTER_VCPU_INFO);
                self.call(draw, VCPU_OP, [number, vcpu, BUFFER, 0, 0]);
            }
            2 => {
                self.put(BUFFER, &draw.register());
                let (number, vcpu) = (u64::from(draw.below(16)), u64::from(draw.vcpu()));
                self.call(draw, VCPU_OP, [number, vcpu, BUFFER, 0, 0]);
            }
            3 => {
                let ports = batch(draw, Draw::port);
                self.put(BUFFER, ports.as_slice());
                let request = SchedPoll {
                    ports: BUFFER,
                    nr_ports: u32::try_from(ports.len()).unwrap_or(0),
                    timeout: draw.long(),
                    ..Default::default()
                };
                self.op(draw, SCHED_OP, sched::SCHEDOP_POLL, &request, 0);
            }
            4 => {
                let command = [sched::SCHEDOP_SHUTDOWN, sched::SCHEDOP_SHUTDOWN_CODE];
                let command = command[usize::from(draw.below(2))];
                let reason = u32::from(draw.below(8));
                self.op(draw, SCHED_OP, command, &SchedShutdown { reason }, 0);
            }
            5 => {
                let request = SchedRemoteShutdown {
                    domain_id: draw.domain(),
                    reason: u32::from(draw.below(8)),
                    ..Default::default()
                };
                self.op(draw, SCHED_OP, sched::SCHEDOP_REMOTE_SHUTDOWN, &request, 0);
            }
            6 => {
                let request = SchedWatchdog { id: u32::from(draw.below(4)), timeout: draw.word() };
                self.op(draw, SCHED_OP, sched::SCHEDOP_WATCHDOG, &request, 0);
            }
            7 => {
                let command = draw.word() % 10;
                self.op(draw, SCHED_OP, command, &[0_u64; 4], 0);
            }
            8 => {
                let request = HvmParam {
                    domid: draw.domain(),
                    index: u32::from(draw.below(42)),
                    value: draw.long(),
                    ..Default::default()
                };
                let command = u64::from(draw.below(2));
                self.op(draw, HVM_OP, command, &request, 0);
            }
            9 => {
                let (number, kind) = (u64::from(draw.below(3)), u64::from(draw.below(8)));
                self.call(draw, VM_ASSIST, [number, kind, 0, 0, 0]);
            }
            10 => {
                let entries = batch(draw, |draw| {
                    let mut args = [0; 6];
                    args.fill_with(|| draw.register());
                    args[0] = u64::from(draw.below(16));
                    MulticallEntry { op: number(draw), result: 0, args }
                });
                self.put(BUFFER + 0x1000, entries.as_slice());
                let count = entries.len() as u64;
                self.call(draw, MULTICALL, [BUFFER + 0x1000, count, 0, 0, 0]);
            }
            _ => {
                let path = ["/", "/params\0", "/buildinfo/config\0", "/params/none\0", "//\0"];
                let path = path[usize::from(draw.below(5))];
                self.put(BUFFER, path.as_bytes());
                let (command, size) = (u64::from(draw.below(4)), u64::from(draw.half()));
                let length = path.len() as u64;
                self.call(draw, HYPFS_OP, [command, BUFFER, length, BUFFER + 0x400, size]);
            }
        }
    }

    /// Makes any call with any registers.
    pub(super) fn any_call(&mut self, draw: &mut Draw) {
        let number = if draw.seldom(16) { draw.long() } else { number(draw) };
        let mut arguments = [0; 5];
        arguments.fill_with(|| draw.register());
        if !draw.seldom(4) {
            arguments[0] = u64::from(draw.below(32));
        }
        self.call(draw, number, arguments);
    }
}

/// Makes the request of an event channel operation.
fn event(draw: &mut Draw, command: u32) -> Vec<u8> {
    let own = if draw.seldom(8) { draw.domain() } else { SELF };
    macro_rules! request {
        ($name:ident { $($field:ident: $value:expr),* }) => {{
            let mut request = $name::default();
            $(request.$field = $value;)*
            request.as_bytes().to_vec()
        }};
    }
    match command {
        event_channel::EVTCHNOP_BIND_INTERDOMAIN => {
            request!(EvtchnBindInterdomain { remote_dom: draw.domain(), remote_port: draw.port() })
        }
        event_channel::EVTCHNOP_BIND_VIRQ => {
            request!(EvtchnBindVirq { virq: draw.word() % 32, vcpu: draw.vcpu() })
        }
        event_channel::EVTCHNOP_CLOSE => request!(EvtchnClose { port: draw.port() }),
        event_channel::EVTCHNOP_SEND => request!(EvtchnSend { port: draw.port() }),
        event_channel::EVTCHNOP_STATUS => {
            request!(EvtchnStatus { dom: own, port: draw.port() })
        }
        event_channel::EVTCHNOP_ALLOC_UNBOUND => {
            request!(EvtchnAllocUnbound { dom: own, remote_dom: draw.domain() })
        }
        event_channel::EVTCHNOP_BIND_IPI => request!(EvtchnBindIpi { vcpu: draw.vcpu() }),
        event_channel::EVTCHNOP_BIND_VCPU => {
            request!(EvtchnBindVcpu { port: draw.port(), vcpu: draw.vcpu() })
        }
        event_channel::EVTCHNOP_UNMASK => request!(EvtchnUnmask { port: draw.port() }),
        event_channel::EVTCHNOP_RESET | event_channel::EVTCHNOP_RESET_CONT => {
            request!(EvtchnReset { dom: own })
        }
        event_channel::EVTCHNOP_INIT_CONTROL => {
            let offset = if draw.seldom(8) { draw.word() } else { 0 };
            request!(EvtchnInitControl {
                control_gfn: draw.gfn(),
                offset: offset,
                vcpu: draw.vcpu()
            })
        }
        event_channel::EVTCHNOP_EXPAND_ARRAY => {
            request!(EvtchnExpandArray { array_gfn: draw.gfn() })
        }
        event_channel::EVTCHNOP_SET_PRIORITY => {
            request!(EvtchnSetPriority { port: draw.port(), priority: u32::from(draw.below(20)) })
        }
        _ => vec![0; 24],
    }
}

/// The number of a hypercall that there is.
fn number(draw: &mut Draw) -> u64 {
    let numbers = [7, 12, 13, 17, 18, 20, 21, 24, 29, 32, 33, 34, 35, 36, 42, 48];
    numbers[usize::from(draw.below(16))]
}

fn map_flags(draw: &mut Draw) -> u32 {
    match draw.byte() {
        0..150 => grant::GNTMAP_HOST_MAP,
        150..230 => grant::GNTMAP_HOST_MAP | grant::GNTMAP_READONLY,
        byte => u32::from(byte % 32),
    }
}

/// Returns one side of a copy, and whether it is by a grant.
fn copy_side(draw: &mut Draw) -> (GnttabCopyPtr, bool) {
    let by_grant = draw.seldom(2);
    let frame_or_ref = if by_grant { u64::from(draw.reference()) } else { draw.gfn() };
    let domid = if by_grant || draw.seldom(16) { draw.domain() } else { SELF };
    let offset = if draw.seldom(8) { draw.half() } else { u16::from(draw.byte()) };
    (GnttabCopyPtr { frame_or_ref, domid, offset, pad: 0 }, by_grant)
}
