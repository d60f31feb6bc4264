//! The walk over all nodes of a checked tree.

use super::bus::{Bus, Cells};
use super::node::{self, Node};
use super::{
    Chosen, Conduit, Device, EnableMethod, Gic, GicRegisters, HostTree, Interrupt, Module,
    ModuleKind, Processor, Psci, SerialKind, SerialPort, Timer, TreeError,
};
use crate::region::{self, Region};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use dtoolkit::model::DeviceTree;
use hv_core::addr::MachineAddr;
use hv_core::ids::Irq;

const GIC_V2: [&str; 6] = [
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a9-gic",
    "arm,eb11mp-gic",
    "qcom,msm-qgic2",
];
const GIC_V3: [&str; 1] = ["arm,gic-v3"];
const TIMER: [&str; 2] = ["arm,armv8-timer", "arm,armv7-timer"];
const SERIAL: [(&str, SerialKind); 3] = [
    ("arm,pl011", SerialKind::Pl011),
    ("arm,sbsa-uart", SerialKind::Sbsa),
    ("brcm,bcm2835-aux-uart", SerialKind::Bcm2835Aux),
];

/// Affinity fields of MPIDR_EL1.
const MPIDR_AFFINITY: u64 = 0xff_00ff_ffff;

/// What is known of a node that interrupts can go to.
#[derive(Clone, Copy, Debug)]
struct Controller {
    interrupt_cells: usize,
    address_cells: usize,
    is_gic: bool,
}

#[derive(Debug)]
struct Walk {
    controllers: BTreeMap<u32, Controller>,
    memory: Vec<Region>,
    reserved: Vec<Region>,
    reserved_memory: Vec<Region>,
    cpus: Vec<Processor>,
    gic: Option<Gic>,
    timer: Option<Timer>,
    psci: Option<Psci>,
    serial_ports: Vec<SerialPort>,
    devices: Vec<Device>,
    /// What of memory the devices on a bus reach, for each bus that says so.
    reaches: Vec<Vec<Region>>,
}

/// Reads everything of interest from a checked tree.
pub(super) fn read(checked: dtoolkit::fdt::Fdt<'_>) -> Result<HostTree, TreeError> {
    // `fdt` stumbles over the empty tokens that editors of a tree leave; a copy has none.
    let copy = DeviceTree::from_fdt(&checked).to_dtb();
    let tree = fdt::Fdt::new(&copy).map_err(|_| TreeError::NoMagic)?;
    let root = tree.find_node("/").ok_or(TreeError::Malformed)?;
    let mut walk = Walk {
        controllers: BTreeMap::new(),
        memory: Vec::new(),
        reserved: checked
            .memory_reservations()
            .filter_map(|reservation| Region::new(reservation.address(), reservation.size()))
            .collect(),
        reserved_memory: Vec::new(),
        cpus: Vec::new(),
        gic: None,
        timer: None,
        psci: None,
        serial_ports: Vec::new(),
        devices: Vec::new(),
        reaches: Vec::new(),
    };
    walk.find_controllers(root);
    let bus = Bus::root(root);
    let parent = node::cell(root, "interrupt-parent");
    for child in root.children() {
        let path = format!("/{}", child.name);
        match child.name {
            "cpus" => walk.processors(child),
            "reserved-memory" => walk.reserved_memory(child, &bus),
            "chosen" | "aliases" => {}
            _ => walk.node(child, &path, &bus, parent),
        }
    }
    let chosen = root.children().find(|child| child.name == "chosen");
    let aliases = root.children().find(|child| child.name == "aliases");
    let aliases = aliases.into_iter().flat_map(FdtProperties::strings).collect();
    let memory = region::merge(walk.memory);
    if memory.is_empty() {
        return Err(TreeError::NoMemory);
    }
    let lowest = memory.first().map_or(0, |bank| bank.base.raw());
    let dma_end = walk.reaches.into_iter().filter_map(|reach| reach_from(lowest, reach)).min();
    if walk.cpus.is_empty() {
        return Err(TreeError::NoProcessor);
    }
    Ok(HostTree {
        memory,
        reserved: region::merge([walk.reserved, walk.reserved_memory.clone()].concat()),
        reserved_memory: region::merge(walk.reserved_memory),
        cpus: walk.cpus,
        gic: walk.gic.ok_or(TreeError::NoGic)?,
        timer: walk.timer.ok_or(TreeError::NoTimer)?,
        psci: walk.psci,
        serial_ports: walk.serial_ports,
        chosen: chosen.map(|chosen| read_chosen(chosen, &bus)).unwrap_or_default(),
        devices: walk.devices,
        aliases,
        root_cells: (bus.cells.address, bus.cells.size),
        compatible: node::strings(root, "compatible"),
        dma_end,
    })
}

/// Returns how far the regions reach without a gap from `lowest` on.
fn reach_from(lowest: u64, regions: Vec<Region>) -> Option<u64> {
    let first = Region::between(lowest, lowest + 1);
    region::merge(regions).iter().find(|region| region.contains(&first)).map(Region::end)
}

/// All properties of a node as strings.
trait FdtProperties {
    fn strings(self) -> Vec<(String, String)>;
}

impl FdtProperties for Node<'_, '_> {
    fn strings(self) -> Vec<(String, String)> {
        let names = self.properties().map(|property| property.name);
        names.filter_map(|name| Some((name.to_string(), node::string(self, name)?))).collect()
    }
}

impl Walk {
    /// Notes which nodes interrupts can go to, by phandle.
    fn find_controllers(&mut self, at: Node<'_, '_>) {
        if let Some(cells) = node::cell(at, "#interrupt-cells")
            && let Some(phandle) = node::cell(at, "phandle").or(node::cell(at, "linux,phandle"))
        {
            let controller = Controller {
                interrupt_cells: cells.min(16) as usize,
                address_cells: node::cell(at, "#address-cells").unwrap_or(0).min(4) as usize,
                is_gic: node::is_compatible(at, &GIC_V2) || node::is_compatible(at, &GIC_V3),
            };
            self.controllers.insert(phandle, controller);
        }
        for child in at.children() {
            self.find_controllers(child);
        }
    }

    /// Reads a node that is on `bus`, and all below it.
    fn node(&mut self, at: Node<'_, '_>, path: &str, bus: &Bus<'_>, parent: Option<u32>) {
        let parent = node::cell(at, "interrupt-parent").or(parent);
        let is_type = |name| node::string(at, "device_type").is_some_and(|kind| kind == name);
        if is_type("memory") {
            if node::is_available(at) {
                self.memory.extend(bus.regions(at, "reg"));
            }
            return;
        }
        let mut regions = bus.regions(at, "reg");
        let mut interrupts = self.interrupts(at, parent);
        if node::is_available(at) {
            self.special(at, path, &regions, &interrupts);
        }
        if is_type("pci") {
            regions.extend(bus.pci_windows(at));
            interrupts.extend(self.interrupt_map(at));
        }
        if !regions.is_empty() || !interrupts.is_empty() {
            let compatible = node::strings(at, "compatible");
            self.devices.push(Device { path: path.to_string(), compatible, regions, interrupts });
        }
        if node::is_available(at) {
            self.reaches.extend(bus.dma_reach(at));
        }
        let below = bus.below(at);
        for child in at.children() {
            let path = format!("{path}/{}", child.name);
            self.node(child, &path, &below, parent);
        }
    }

    /// Notes a node that the hypervisor itself has use for.
    fn special(
        &mut self,
        at: Node<'_, '_>,
        path: &str,
        regions: &[Region],
        interrupts: &[Interrupt],
    ) {
        if self.gic.is_none()
            && let Some(registers) = gic_registers(at, regions)
        {
            let maintenance = interrupts.first().map(|interrupt| interrupt.irq);
            self.gic = Some(Gic { path: path.to_string(), registers, maintenance });
        }
        if self.timer.is_none() && node::is_compatible(at, &TIMER) {
            self.timer = timer(at, interrupts);
        }
        if self.psci.is_none() {
            self.psci = psci(at);
        }
        let kind = SERIAL.iter().find(|(name, _)| node::is_compatible(at, &[name]));
        if let (Some((_, kind)), Some(registers)) = (kind, regions.first()) {
            self.serial_ports.push(SerialPort {
                path: path.to_string(),
                kind: *kind,
                registers: *registers,
                interrupt: interrupts.first().copied(),
            });
        }
    }

    /// Returns the node's interrupts that go to the GIC.
    fn interrupts(&self, at: Node<'_, '_>, parent: Option<u32>) -> Vec<Interrupt> {
        let mut found = Vec::new();
        if let Some(extended) = node::cells(at, "interrupts-extended") {
            let mut rest = extended.as_slice();
            while let Some((phandle, after)) = rest.split_first()
                && let Some(controller) = self.controllers.get(phandle)
                && let Some((specifier, after)) = after.split_at_checked(controller.interrupt_cells)
            {
                found.extend(controller.interrupt(specifier));
                rest = after;
            }
        } else if let Some(cells) = node::cells(at, "interrupts")
            && let Some(controller) = parent.and_then(|parent| self.controllers.get(&parent))
        {
            let specifiers = cells.chunks_exact(controller.interrupt_cells.max(1));
            found.extend(specifiers.filter_map(|specifier| controller.interrupt(specifier)));
        }
        found
    }

    /// Returns the interrupts of a PCI bridge's devices that go to the GIC.
    fn interrupt_map(&self, bridge: Node<'_, '_>) -> Vec<Interrupt> {
        let cells = node::cells(bridge, "interrupt-map").unwrap_or_default();
        let own = Cells::of(bridge, Cells { address: 3, size: 2 }).address as usize
            + node::cell(bridge, "#interrupt-cells").unwrap_or(1).min(16) as usize;
        let mut found: Vec<Interrupt> = Vec::new();
        let mut rest = cells.as_slice();
        while let Some((_, entry)) = rest.split_at_checked(own)
            && let Some((phandle, entry)) = entry.split_first()
            && let Some(controller) = self.controllers.get(phandle)
            && let Some((_, entry)) = entry.split_at_checked(controller.address_cells)
            && let Some((specifier, after)) = entry.split_at_checked(controller.interrupt_cells)
        {
            if let Some(interrupt) = controller.interrupt(specifier)
                && !found.contains(&interrupt)
            {
                found.push(interrupt);
            }
            rest = after;
        }
        found
    }

    fn reserved_memory(&mut self, parent: Node<'_, '_>, bus: &Bus<'_>) {
        let below = bus.below(parent);
        for child in parent.children().filter(|child| node::is_available(*child)) {
            self.reserved_memory.extend(below.regions(child, "reg"));
        }
    }

    fn processors(&mut self, parent: Node<'_, '_>) {
        for cpu in parent.children() {
            let is_cpu = node::string(cpu, "device_type").is_some_and(|kind| kind == "cpu");
            let Some(reg) = node::number(cpu, "reg").filter(|_| is_cpu && node::is_available(cpu))
            else {
                continue;
            };
            let enable = match node::string(cpu, "enable-method").as_deref() {
                Some("psci") => EnableMethod::Psci,
                Some("spin-table") => match node::number(cpu, "cpu-release-addr") {
                    Some(place) => EnableMethod::SpinTable(MachineAddr::new(place)),
                    None => EnableMethod::Unknown,
                },
                _ => EnableMethod::Unknown,
            };
            self.cpus.push(Processor {
                mpidr: reg & MPIDR_AFFINITY,
                enable,
                compatible: node::bytes(cpu, "compatible").unwrap_or_default().to_vec(),
                clock_frequency: node::cell(cpu, "clock-frequency"),
            });
        }
    }
}

impl Controller {
    /// Takes the GIC's three cells: kind, number, flags (`arm,gic.yaml`).
    fn interrupt(&self, specifier: &[u32]) -> Option<Interrupt> {
        let [kind, number, flags, ..] = *specifier else { return None };
        if !self.is_gic {
            return None;
        }
        let irq = match kind {
            0 => Irq::spi(number)?,
            1 if number < 16 => Irq::ppi(number),
            _ => return None,
        };
        Some(Interrupt { irq, edge: flags & 0x3 != 0 })
    }
}

fn gic_registers(at: Node<'_, '_>, regions: &[Region]) -> Option<GicRegisters> {
    if !node::has(at, "interrupt-controller") {
        return None;
    }
    if node::is_compatible(at, &GIC_V3) {
        let count = node::cell(at, "#redistributor-regions").unwrap_or(1) as usize;
        let (gicd, rest) = regions.split_first()?;
        let gicr = rest.get(..count).filter(|gicr| !gicr.is_empty())?.to_vec();
        let stride = node::number(at, "redistributor-stride");
        return Some(GicRegisters::V3 { gicd: *gicd, gicr, stride });
    }
    if node::is_compatible(at, &GIC_V2) {
        let [gicd, gicc, gich, gicv, ..] = *regions else { return None };
        return Some(GicRegisters::V2 { gicd, gicc, gich, gicv });
    }
    None
}

fn timer(at: Node<'_, '_>, interrupts: &[Interrupt]) -> Option<Timer> {
    let [secure, physical, r#virtual, hypervisor, ..] = *interrupts else { return None };
    Some(Timer {
        secure: secure.irq,
        physical: physical.irq,
        r#virtual: r#virtual.irq,
        hypervisor: hypervisor.irq,
        clock_frequency: node::cell(at, "clock-frequency"),
    })
}

fn psci(at: Node<'_, '_>) -> Option<Psci> {
    let numbered = node::is_compatible(at, &["arm,psci-0.2", "arm,psci-1.0"]);
    if !numbered && !node::is_compatible(at, &["arm,psci"]) {
        return None;
    }
    let conduit = match node::string(at, "method")?.as_str() {
        "smc" => Conduit::Smc,
        "hvc" => Conduit::Hvc,
        _ => return None,
    };
    let cpu_on_0_1 = if numbered { None } else { Some(node::cell(at, "cpu_on")?) };
    Some(Psci { conduit, cpu_on_0_1 })
}

fn read_chosen(chosen: Node<'_, '_>, root: &Bus<'_>) -> Chosen {
    let start = node::number(chosen, "linux,initrd-start");
    let end = node::number(chosen, "linux,initrd-end");
    let initrd = start.zip(end).map(|(start, end)| Region::between(start, end));
    // Modules take the cells of the root unless `/chosen` says otherwise; it has no `ranges`.
    let mut bus = root.clone();
    bus.cells = Cells::of(chosen, root.cells);
    let modules = chosen.children().filter_map(|child| module(child, &bus)).collect();
    Chosen {
        bootargs: node::string(chosen, "bootargs"),
        xen_bootargs: node::string(chosen, "xen,xen-bootargs"),
        dom0_bootargs: node::string(chosen, "xen,dom0-bootargs"),
        stdout_path: node::string(chosen, "stdout-path")
            .or_else(|| node::string(chosen, "linux,stdout-path")),
        initrd: initrd.filter(|initrd| !initrd.is_empty()),
        modules,
    }
}

/// Reads a module as QEMU's guest-loader, U-Boot and GRUB write it.
fn module(at: Node<'_, '_>, bus: &Bus<'_>) -> Option<Module> {
    if !node::is_compatible(at, &["multiboot,module", "xen,multiboot-module"]) {
        return None;
    }
    let region = *bus.regions(at, "reg").first()?;
    let names = node::strings(at, "compatible");
    let kind = if node::is_compatible(at, &["multiboot,kernel", "xen,linux-zimage"]) {
        ModuleKind::Kernel
    } else if node::is_compatible(at, &["multiboot,ramdisk", "xen,linux-initrd"]) {
        ModuleKind::Ramdisk
    } else if names.len() > 1 {
        ModuleKind::Other
    } else {
        ModuleKind::Unknown
    };
    Some(Module { kind, region, bootargs: node::string(at, "bootargs") })
}
