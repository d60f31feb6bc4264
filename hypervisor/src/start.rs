//! The boot order: one step a line, each where it is because the next one needs it.

use crate::board::{Board, SerialModel};
use crate::boot_modules::{self, ModuleError};
use crate::command_line::Options;
use crate::console::Console;
use crate::domain::dom0::{self, Dom0Error};
use crate::host_tree::{Conduit, EnableMethod, GicRegisters, HostTree, SerialKind, TreeError};
use crate::lock::Lock;
use crate::machine::{KICK, Machine, PowerSwitch};
use crate::range_set::RangeSet;
use crate::region::Region;
use crate::state::{Host, HostGic, Hypervisor, Processor};
use crate::vcpu::Runner;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use hv_arch::direct_map::{self, BootRegion, ClaimError};
use hv_arch::gic::GicError;
use hv_arch::uart::{Emergency, Model, SerialPort as Serial};
use hv_arch::watchdog::Watchdog;
use hv_arch::{BootInfo, gic, power, stage2, timer};
use hv_core::addr::{MachineAddr, Mfn, PAGE_SIZE};
use hv_core::frames::Frames;
use hv_core::idregs::IdRegisters;
use hv_core::ids::{CpuId, DomMap};
use hv_core::p2m::{P2mConfig, Vmids};
use hv_core::sched::Scheduler;
use spin::Once;

/// Heap beside the frame table: this, or a part of all memory if that is more.
const HEAP: u64 = 8 << 20;
const HEAP_PART: u64 = 256;

static HYPERVISOR: Once<Hypervisor> = Once::new();

/// Why the machine cannot be started.
#[derive(Debug)]
enum StartError {
    Tree(TreeError),
    NoTree(ClaimError),
    Memory(Region, ClaimError),
    NoHeap,
    NoSerialPort,
    SerialPort,
    Board(&'static str, String),
    Watchdog,
    Gic(GicError),
    Modules(ModuleError),
    Dom0(Dom0Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::NoTree(error) => write!(f, "the loader gave no device tree ({error:?})"),
            Self::Memory(bank, error) => write!(f, "memory at {bank:?} is unusable ({error:?})"),
            Self::NoHeap => f.write_str("there is too little memory for the hypervisor itself"),
            Self::NoSerialPort => {
                f.write_str("the device tree names no PL011 or mini-UART as serial port")
            }
            Self::SerialPort => f.write_str("the serial port cannot be mapped"),
            Self::Board(wanted, found) => write!(
                f,
                "this image is for {wanted}, and the device tree is of another board ({found})"
            ),
            Self::Watchdog => f.write_str("the watchdog cannot be mapped"),
            Self::Gic(error) => write!(f, "the interrupt controller is unusable ({error:?})"),
            Self::Modules(error) => error.fmt(f),
            Self::Dom0(error) => error.fmt(f),
        }
    }
}

/// Starts the machine, which is to be a `board`; never comes back.
pub fn start(boot: BootInfo, board: &'static Board) -> ! {
    // What goes wrong before the device tree has named a serial port is said at all that there may be.
    for (kind, at) in board.early_serial {
        let _ = Serial::also(model(*kind), MachineAddr::new(*at));
    }
    match bring_up(&boot, board) {
        Ok(hv) => run(hv, CpuId(0)),
        Err(error) => {
            use core::fmt::Write;
            // If even this fails there is nobody to tell.
            let _ = writeln!(Emergency, "(Domus) cannot start: {error}");
            power::halt()
        }
    }
}

fn bring_up(boot: &BootInfo, board: &'static Board) -> Result<&'static Hypervisor, StartError> {
    let blob = direct_map::device_tree(boot.device_tree).map_err(StartError::NoTree)?.leak();
    let tree = HostTree::parse(blob).map_err(StartError::Tree)?;
    if !board.is_described_by(&tree.compatible) {
        let found = tree.compatible.first().cloned().unwrap_or_default();
        return Err(StartError::Board(board.name, found));
    }
    // First of all a place to print to.
    let (passed, _) = Options::parse(tree.command_line());
    let (serial, serial_irq) = open_serial(&tree, passed.dtuart.as_deref())?;
    let mut free = map_memory(&tree, boot)?;
    take_heap(&tree, &mut free)?;
    let modules = take_modules(&tree, &mut free)?;
    let found = boot_modules::find(&tree, |wanted| modules.bytes(wanted));
    let found = found.map_err(StartError::Modules)?;
    let (options, complaints) = Options::parse(&command_line(&tree, &found.command_line));
    let frames = collect_frames(&tree, &free);
    start_interrupts(&tree)?;
    let power = power_switch(&tree, board)?;
    stage2::choose(P2mConfig::for_machine(stage2::address_bits(), tree.end()));
    let processors = processors(&tree, &options);
    let console = Console::new(&options);
    let hv = HYPERVISOR.call_once(|| Hypervisor {
        machine: Machine::new(serial, power),
        host: Host {
            command_line: command_line(&tree, &found.command_line),
            options,
            counter_frequency: timer::frequency(),
            total_frames: tree.memory_size() / PAGE_SIZE,
            max_frame: tree.memory.last().map_or(0, |bank| bank.end() / PAGE_SIZE),
            ipa_bits: stage2::config().ipa_bits,
            spis: gic::interrupt_count().saturating_sub(32),
            gic: host_gic(&tree),
            serial_irq,
            timer_node_frequency: tree.timer.clock_frequency.unwrap_or(0),
        },
        frames: Lock::new(frames),
        domains: Lock::new(DomMap::default()),
        vmids: Lock::new(Vmids::new(stage2::vmid_bits(), processors.len())),
        scheduler: Lock::new(Scheduler::new(processors.len())),
        console,
        guest_id: Lock::new(own_id()),
        heap: Lock::default(),
        control: Lock::default(),
        virq_handlers: Lock::default(),
        lent: Lock::default(),
        last_domid: Lock::new(0),
        wallclock: Lock::default(),
        processors,
    });
    greet(hv, &tree);
    for complaint in complaints {
        hv.print(format_args!("command line: {complaint}"));
    }
    if let Some(irq) = hv.host.serial_irq {
        hv.machine.listen_to_serial(irq);
    }
    hv.scheduler.lock().bring_up(CpuId(0), hv.machine.now());
    start_others(hv, &tree);
    let unused = dom0::free_regions(free.iter());
    dom0::build(hv, &tree, blob, &found, &unused).map_err(StartError::Dom0)?;
    drop(found);
    let mut frames = hv.frames.lock();
    for (region, _) in modules.release() {
        give_frames(&mut frames, region.base.raw()..region.end());
    }
    drop(frames);
    Ok(hv)
}

/// Joins the options that came with Dom0 and those the loader passed, which so have the last word.
fn command_line(tree: &HostTree, bundled: &str) -> String {
    let passed = tree.command_line();
    if bundled.is_empty() { passed.to_string() } else { format!("{bundled} {passed}") }
}

/// Modules whose memory nobody else gets before it is released.
struct Modules(Vec<(Region, BootRegion)>);

impl Modules {
    fn bytes(&self, wanted: Region) -> Option<&[u8]> {
        let found = self.0.iter().find(|(region, _)| *region == wanted);
        found.map(|(_, claim)| claim.bytes())
    }

    /// Gives the memory back; returns where it is.
    fn release(self) -> impl Iterator<Item = (Region, u64)> {
        self.0.into_iter().map(|(region, claim)| {
            let (_, len) = claim.release();
            (region.pages_around(), len)
        })
    }
}

/// Takes the memory of all modules.
fn take_modules(tree: &HostTree, free: &mut RangeSet) -> Result<Modules, StartError> {
    let mut modules = Vec::new();
    for region in boot_modules::regions(tree) {
        // One that cannot be had is complained about when it is needed.
        if let Ok(claim) = BootRegion::claim(region.base, region.size) {
            let pages = region.pages_around();
            free.remove(pages.base.raw()..pages.end());
            modules.push((region, claim));
        }
    }
    Ok(Modules(modules))
}

fn open_serial(
    tree: &HostTree,
    name: Option<&str>,
) -> Result<(Serial, Option<hv_core::ids::Irq>), StartError> {
    let port = tree.console(name).ok_or(StartError::NoSerialPort)?;
    let kind = match port.kind {
        SerialKind::Pl011 | SerialKind::Sbsa => Model::Pl011,
        SerialKind::Bcm2835Aux => Model::Mini,
    };
    let serial = Serial::open(kind, port.registers.base).map_err(|_| StartError::SerialPort)?;
    Ok((serial, port.interrupt.map(|interrupt| interrupt.irq)))
}

fn model(kind: SerialModel) -> Model {
    match kind {
        SerialModel::Pl011 => Model::Pl011,
        SerialModel::Mini => Model::Mini,
    }
}

/// Finds what turns the machine off: the firmware where it can be asked.
fn power_switch(tree: &HostTree, board: &Board) -> Result<PowerSwitch, StartError> {
    if tree.psci.is_some_and(|psci| psci.conduit == Conduit::Smc) {
        return Ok(PowerSwitch::Psci);
    }
    match board.watchdog {
        Some(at) => {
            let watchdog = Watchdog::new(MachineAddr::new(at));
            watchdog.map(PowerSwitch::Watchdog).map_err(|_| StartError::Watchdog)
        }
        None => Ok(PowerSwitch::Nothing),
    }
}

/// Maps all RAM; returns the addresses that nobody uses.
fn map_memory(tree: &HostTree, boot: &BootInfo) -> Result<RangeSet, StartError> {
    let mut free = RangeSet::default();
    for bank in &tree.memory {
        direct_map::map_ram(bank.base, bank.size)
            .map_err(|error| StartError::Memory(*bank, error))?;
        free.insert(bank.base.raw()..bank.end());
    }
    free.remove(boot.image.start.raw()..boot.image.end.raw());
    free.remove(boot.device_tree.frame().base().raw()..boot.device_tree.raw() + (2 << 20));
    for region in &tree.reserved {
        free.remove(region.base.frame().base().raw()..region.end().next_multiple_of(PAGE_SIZE));
    }
    // Where processors wait to be told where to start, firmware's code is beside.
    for cpu in &tree.cpus {
        if let EnableMethod::SpinTable(place) = cpu.enable {
            let page = place.frame().base().raw();
            free.remove(page..page + PAGE_SIZE);
        }
    }
    Ok(free)
}

/// Takes the hypervisor's heap from the end of the highest free memory that is large enough, so that
/// low memory stays whole for Dom0 and its devices.
fn take_heap(tree: &HostTree, free: &mut RangeSet) -> Result<(), StartError> {
    let size = tree.memory_size();
    let wanted = Frames::table_bytes(size / PAGE_SIZE) + HEAP.max(size / HEAP_PART);
    let wanted = wanted.next_multiple_of(PAGE_SIZE);
    let mut candidates = free.clone();
    for region in boot_modules::regions(tree) {
        candidates.remove(region.base.raw()..region.end());
    }
    let place = candidates
        .iter()
        .filter(|range| range.end - range.start >= wanted + PAGE_SIZE)
        .last()
        .ok_or(StartError::NoHeap)?;
    let start = (place.end - wanted) / PAGE_SIZE * PAGE_SIZE;
    let region =
        BootRegion::claim(MachineAddr::new(start), wanted).map_err(|_| StartError::NoHeap)?;
    hv_arch::heap::add(region);
    free.remove(start..start + wanted);
    Ok(())
}

/// Hands all free memory to the frame allocator.
fn collect_frames(tree: &HostTree, free: &RangeSet) -> Frames {
    let banks = tree.memory.iter().map(|bank| {
        let first = bank.base.raw().div_ceil(PAGE_SIZE);
        (Mfn::new(first), (bank.end() / PAGE_SIZE).saturating_sub(first))
    });
    let mut frames = Frames::new(banks);
    // The direct map looks at the first range first, so that is the one with most of the memory.
    let mut ranges: Vec<_> = free.iter().collect();
    ranges.sort_unstable_by_key(|range| core::cmp::Reverse(range.end - range.start));
    for range in ranges {
        give_frames(&mut frames, range);
    }
    frames
}

/// Gives the whole pages of a free range to the allocator.
pub(crate) fn give_frames(frames: &mut Frames, range: core::ops::Range<u64>) {
    let first = range.start.div_ceil(PAGE_SIZE);
    let count = (range.end / PAGE_SIZE).saturating_sub(first);
    let at = Mfn::new(first).base();
    // What somebody else has after all stays his.
    if count > 0 && direct_map::manage(at, count * PAGE_SIZE).is_ok() {
        frames.add(Mfn::new(first), count);
    }
}

fn start_interrupts(tree: &HostTree) -> Result<(), StartError> {
    let found = match &tree.gic.registers {
        GicRegisters::V2 { gicd, gicc, gich, .. } => gic::init_v2(gicd.base, gicc.base, gich.base),
        GicRegisters::V3 { gicd, gicr, .. } => {
            let regions: Vec<_> = gicr.iter().map(|region| (region.base, region.size)).collect();
            gic::init_v3(gicd.base, &regions)
        }
    };
    found.map_err(StartError::Gic)?;
    start_own_interrupts();
    Ok(())
}

fn host_gic(tree: &HostTree) -> HostGic {
    match &tree.gic.registers {
        GicRegisters::V2 { gicv, .. } => HostGic::V2 { interface: gicv.base },
        GicRegisters::V3 { .. } => HostGic::V3,
    }
}

/// Turns on what every processor needs for itself.
fn start_own_interrupts() {
    gic::init_this_cpu();
    for irq in [KICK, timer::IRQ, timer::VIRTUAL_IRQ, gic::MAINTENANCE_IRQ] {
        gic::enable(irq);
    }
}

/// Makes room for the processors that are to run: the booting one first, then in the tree's order.
fn processors(tree: &HostTree, options: &Options) -> Vec<Processor> {
    let most = options.max_cpus.map_or(usize::MAX, |most| most as usize).min(hv_arch::MAX_CPUS);
    let count = u32::try_from(tree.cpus.len().min(most)).unwrap_or(1).max(1);
    (0..count).map(|number| Processor::new(CpuId(number))).collect()
}

fn greet(hv: &Hypervisor, tree: &HostTree) {
    let version = env!("CARGO_PKG_VERSION");
    hv.print(format_args!("Domus {version}, a hypervisor with Xen 4.20's interface"));
    hv.print(format_args!("command line: {}", hv.host.command_line));
    hv.print(format_args!(
        "{} MiB of memory, {} processors, GICv{}, {} shared interrupts, {}-bit guest addresses",
        tree.memory_size() >> 20,
        hv.processors.len(),
        match hv.host.gic {
            HostGic::V2 { .. } => 2,
            HostGic::V3 => 3,
        },
        hv.host.spis,
        hv.host.ipa_bits,
    ));
}

/// Starts the other processors; one that does not start is left out.
fn start_others(hv: &'static Hypervisor, tree: &HostTree) {
    let own = hv_arch::cpu::affinity();
    let others = tree.cpus.iter().filter(|cpu| cpu.mpidr != own);
    for (processor, cpu) in hv.processors.iter().skip(1).zip(others) {
        let id = processor.id;
        let started = match cpu.enable {
            EnableMethod::Psci => power::start_cpu(cpu.mpidr, id, run_other),
            EnableMethod::SpinTable(place) => power::start_waiting_cpu(place, id, run_other),
            EnableMethod::Unknown => {
                hv.print(format_args!(
                    "{id:?} ({:#x}) is started neither by PSCI nor by a spin table: left out",
                    cpu.mpidr
                ));
                continue;
            }
        };
        match started {
            Ok(()) => wait_for(hv, id),
            Err(error) => {
                hv.print(format_args!("{id:?} ({:#x}) does not start: {error:?}", cpu.mpidr));
            }
        }
    }
    let online = hv.scheduler.lock().online().iter().count();
    hv.print(format_args!("{online} of {} processors run", hv.processors.len()));
}

/// Waits until `cpu` is up, but not for ever.
fn wait_for(hv: &Hypervisor, cpu: CpuId) {
    let give_up = hv.machine.now() + hv_core::time::Nanos::from_millis(1_000);
    while !hv.scheduler.lock().online().contains(cpu) {
        if hv.machine.now() > give_up {
            hv.print(format_args!("{cpu:?} was started but does not answer"));
            return;
        }
        core::hint::spin_loop();
    }
}

/// Returns what of this processor's features a guest may see.
fn own_id() -> IdRegisters {
    IdRegisters::from_raw(hv_arch::cpu::id_registers()).for_guest(stage2::config().ipa_bits)
}

/// Where every processor but the first begins.
fn run_other(cpu: CpuId) -> ! {
    let Some(hv) = HYPERVISOR.get() else { power::halt() };
    start_own_interrupts();
    {
        // Before this one runs a guest, and before there is one: nobody has seen more.
        let mut guest_id = hv.guest_id.lock();
        *guest_id = guest_id.common(own_id());
    }
    hv.scheduler.lock().bring_up(cpu, hv.machine.now());
    run(hv, cpu)
}

fn run(hv: &'static Hypervisor, cpu: CpuId) -> ! {
    match hv.processor(cpu) {
        Some(processor) => Runner::new(hv, processor).run(),
        None => power::halt(),
    }
}
