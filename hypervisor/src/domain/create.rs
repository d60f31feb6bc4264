//! Making a domain: everything it has before its memory and its first instruction.
//!
//! Dom0 and every guest are made here; what differs is in the [`Request`].

use crate::domain::memory::Tables;
use crate::domain::vcpu::Vcpu;
use crate::domain::{Domain, PARAMETERS, Settings};
use crate::lock::Lock;
use crate::machine::VcpuContext;
use crate::room::{NoRoom, OVERHEAD};
use crate::state::{HostGic, Hypervisor};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use hv_core::addr::{Gfn, GuestAddr, PAGE_SIZE};
use hv_core::evtchn::PortTable;
use hv_core::frames::FramesError;
use hv_core::grant::{GrantTable, Limits};
use hv_core::ids::{DomId, Irq, VcpuId, VcpuRef};
use hv_core::lifecycle::{Dying, Lifecycle};
use hv_core::memory::FrameMemory;
use hv_core::p2m::{Kind, P2m, P2mConfig, P2mError};
use hv_core::sched::Hold;
use hv_core::vgic::{self, INTERFACE_SIZE, Layout, Vgic, VgicConfig};
use hypercall_abi::errno::Errno;
use spin::Once;

/// The virtual timer's interrupt, which every domain has as its own.
const VIRTUAL_TIMER: Irq = Irq::ppi(11);
/// Marks a processor that no virtual one of the domain has run on.
const NOBODY: u32 = u32::MAX;

/// The page of `struct shared_info`.
const SHARED_PAGES: u64 = 1;

/// Allocations that a domain consists of, and each of its virtual processors, at most.
const DOMAIN_PIECES: usize = 16;
const VCPU_PIECES: usize = 2;
/// What the counts of references in an `Arc` take.
const ARC: usize = 2 * size_of::<usize>();

/// What a domain is to be.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number, which nobody else has.
    pub id: DomId,
    /// What does not change later.
    pub settings: Settings,
    /// The highest event channel port it may open.
    pub max_port: u32,
    /// Ports up to this one have their memory from the start.
    pub ports_room: u32,
    /// How large its grant table may grow.
    pub grants: Limits,
    /// Its name for the tools.
    pub handle: [u8; 16],
    /// Where it sees its interrupt controller.
    pub layout: Layout,
    /// How many frames it may own.
    pub frame_limit: u64,
}

/// Why a domain could not be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CreateError {
    /// There is a domain of this number.
    Exists,
    /// No memory for what it needs in the hypervisor.
    NoMemory,
    /// Another number of virtual processors was agreed on.
    WrongVcpus,
    /// It is being destroyed.
    Dying,
}

impl From<CreateError> for Errno {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Exists => Self::EEXIST,
            CreateError::NoMemory => Self::ENOMEM,
            CreateError::WrongVcpus => Self::EINVAL,
            CreateError::Dying => Self::ESRCH,
        }
    }
}

impl From<NoRoom> for CreateError {
    fn from(_: NoRoom) -> Self {
        Self::NoMemory
    }
}

impl From<FramesError> for CreateError {
    fn from(_: FramesError) -> Self {
        Self::NoMemory
    }
}

impl From<P2mError> for CreateError {
    fn from(_: P2mError) -> Self {
        Self::NoMemory
    }
}

impl Hypervisor {
    /// Makes a domain without memory or virtual processors, paused once, and puts it on the list.
    pub fn create_domain(&self, request: Request) -> Result<Arc<Domain>, CreateError> {
        let id = request.id;
        if self.domain(id).is_some() {
            return Err(CreateError::Exists);
        }
        let interface = match request.layout {
            Layout::V2 { interface, .. } => Some(interface),
            Layout::V3 { .. } => None,
        };
        self.open_account(&request)?;
        let made = self.make_domain(request);
        if made.is_err() {
            self.frames.lock().close(id);
        }
        let domain = made?;
        if let Err(error) = self.map_interface(&domain, interface) {
            self.unmake(&domain);
            return Err(error);
        }
        // Nobody has made one of this number meanwhile: control operations come one at a time. There is
        // room for it in the list.
        self.domains.lock().insert(id, Arc::clone(&domain));
        let wallclock = *self.wallclock.lock();
        domain.write_wallclock(&self.machine, wallclock);
        Ok(domain)
    }

    /// Opens the domain's account, sets frames aside for its grant table, and makes room for it in the
    /// list.
    fn open_account(&self, request: &Request) -> Result<(), CreateError> {
        let id = request.id;
        let grants = request.grants.frames_at_most() + SHARED_PAGES;
        let _alone = self.heap.lock();
        self.domains.lock().try_reserve(1).map_err(|_| CreateError::NoMemory)?;
        let opened = self.frames.lock().open(id, request.frame_limit, grants);
        if opened.is_err() {
            let free = self.frames.lock().available();
            self.print(format_args!(
                "{id} cannot be made: {grants} frames are to be set aside for its grant table, and \
                 {free} are free; a lower max_grant_frames takes less"
            ));
        }
        Ok(opened?)
    }

    /// Makes what the domain has in the hypervisor's heap.
    fn make_domain(&self, request: Request) -> Result<Arc<Domain>, CreateError> {
        let (id, bytes) = (request.id, self.bytes_of(&request));
        self.with_room(bytes, || Ok(Arc::new(self.assemble(request, bytes)?))).unwrap_or_else(
            |NoRoom| {
                let free = self.machine.heap_free();
                self.print(format_args!(
                    "{id} cannot be made: it takes {bytes} bytes of the hypervisor's heap, of which \
                     {free} are free; fewer event channels, grant frames or vCPUs take less"
                ));
                Err(CreateError::NoMemory)
            },
        )
    }

    fn assemble(&self, request: Request, heap: usize) -> Result<Domain, CreateError> {
        let Request { id, settings, max_port, ports_room, grants, handle, layout, .. } = request;
        let memory = self.machine.memory();
        let config = P2mConfig::new(self.host.ipa_bits);
        let (shared_info, p2m) = {
            let mut frames = self.frames.lock();
            let shared = frames.alloc_shared(id)?.first;
            match frames.alloc_hypervisor(config.root_order()) {
                Ok(root) => (shared, P2m::new(memory, root.first, root.contents, config)),
                Err(error) => {
                    let _: hv_core::frames::Put = frames.put(shared);
                    return Err(error.into());
                }
            }
        };
        memory.zero(shared_info);
        let shared_info = shared_info.base();
        let mut vgic =
            Vgic::new(VgicConfig { vcpus: settings.max_vcpus, spis: settings.spis, layout });
        // A private interrupt asks nothing of the physical distributor.
        let _: vgic::HardwareWork = vgic.assign_hardware(VIRTUAL_TIMER);
        Ok(Domain {
            id,
            heap,
            ports: Lock::new(PortTable::new(
                id,
                max_port,
                ports_room,
                settings.max_vcpus,
                shared_info,
            )),
            grants: Lock::new(GrantTable::new(grants)),
            p2m: Lock::new(p2m),
            vgic: Lock::new(vgic),
            uart: Lock::default(),
            life: Lock::new(Lifecycle::default()),
            vcpus: Once::new(),
            parameters: Lock::new([0; PARAMETERS]),
            shared_info,
            handle: Lock::new(handle),
            watchdogs: Lock::default(),
            time_offset: Lock::new(0),
            complaints: Lock::default(),
            devices: Lock::default(),
            vmid: Lock::new(None),
            teardown: Lock::default(),
            last_vcpu: self.processors.iter().map(|_| AtomicU32::new(NOBODY)).collect(),
            settings,
        })
    }

    /// Shows the domain the virtual processor interface of a GICv2, if it is to see one at `interface`.
    fn map_interface(
        &self,
        domain: &Domain,
        interface: Option<GuestAddr>,
    ) -> Result<(), CreateError> {
        let (Some(seen), HostGic::V2 { interface: real }) = (interface, self.host.gic) else {
            return Ok(());
        };
        let (first, count) = (Gfn::new(seen.raw() / PAGE_SIZE), INTERFACE_SIZE / PAGE_SIZE);
        Ok(self.map_frames(domain, first, real.frame(), count, Kind::Device)?)
    }

    /// Takes back what a domain has that nobody knows of yet.
    fn unmake(&self, domain: &Domain) {
        let mut tables = Tables::of(self, domain);
        let mut p2m = domain.p2m.lock();
        // Nothing in it holds a frame: only devices are mapped so far.
        while !p2m.teardown(self.machine.memory(), &mut tables, u32::MAX, |_| {}) {}
        let root = p2m.close();
        let mut frames = self.frames.lock();
        if let Some((first, count)) = root {
            frames.free_hypervisor(first, count);
        }
        let _: hv_core::frames::Put = frames.put(domain.shared_info.frame());
        frames.close(domain.id);
    }

    /// Makes the domain's `count` virtual processors, all switched off.
    ///
    /// Asking again for as many as there are changes nothing.
    pub fn create_vcpus(&self, domain: &Domain, count: u32) -> Result<(), CreateError> {
        if count != domain.settings.max_vcpus {
            return Err(CreateError::WrongVcpus);
        }
        // Held to the end, so that nobody makes them twice, and whoever pauses or ends the domain either
        // did so before or finds them.
        let life = domain.life.lock();
        if life.dying() != Dying::No {
            return Err(CreateError::Dying);
        }
        if !domain.vcpus().is_empty() {
            return Ok(());
        }
        self.make_room_for_vcpus(count)?;
        let make = || self.make_vcpus(domain, &life, count);
        let vcpus = self.with_room(bytes_of_vcpus(count), make)?;
        domain.vcpus.call_once(|| vcpus);
        Ok(())
    }

    /// Makes room for `count` more virtual processors where they wait and where their deadlines do.
    fn make_room_for_vcpus(&self, count: u32) -> Result<(), CreateError> {
        let _alone = self.heap.lock();
        let all = {
            let mut scheduler = self.scheduler.lock();
            if !scheduler.make_room(count as usize) {
                return Err(CreateError::NoMemory);
            }
            scheduler.count().saturating_add(count as usize)
        };
        if !self.processors.iter().all(|processor| processor.timers.lock().make_room(all)) {
            return Err(CreateError::NoMemory);
        }
        Ok(())
    }

    fn make_vcpus(&self, domain: &Domain, life: &Lifecycle, count: u32) -> Vec<Arc<Vcpu>> {
        let now = self.machine.now();
        let mut holds = Hold::DOWN;
        holds.set(Hold::PAUSED, life.is_paused());
        let make = |vcpu| {
            let who = VcpuRef { dom: domain.id, vcpu: VcpuId(vcpu) };
            let sched = self.scheduler.lock().add(who, holds, now);
            Arc::new(Vcpu::new(who, sched, domain.fresh_context(who.vcpu, 0)))
        };
        (0..count).map(make).collect()
    }

    /// Returns how many bytes of the heap a domain takes, all that it may ever make of its limits
    /// included.
    fn bytes_of(&self, request: &Request) -> usize {
        let vcpus = request.settings.max_vcpus;
        ARC + size_of::<Domain>()
            + PortTable::bytes(request.max_port, request.ports_room, vcpus)
            + request.grants.bytes()
            + Vgic::bytes(vcpus, request.settings.spis)
            + self.processors.len() * size_of::<AtomicU32>()
            + DOMAIN_PIECES * OVERHEAD
    }
}

/// Returns how many bytes of the heap `count` virtual processors take.
const fn bytes_of_vcpus(count: u32) -> usize {
    let one = ARC + size_of::<Vcpu>() + size_of::<VcpuContext>() + VCPU_PIECES * OVERHEAD;
    count as usize * (one + size_of::<Arc<Vcpu>>()) + OVERHEAD
}

impl Domain {
    /// Returns the registers of a virtual processor that starts at `pc`.
    pub fn fresh_context(&self, vcpu: VcpuId, pc: u64) -> VcpuContext {
        const MULTIPROCESSOR: u64 = 1 << 31;
        let mut context = VcpuContext::new(pc, MULTIPROCESSOR | vgic::affinity(vcpu));
        context.set_counter_offset(self.settings.counter_offset);
        if self.settings.waits_natively {
            context.trap_waiting(false);
        }
        context
    }
}
