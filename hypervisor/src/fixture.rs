//! A small host for tests of the handlers: memory, two processors, domains made as real ones are.

use crate::console::Console;
use crate::domain::Domain;
use crate::domain::Settings;
use crate::domain::create::Request;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::Caller;
use crate::lock::Lock;
use crate::machine::{GuestSpace, Machine};
use crate::state::{Host, HostGic, Hypervisor, Processor};
use alloc::sync::Arc;
use hv_core::addr::{Gfn, GuestAddr, Mfn};
use hv_core::frames::Frames;
use hv_core::grant::Limits;
use hv_core::guest::GuestMemory;
use hv_core::ids::{CpuId, DomId, Irq, VcpuId};
use hv_core::p2m::{Kind, Vmids};
use hv_core::sched::Scheduler;
use hv_core::time::Nanos;
use hv_core::vgic::{Layout, RedistributorRegion};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// The first frame of the host's memory.
pub(crate) const RAM: u64 = 0x4_0000;
/// How many frames it has: 64 MiB.
pub(crate) const RAM_FRAMES: u64 = 0x4000;
/// Where Dom0's memory begins, frame for frame.
pub(crate) const DOM0_RAM: u64 = 0x4_1000;
/// How many frames Dom0 has: 4 MiB.
pub(crate) const DOM0_FRAMES: u64 = 0x400;
/// How many frames a guest may have.
pub(crate) const GUEST_LIMIT: u64 = 0x800;

/// The host and what its tests need at hand.
pub(crate) struct Fixture {
    /// Everything there is.
    pub(crate) hv: Hypervisor,
    /// Whoever calls has its arguments here, from [`GuestSpace::BASE`] on.
    pub(crate) guest: GuestSpace,
}

impl Fixture {
    /// Makes a host with 64 MiB and a Dom0.
    pub(crate) fn new() -> Self {
        let host = Host {
            command_line: String::new(),
            options: Default::default(),
            counter_frequency: 1_000_000_000,
            total_frames: RAM_FRAMES,
            max_frame: RAM + RAM_FRAMES,
            ipa_bits: 40,
            spis: 32,
            gic: HostGic::V3,
            serial_irq: None,
            timer_node_frequency: 0,
        };
        let mut frames = Frames::new([(Mfn::new(RAM), RAM_FRAMES)]);
        frames.add(Mfn::new(RAM), RAM_FRAMES);
        let mut scheduler = Scheduler::new(2);
        scheduler.bring_up(CpuId(0), Nanos(0));
        scheduler.bring_up(CpuId(1), Nanos(0));
        let hv = Hypervisor {
            machine: Machine::default(),
            host,
            frames: Lock::new(frames),
            domains: Lock::default(),
            vmids: Lock::new(Vmids::new(8, 2)),
            scheduler: Lock::new(scheduler),
            processors: vec![Processor::new(CpuId(0)), Processor::new(CpuId(1))],
            console: Console::new(&Default::default()),
            guest_id: Lock::default(),
            heap: Lock::default(),
            control: Lock::default(),
            virq_handlers: Lock::default(),
            lent: Lock::default(),
            last_domid: Lock::new(0),
            wallclock: Lock::default(),
        };
        let fixture = Self { hv, guest: GuestSpace::new(0x4000) };
        let dom0 = fixture.domain(DomId::DOM0);
        let first = Mfn::new(DOM0_RAM);
        let owned = fixture.hv.frames.lock().alloc_exactly(dom0.id, first, DOM0_FRAMES);
        owned.expect("the memory is free");
        let gfn = Gfn::new(DOM0_RAM);
        let mapped = fixture.hv.map_frames(&dom0, gfn, first, DOM0_FRAMES, Kind::RamRw);
        mapped.expect("there is memory for tables");
        fixture
    }

    /// Makes a domain with two virtual processors and no memory, still paused.
    pub(crate) fn domain(&self, id: DomId) -> Arc<Domain> {
        let privileged = id == DomId::DOM0;
        let base = GuestAddr::new(0x302_0000);
        let request = Request {
            id,
            settings: Settings {
                max_vcpus: 2,
                direct_mapped: privileged,
                privileged,
                flags: 3,
                ssidref: 0,
                upcall: Irq::ppi(15),
                counter_offset: 0,
                waits_natively: false,
                spis: 32,
            },
            max_port: 1023,
            ports_room: 1023,
            grants: Limits { frames: 4, maptrack_frames: 4 },
            handle: [0; 16],
            layout: Layout::V3 {
                distributor: GuestAddr::new(0x300_1000),
                redistributors: [RedistributorRegion { base, vcpus: 128 }].into_iter().collect(),
            },
            frame_limit: if privileged { DOM0_FRAMES } else { GUEST_LIMIT },
        };
        let domain = self.hv.create_domain(request).expect("the number is free");
        self.hv.create_vcpus(&domain, 2).expect("they are as many as agreed on");
        domain
    }

    /// Returns the domain `id`, which exists.
    pub(crate) fn existing(&self, id: u16) -> Arc<Domain> {
        self.hv.domain(DomId(id)).expect("the test made it")
    }

    /// Has virtual processor 0 of `domain` call.
    pub(crate) fn call<T>(&self, domain: &Arc<Domain>, call: impl FnOnce(&Caller<'_>) -> T) -> T {
        let vcpu: &Vcpu = domain.vcpu(VcpuId(0)).expect("it has two");
        call(&Caller { hv: &self.hv, domain, vcpu, guest: &self.guest })
    }

    /// Puts a value into the caller's memory, `offset` bytes on; returns its address.
    pub(crate) fn put<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) -> u64 {
        let address = GuestSpace::BASE + offset;
        self.guest.write(address, value.as_bytes()).expect("it is in the guest's memory");
        address
    }

    /// Returns a value from the caller's memory, `offset` bytes on.
    pub(crate) fn get<T: FromBytes + FromZeros + IntoBytes>(&self, offset: u64) -> T {
        let mut value = T::new_zeroed();
        let address = GuestSpace::BASE + offset;
        self.guest.read(address, value.as_mut_bytes()).expect("it is in the guest's memory");
        value
    }
}
