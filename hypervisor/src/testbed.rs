//! A hypervisor on a machine of values, with a few domains: what the tests of handlers start from, and
//! what plays whole campaigns of calls on the host.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use crate::command_line::Options;
use crate::console::Console;
use crate::domain::create::Request;
use crate::domain::time::Wallclock;
use crate::domain::{Domain, Settings};
use crate::hypercall::{Arguments, Caller, Outcome, dispatch};
use crate::lock::Lock;
use crate::machine::{GuestSpace, Machine, Memory};
use crate::state::{Host, HostGic, Hypervisor, Processor};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use hv_core::addr::{Gfn, GuestAddr, MachineAddr, Mfn};
use hv_core::frames::Frames;
use hv_core::grant::Limits;
use hv_core::guest::{GuestMemory, Handle};
use hv_core::ids::{CpuId, DomId, DomMap, Irq, VcpuId};
use hv_core::p2m::{Kind, Vmids};
use hv_core::sched::{Hold, Scheduler};
use hv_core::vgic::{Layout, RedistributorRegion};
use hypercall_abi::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const CPUS: usize = 2;
/// The first frame of the host's memory.
pub const RAM: Mfn = Mfn::new(0x4_0000);
/// How many frames it has: 64 MiB.
pub const RAM_FRAMES: u64 = 0x4000;
/// Frames each domain has, from guest frame [`GUEST_RAM`] on.
pub const DOMAIN_FRAMES: u64 = 64;
/// The first guest frame of a domain's memory.
pub const GUEST_RAM: Gfn = Gfn::new(0x4_0000);
/// Where the calling guest keeps its requests.
pub const REQUEST: u64 = GuestSpace::BASE + 0x100;

/// A hypervisor and the memory of whichever guest calls it.
#[derive(Debug)]
pub struct Testbed {
    /// Everything there is.
    pub hv: Hypervisor,
    /// The caller's memory, as it addresses it.
    pub guest: GuestSpace,
}

impl Default for Testbed {
    fn default() -> Self {
        Self::new()
    }
}

impl Testbed {
    /// Makes Dom0 and domains 1 and 2, each with two virtual processors and some memory.
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    /// Does as [`Self::new`], with options.
    pub fn with(options: Options) -> Self {
        Self::with_frames(options, RAM_FRAMES)
    }

    /// Does as [`Self::with`], on a host with `ram` frames of memory.
    pub fn with_frames(options: Options, ram: u64) -> Self {
        let mut frames = Frames::new([(RAM, ram)]);
        frames.add(RAM, ram);
        let mut scheduler = Scheduler::new(CPUS);
        let mut processors = Vec::new();
        for cpu in 0..CPUS {
            let cpu = CpuId(u32::try_from(cpu).unwrap());
            scheduler.bring_up(cpu, hv_core::time::Nanos(0));
            processors.push(Processor::new(cpu));
        }
        let hv = Hypervisor {
            machine: Machine::with_ram(RAM, ram),
            host: Host {
                command_line: "dom0_mem=512M console=dtuart".into(),
                options,
                counter_frequency: 1_000_000_000,
                total_frames: ram,
                max_frame: RAM.number() + ram,
                ipa_bits: 40,
                spis: 64,
                gic: HostGic::V3,
                serial_irq: None,
                timer_node_frequency: 0,
            },
            frames: Lock::new(frames),
            domains: Lock::new(DomMap::default()),
            vmids: Lock::new(Vmids::new(8, CPUS)),
            scheduler: Lock::new(scheduler),
            processors,
            console: Console::new(&Default::default()),
            guest_id: Lock::default(),
            heap: Lock::default(),
            control: Lock::default(),
            virq_handlers: Lock::default(),
            lent: Lock::default(),
            last_domid: Lock::new(0),
            wallclock: Lock::new(Wallclock::default()),
        };
        let bed = Self { hv, guest: GuestSpace::new(0x8000) };
        for id in 0..3 {
            bed.make(DomId(id));
        }
        bed
    }

    fn make(&self, id: DomId) {
        let mut redistributors = ArrayVec::new();
        redistributors.push(RedistributorRegion { base: GuestAddr::new(0x0302_0000), vcpus: 128 });
        let request = Request {
            id,
            settings: Settings {
                max_vcpus: 2,
                direct_mapped: false,
                privileged: id == DomId::DOM0,
                flags: 3,
                ssidref: 0,
                upcall: Irq::ppi(15),
                counter_offset: 0,
                waits_natively: false,
                spis: 32,
            },
            max_port: if id == DomId::DOM0 { u32::MAX } else { 1023 },
            ports_room: 1023,
            grants: Limits::GUEST,
            handle: [u8::try_from(id.0).unwrap(); 16],
            layout: Layout::V3 { distributor: GuestAddr::new(0x0300_1000), redistributors },
            frame_limit: 1024,
        };
        let domain = self.hv.create_domain(request).unwrap();
        self.hv.create_vcpus(&domain, 2).unwrap();
        let block = self.hv.frames.lock().alloc_for(id, 6, None).unwrap();
        self.hv.map_frames(&domain, GUEST_RAM, block.first, DOMAIN_FRAMES, Kind::RamRw).unwrap();
        let _ = domain.life.lock().unpause().unwrap();
        for vcpu in domain.vcpus() {
            self.hv.release(vcpu, Hold::DOWN | Hold::PAUSED);
        }
    }

    /// Returns domain `id`.
    pub fn domain(&self, id: u16) -> Arc<Domain> {
        self.hv.domain(DomId(id)).unwrap()
    }

    /// Returns the machine's memory.
    pub fn memory(&self) -> &Memory {
        self.hv.machine.memory()
    }

    /// Returns where page `index` of a domain's memory is.
    pub fn page(&self, domain: u16, index: u64) -> MachineAddr {
        let domain = self.domain(domain);
        let gfn = GUEST_RAM.checked_add(index).unwrap();
        let mapping = domain.p2m.lock().lookup(self.memory(), gfn).unwrap();
        mapping.mfn.base()
    }

    /// Makes hypercall `number` from processor 0 of `domain`.
    pub fn call(&self, domain: u16, number: u64, arguments: Arguments) -> Outcome {
        let domain = self.domain(domain);
        let vcpu = domain.vcpu(VcpuId(0)).unwrap();
        let caller = Caller { hv: &self.hv, domain: &domain, vcpu, guest: &self.guest };
        dispatch(&caller, number, &arguments)
    }

    /// Puts `request` where the caller keeps its requests.
    pub fn put<T: IntoBytes + Immutable + ?Sized>(&self, request: &T) {
        self.guest.write(REQUEST, request.as_bytes()).unwrap();
    }

    /// Reads the reply from there.
    pub fn reply<T: FromBytes + Immutable + IntoBytes>(&self) -> T {
        Handle::<T>::from_register(REQUEST).load(&self.guest).unwrap()
    }

    /// Makes an operation on one structure: command in x0, its address in x1.
    pub fn op<T: IntoBytes + Immutable>(
        &self,
        domain: u16,
        number: u64,
        command: u32,
        request: &T,
    ) -> Result<u64, Errno> {
        self.put(request);
        match self.call(domain, number, [u64::from(command), REQUEST, 0, 0, 0]) {
            Outcome::Done(result) => result,
            Outcome::Again(_) => panic!("nothing interrupts"),
        }
    }

    /// Makes an array operation on one element: its count, one, in x2.
    pub fn array_op<T: IntoBytes + Immutable>(
        &self,
        domain: u16,
        number: u64,
        command: u32,
        request: &T,
    ) -> Result<u64, Errno> {
        self.put(request);
        match self.call(domain, number, [u64::from(command), REQUEST, 1, 0, 0]) {
            Outcome::Done(result) => result,
            Outcome::Again(_) => panic!("nothing interrupts"),
        }
    }

    /// Makes every write to the calling guest's memory fail, or not.
    pub fn write_protect(&self, on: bool) {
        self.guest.read_only.store(on, core::sync::atomic::Ordering::Relaxed);
    }

    /// Makes an interrupt wait, or not.
    pub fn interrupt(&self, on: bool) {
        self.hv.machine.interrupted.store(on, core::sync::atomic::Ordering::Relaxed);
    }
}
