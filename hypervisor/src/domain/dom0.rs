//! Building Dom0: the one domain that is there before anybody can ask for it.
//!
//! Its memory is the machine's memory of the same addresses, its devices are the machine's devices.
//! What goes where is chosen by [`super::dom0_layout`], what it is told of it by
//! [`super::dom0_tree`]; here both are carried out.

use crate::boot_modules::BootModules;
use crate::command_line::Options;
use crate::domain::create::{CreateError, Request};
use crate::domain::dom0_layout::{self, Dom0Layout, LayoutError};
use crate::domain::dom0_tree::{self, Description, Dom0TreeError};
use crate::domain::{Domain, Settings};
use crate::host_tree::{GicRegisters, HostTree};
use crate::region::Region;
use crate::state::Hypervisor;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::fmt;
use core::sync::atomic::Ordering;
use hv_arch::gic;
use hv_core::addr::{Gfn, GuestAddr, MachineAddr, Mfn, PAGE_SIZE};
use hv_core::frames::FramesError;
use hv_core::grant::Limits;
use hv_core::ids::{DomId, VcpuId};
use hv_core::memory::FrameMemory;
use hv_core::p2m::{Kind, P2mError};
use hv_core::sched::Hold;
use hv_core::sched::affinity::CpuSet;
use hv_core::vgic::{self, Layout, RedistributorRegion};
use hypercall_abi::hvm;

/// Ports of a domain with the FIFO event ABI (`EVTCHN_FIFO_NR_CHANNELS`).
const LAST_PORT: u32 = (1 << 17) - 1;
/// Ports that have their memory from the start: enough for the devices of some hundred guests.
const PORTS_ROOM: u32 = 4095;
/// Bytes of one virtual processor's redistributor.
const REDISTRIBUTOR: u64 = 0x2_0000;
/// Bits of an address that every device is taken to reach where the device tree says no less.
const DMA_BITS: u8 = 32;
/// The processor state Dom0 starts in: EL1 with its own stack, interrupts masked.
const START_STATE: u64 = 0x3c5;
/// How a private interrupt is said in `HVM_PARAM_CALLBACK_IRQ`: bits 63:56 the kind, 15:8 the trigger.
const CALLBACK_PPI: u64 = 2 << 56 | 2 << 8;

/// Why there is no Dom0.
#[derive(Debug)]
pub enum Dom0Error {
    /// It has no place in memory.
    Layout(LayoutError),
    /// Its device tree cannot be made.
    Tree(Dom0TreeError),
    /// Its device tree has more bytes than there is room for.
    TreeSize(usize),
    /// The interrupt controller is none it can have.
    Gic,
    /// The hypervisor has no memory for it.
    Create(CreateError),
    /// Memory that was found free is not.
    Frames(FramesError),
    /// Its memory or devices cannot be mapped.
    Map(P2mError),
}

impl fmt::Display for Dom0Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(error) => error.fmt(f),
            Self::Tree(error) => error.fmt(f),
            Self::TreeSize(size) => write!(f, "Dom0's device tree of {size} bytes is too large"),
            Self::Gic => f.write_str("the interrupt controller has too many redistributors"),
            Self::Create(error) => write!(f, "Dom0 cannot be created ({error:?})"),
            Self::Frames(error) => write!(f, "Dom0's memory cannot be taken ({error:?})"),
            Self::Map(error) => write!(f, "Dom0's memory cannot be mapped ({error:?})"),
        }
    }
}

impl From<LayoutError> for Dom0Error {
    fn from(error: LayoutError) -> Self {
        Self::Layout(error)
    }
}

impl From<Dom0TreeError> for Dom0Error {
    fn from(error: Dom0TreeError) -> Self {
        Self::Tree(error)
    }
}

impl From<CreateError> for Dom0Error {
    fn from(error: CreateError) -> Self {
        Self::Create(error)
    }
}

impl From<FramesError> for Dom0Error {
    fn from(error: FramesError) -> Self {
        Self::Frames(error)
    }
}

impl From<P2mError> for Dom0Error {
    fn from(error: P2mError) -> Self {
        Self::Map(error)
    }
}

/// Builds Dom0 and lets it run. `blob` is the host's device tree, `free` the memory nobody uses.
pub fn build(
    hv: &Hypervisor,
    tree: &HostTree,
    blob: &[u8],
    modules: &BootModules<'_>,
    free: &[Region],
) -> Result<(), Dom0Error> {
    let options = &hv.host.options;
    let console = tree.console(options.dtuart.as_deref());
    let grants = limits(options);
    let layout = Dom0Layout::plan(&dom0_layout::Request {
        host: tree,
        free,
        memory: options.dom0_mem.of(tree.memory_size()),
        text_offset: modules.kernel.text_offset,
        kernel_size: modules.kernel.memory_size,
        ramdisk_size: modules.ramdisk.map_or(0, |ramdisk| ramdisk.len() as u64),
        ipa_bits: hv.host.ipa_bits,
        dma_bits: dma_bits(tree),
        console,
        grant_frames: u64::from(grants.frames),
    })?;
    let vcpus = vcpu_count(hv, tree);
    let domain = hv.create_domain(request(hv, tree, &layout, vcpus, grants)?)?;
    hv.create_vcpus(&domain, vcpus)?;
    give_memory(hv, &domain, &layout)?;
    give_devices(hv, &domain, tree, &layout)?;
    let bootargs = modules.dom0_command_line.as_deref().or(tree.chosen.dom0_bootargs.as_deref());
    let description = Description {
        vcpus,
        bootargs: bootargs.unwrap_or_default(),
        version: hv.host.options.interface.minor(),
    };
    let dtb = dom0_tree::build(blob, tree, &layout, &description)?;
    if dtb.len() as u64 > layout.device_tree.size {
        return Err(Dom0Error::TreeSize(dtb.len()));
    }
    load(hv, layout.kernel, modules.kernel.bytes);
    load(hv, layout.device_tree.base, &dtb);
    if let (Some(place), Some(ramdisk)) = (layout.ramdisk, modules.ramdisk) {
        load(hv, place.base, ramdisk);
    }
    set_parameters(&domain, &layout);
    for bank in &layout.banks {
        hv.print(format_args!("Dom0: memory {bank:?}"));
    }
    hv.print(format_args!(
        "Dom0: {vcpus} virtual processors, kernel at {:#x}, device tree at {:#x}",
        layout.kernel.raw(),
        layout.device_tree.base.raw()
    ));
    start(hv, &domain, &layout);
    Ok(())
}

/// Returns how many bits of an address every device reaches.
fn dma_bits(tree: &HostTree) -> u8 {
    let reached = tree.dma_end.and_then(u64::checked_ilog2);
    reached.and_then(|bits| u8::try_from(bits).ok()).map_or(DMA_BITS, |bits| bits.min(DMA_BITS))
}

fn limits(options: &Options) -> Limits {
    let defaults = Limits::DRIVER_DOMAIN;
    Limits {
        frames: options.max_grant_frames.unwrap_or(defaults.frames),
        maptrack_frames: options.max_maptrack_frames.unwrap_or(defaults.maptrack_frames),
    }
}

/// Dom0 has as many virtual processors as there are real ones, unless it was said otherwise.
fn vcpu_count(hv: &Hypervisor, tree: &HostTree) -> u32 {
    let online = hv.scheduler.lock().online().iter().count();
    let most = match &tree.gic.registers {
        GicRegisters::V2 { .. } => vgic::MAX_VCPUS_V2,
        GicRegisters::V3 { gicr, .. } => {
            let most = gicr.iter().map(|region| region.size / REDISTRIBUTOR).sum::<u64>();
            u32::try_from(most).unwrap_or(u32::MAX)
        }
    };
    let wanted = hv.host.options.dom0_max_vcpus;
    let wanted = wanted.unwrap_or_else(|| u32::try_from(online).unwrap_or(1)).max(1);
    if wanted > most {
        hv.print(format_args!(
            "Dom0 gets {most} virtual processors, not {wanted}: its interrupt controller serves no more"
        ));
    }
    wanted.min(most)
}

/// Returns where Dom0 sees its interrupt controller: where the host's is.
fn gic_layout(tree: &HostTree) -> Result<Layout, Dom0Error> {
    match &tree.gic.registers {
        GicRegisters::V2 { gicd, gicc, .. } => Ok(Layout::V2 {
            distributor: GuestAddr::new(gicd.base.raw()),
            interface: GuestAddr::new(gicc.base.raw()),
        }),
        GicRegisters::V3 { gicd, gicr, .. } => {
            let mut redistributors = ArrayVec::new();
            for region in gicr {
                let vcpus = u32::try_from(region.size / REDISTRIBUTOR).unwrap_or(u32::MAX);
                let base = GuestAddr::new(region.base.raw());
                let region = RedistributorRegion { base, vcpus };
                redistributors.try_push(region).map_err(|_| Dom0Error::Gic)?;
            }
            Ok(Layout::V3 { distributor: GuestAddr::new(gicd.base.raw()), redistributors })
        }
    }
}

fn request(
    hv: &Hypervisor,
    tree: &HostTree,
    layout: &Dom0Layout,
    vcpus: u32,
    grants: Limits,
) -> Result<Request, Dom0Error> {
    Ok(Request {
        id: DomId::DOM0,
        settings: Settings {
            max_vcpus: vcpus,
            direct_mapped: true,
            privileged: true,
            flags: 0,
            ssidref: 0,
            upcall: layout.event_interrupt,
            counter_offset: hv.machine.ticks(),
            waits_natively: hv.host.options.vwfi_native,
            spis: hv.host.spis,
        },
        max_port: LAST_PORT,
        ports_room: PORTS_ROOM,
        grants,
        handle: [0; 16],
        layout: gic_layout(tree)?,
        frame_limit: layout.banks.iter().map(|bank| bank.size / PAGE_SIZE).sum(),
    })
}

/// Gives Dom0 its memory, at the addresses it really has.
fn give_memory(hv: &Hypervisor, domain: &Domain, layout: &Dom0Layout) -> Result<(), Dom0Error> {
    for bank in &layout.banks {
        let (first, count) = (bank.base.frame(), bank.size / PAGE_SIZE);
        hv.frames.lock().alloc_exactly(domain.id, first, count)?;
        map(hv, domain, first, count, Kind::RamRw)?;
    }
    Ok(())
}

/// Maps Dom0's devices, and hands it their interrupts.
fn give_devices(
    hv: &Hypervisor,
    domain: &Arc<Domain>,
    tree: &HostTree,
    layout: &Dom0Layout,
) -> Result<(), Dom0Error> {
    {
        // Dom0 may map every address that is not memory: it decides who else gets a device.
        let mut devices = domain.devices.lock();
        devices.insert(0..1 << (u32::from(hv.host.ipa_bits) - 12));
        for bank in &tree.memory {
            devices.remove(bank.base.raw() / PAGE_SIZE..bank.end().div_ceil(PAGE_SIZE));
        }
        // Nor may anybody reach what the hypervisor itself works with.
        let console = tree.console(hv.host.options.dtuart.as_deref());
        for kept in dom0_layout::kept_registers(tree, console) {
            devices.remove(kept.base.raw() / PAGE_SIZE..kept.end().div_ceil(PAGE_SIZE));
        }
    }
    for region in &layout.mmio {
        map(hv, domain, region.base.frame(), region.size / PAGE_SIZE, Kind::DirectIo)?;
    }
    for interrupt in &layout.interrupts {
        if Some(interrupt.irq) == hv.host.serial_irq {
            continue;
        }
        let work = {
            let mut vgic = domain.vgic.lock();
            vgic.set_edge(interrupt.irq, interrupt.edge);
            vgic.assign_hardware(interrupt.irq)
        };
        hv.carry_out_hardware(domain, &work);
    }
    Ok(())
}

/// Maps frames at the addresses they really have.
fn map(
    hv: &Hypervisor,
    domain: &Domain,
    first: Mfn,
    count: u64,
    kind: Kind,
) -> Result<(), Dom0Error> {
    Ok(hv.map_frames(domain, Gfn::new(first.number()), first, count, kind)?)
}

/// Copies `bytes` to memory, and on to where a processor without caches sees them.
fn load(hv: &Hypervisor, at: MachineAddr, bytes: &[u8]) {
    let memory = hv.machine.memory();
    memory.write(at, bytes);
    memory.clean_and_invalidate(at, bytes.len());
}

fn set_parameters(domain: &Domain, layout: &Dom0Layout) {
    let mut parameters = domain.parameters.lock();
    let index = usize::try_from(hvm::HVM_PARAM_CALLBACK_IRQ).unwrap_or(0);
    if let Some(callback) = parameters.get_mut(index) {
        *callback = CALLBACK_PPI | u64::from(layout.event_interrupt.intid());
    }
}

fn start(hv: &Hypervisor, domain: &Domain, layout: &Dom0Layout) {
    let Some(first) = domain.vcpu(VcpuId(0)) else { return };
    if let Some(context) = first.context.lock().as_deref_mut() {
        *context = domain.fresh_context(VcpuId(0), layout.kernel.raw());
        context.set_spsr(START_STATE);
        context.set_gpr(0, layout.device_tree.base.raw());
    }
    first.initialised.store(true, Ordering::SeqCst);
    let ends_only_where_taken = hv.processors.len() > 1 && gic::ends_only_where_taken();
    if ends_only_where_taken {
        // A virtual processor that moved could not end its devices' interrupts any more.
        hv.print(format_args!(
            "the GICv2 ends interrupts only where they were taken, as QEMU's did before 9.1: Dom0's \
             virtual processors stay on theirs"
        ));
    }
    if hv.host.options.dom0_vcpus_pin || ends_only_where_taken {
        pin(hv, domain);
    }
    // A new domain is paused once, so this can only succeed.
    if let Ok(change) = domain.life.lock().unpause() {
        hv.apply(domain, change, Hold::PAUSED);
    }
    hv.release(first, Hold::DOWN);
}

/// Binds each virtual processor to the real one of its number (`dom0_vcpus_pin`).
fn pin(hv: &Hypervisor, domain: &Domain) {
    let count = hv.processors.len().max(1);
    for vcpu in domain.vcpus() {
        let cpu = u64::from(vcpu.who.vcpu.0) % count as u64;
        let only = CpuSet::from_bits(1 << cpu);
        let now = hv.machine.now();
        let kick = hv.scheduler.lock().set_affinity(vcpu.sched, only, CpuSet::ALL, now);
        if let Some(kick) = kick {
            hv.kick_cpu(kick);
        }
    }
}

/// Returns the ranges of memory that nobody uses.
pub fn free_regions(free: impl Iterator<Item = core::ops::Range<u64>>) -> Vec<Region> {
    free.map(|range| Region::between(range.start, range.end)).collect()
}
