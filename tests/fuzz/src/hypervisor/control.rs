//! What Dom0 asks for, of domains and of the machine; others are refused.

use super::draw::Draw;
use super::{BUFFER, Play, REQUEST};
use hypercall_abi::domctl::{
    self, BindPtIrq, CacheFlush, CreateDomain, Domctl, IomemPermission, MaxMem, MaxVcpus,
    MemoryMapping, PagingMempool, SchedCredit, SchedulerOp, SetVirqHandler, VcpuAffinity,
    VcpuContext, VuartOp, XenctlBitmap,
};
use hypercall_abi::extension::{Load, Request, VERSION};
use hypercall_abi::hypercall::{DOMCTL, EXTENSION, SYSCTL};
use hypercall_abi::sysctl::{self, CpupoolOp, DebugKeys, ReadConsole, Sysctl};
use zerocopy::{Immutable, IntoBytes};

/// The device frames that Dom0 of a campaign may give away.
const DEVICES: u64 = 1000;
/// Where guests see a device.
const DEVICE_GFN: u64 = 0x9_0000;

impl Play {
    pub(super) fn control(&mut self, draw: &mut Draw) {
        let domain = match draw.byte() {
            byte @ 0..230 => u16::from(byte % 5),
            _ => draw.domain(),
        };
        match draw.below(26) {
            0..3 => self.create(draw, domain),
            3 | 4 => self.domctl(draw, domctl::XEN_DOMCTL_DESTROYDOMAIN, domain, &[0_u8; 8]),
            5 => {
                let max = u32::from(draw.below(5));
                self.domctl(draw, domctl::XEN_DOMCTL_MAX_VCPUS, domain, &MaxVcpus { max });
            }
            6 => {
                let commands = [
                    domctl::XEN_DOMCTL_PAUSEDOMAIN,
                    domctl::XEN_DOMCTL_UNPAUSEDOMAIN,
                    domctl::XEN_DOMCTL_RESUMEDOMAIN,
                    domctl::XEN_DOMCTL_GETDOMAININFO,
                ];
                let command = commands[usize::from(draw.below(4))];
                self.domctl(draw, command, domain, &[0_u8; 8]);
            }
            7 => {
                let max_memkb = if draw.seldom(4) { draw.long() } else { u64::from(draw.half()) };
                self.domctl(draw, domctl::XEN_DOMCTL_MAX_MEM, domain, &MaxMem { max_memkb });
            }
            8 => {
                let size = if draw.seldom(4) { draw.long() } else { u64::from(draw.byte()) << 12 };
                let pool = PagingMempool { size };
                self.domctl(draw, domctl::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, domain, &pool);
            }
            9 | 10 => {
                let permission = IomemPermission {
                    first_mfn: if draw.seldom(8) {
                        draw.gfn()
                    } else {
                        u64::from(draw.byte()) * 4 % DEVICES
                    },
                    nr_mfns: u64::from(draw.below(16)),
                    allow_access: draw.below(2),
                    ..Default::default()
                };
                self.domctl(draw, domctl::XEN_DOMCTL_IOMEM_PERMISSION, domain, &permission);
                let mapping = MemoryMapping {
                    first_gfn: if draw.seldom(4) { draw.gfn() } else { DEVICE_GFN },
                    first_mfn: permission.first_mfn,
                    nr_mfns: permission.nr_mfns,
                    add_mapping: u32::from(draw.below(2)),
                    ..Default::default()
                };
                self.domctl(draw, domctl::XEN_DOMCTL_MEMORY_MAPPING, domain, &mapping);
            }
            11 | 12 => {
                let command = [domctl::XEN_DOMCTL_BIND_PT_IRQ, domctl::XEN_DOMCTL_UNBIND_PT_IRQ];
                let irq = u16::from(draw.below(16)) + 32;
                let bind = BindPtIrq {
                    machine_irq: irq.into(),
                    irq_type: domctl::PT_IRQ_TYPE_SPI,
                    spi: if draw.seldom(8) { draw.half() } else { irq },
                    ..Default::default()
                };
                let command = command[usize::from(draw.below(2))];
                self.domctl(draw, command, domain, &bind);
            }
            13 => {
                let set = SetVirqHandler { virq: u32::from(draw.below(26)) };
                self.domctl(draw, domctl::XEN_DOMCTL_SET_VIRQ_HANDLER, domain, &set);
            }
            14 => {
                let flush = CacheFlush { start_pfn: draw.gfn(), nr_pfns: draw.long() };
                self.domctl(draw, domctl::XEN_DOMCTL_CACHEFLUSH, domain, &flush);
            }
            15 => {
                let uart = VuartOp {
                    gfn: draw.gfn(),
                    console_domid: if draw.seldom(8) { draw.domain() } else { 0 },
                    cmd: u32::from(draw.seldom(16)),
                    ..Default::default()
                };
                self.domctl(draw, domctl::XEN_DOMCTL_VUART_OP, domain, &uart);
            }
            16 => {
                let command =
                    [domctl::XEN_DOMCTL_SETVCPUCONTEXT, domctl::XEN_DOMCTL_GETVCPUCONTEXT];
                let registers: Vec<u64> = (0..44).map(|_| draw.long()).collect();
                self.put(BUFFER, registers.as_slice());
                if !draw.seldom(4) {
                    // It is online, at EL1h.
                    self.put(BUFFER, &1_u64);
                    self.put(BUFFER + 264, &0x3c5_u64);
                }
                let context = VcpuContext { vcpu: draw.vcpu(), pad: 0, ctxt: BUFFER };
                let command = command[usize::from(draw.below(2))];
                self.domctl(draw, command, domain, &context);
            }
            17 => {
                let credit = SchedCredit { weight: draw.half(), cap: draw.half() % 300 };
                let wanted = SchedulerOp {
                    sched_id: domctl::XEN_SCHEDULER_CREDIT2,
                    cmd: u32::from(draw.below(5)),
                    credit,
                    rest: [0; 12],
                };
                self.domctl(draw, domctl::XEN_DOMCTL_SCHEDULER_OP, domain, &wanted);
            }
            18 => {
                let command =
                    [domctl::XEN_DOMCTL_SETVCPUAFFINITY, domctl::XEN_DOMCTL_GETVCPUAFFINITY];
                let map = XenctlBitmap { bitmap: BUFFER, nr_bits: 8, pad: 0 };
                self.put(BUFFER, &u64::from(draw.byte()));
                let affinity = VcpuAffinity {
                    vcpu: draw.vcpu(),
                    flags: u32::from(draw.below(8)),
                    cpumap_hard: map,
                    cpumap_soft: map,
                };
                let command = command[usize::from(draw.below(2))];
                self.domctl(draw, command, domain, &affinity);
            }
            19 | 20 => {
                let operation = CpupoolOp {
                    op: u32::from(draw.below(9)),
                    cpupool_id: u32::from(draw.below(4)),
                    sched_id: domctl::XEN_SCHEDULER_CREDIT2,
                    domid: domain.into(),
                    cpu: u32::from(draw.below(3)),
                    cpumap: XenctlBitmap { bitmap: BUFFER, nr_bits: 8, pad: 0 },
                    ..Default::default()
                };
                self.sysctl(draw, sysctl::XEN_SYSCTL_CPUPOOL_OP, &operation);
            }
            21 => {
                let keys = DebugKeys { keys: BUFFER, nr_keys: u32::from(draw.below(9)), pad: 0 };
                self.put(BUFFER, b"hqrmegiaR");
                self.sysctl(draw, sysctl::XEN_SYSCTL_DEBUG_KEYS, &keys);
            }
            22 => {
                let read = ReadConsole {
                    clear: draw.below(2),
                    incremental: draw.below(2),
                    index: draw.word(),
                    buffer: BUFFER,
                    count: u32::from(draw.half()),
                    ..Default::default()
                };
                self.sysctl(draw, sysctl::XEN_SYSCTL_READCONSOLE, &read);
            }
            23 => {
                let request = Request::Load(Load {
                    domain,
                    to: draw.address(),
                    from: draw.register(),
                    length: u64::from(draw.half()),
                });
                let mut bytes = [0; 80];
                let encoded = encode(&(VERSION, request), &mut bytes);
                self.put(REQUEST, &bytes);
                self.call(draw, EXTENSION, [REQUEST, encoded, 0, 0, 0]);
            }
            24 => {
                let command = draw.word() % 32;
                let payload = payload(draw);
                self.sysctl(draw, command, &payload);
            }
            _ => {
                let command = draw.word() % 96;
                let payload = payload(draw);
                self.domctl(draw, command, domain, &payload);
            }
        }
    }

    fn create(&mut self, draw: &mut Draw, domain: u16) {
        let wanted = CreateDomain {
            flags: match draw.byte() {
                0..220 => domctl::XEN_DOMCTL_CDF_HVM | domctl::XEN_DOMCTL_CDF_HAP,
                byte => u32::from(byte % 64),
            },
            max_vcpus: if draw.seldom(16) { draw.word() % 200 } else { 2 },
            max_evtchn_port: if draw.seldom(16) { draw.word() } else { 1023 },
            max_grant_frames: if draw.seldom(8) { i32::from(draw.byte()) } else { 4 },
            max_maptrack_frames: if draw.seldom(8) { i32::from(draw.byte()) } else { 4 },
            grant_opts: if draw.seldom(16) { draw.word() } else { 1 },
            cpupool_id: u32::from(draw.below(3) / 2),
            ..CreateDomain::default()
        };
        self.domctl(draw, domctl::XEN_DOMCTL_CREATEDOMAIN, domain, &wanted);
        // It is of use with processors and when it may run, and mostly has both.
        if !draw.seldom(4) {
            let domain = self.get::<Domctl>(REQUEST).domain;
            self.domctl(draw, domctl::XEN_DOMCTL_MAX_VCPUS, domain, &MaxVcpus { max: 2 });
            let max_memkb = 4096;
            self.domctl(draw, domctl::XEN_DOMCTL_MAX_MEM, domain, &MaxMem { max_memkb });
            self.domctl(draw, domctl::XEN_DOMCTL_UNPAUSEDOMAIN, domain, &[0_u8; 8]);
        }
    }

    fn domctl<T: IntoBytes + Immutable>(
        &mut self,
        draw: &mut Draw,
        command: u32,
        domain: u16,
        payload: &T,
    ) {
        self.put(REQUEST, &Domctl::with(command, domain, payload));
        self.call(draw, DOMCTL, [REQUEST, 0, 0, 0, 0]);
    }

    fn sysctl<T: IntoBytes + Immutable>(&mut self, draw: &mut Draw, command: u32, payload: &T) {
        self.put(REQUEST, &Sysctl::with(command, payload));
        self.call(draw, SYSCTL, [REQUEST, 0, 0, 0, 0]);
    }
}

/// Encodes a request as the toolstack does; returns its length.
fn encode<T: serde::Serialize>(value: &T, bytes: &mut [u8]) -> u64 {
    postcard::to_slice(value, bytes).map_or(0, |used| used.len() as u64)
}

fn payload(draw: &mut Draw) -> [u64; 16] {
    let mut words = [0; 16];
    words.fill_with(|| draw.register());
    words
}
