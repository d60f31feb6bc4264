//! Dom0's device tree: the host's, less what is the hypervisor's, plus what a guest of Xen needs.
//!
//! What Linux takes from it is in `Documentation/devicetree/bindings/arm/xen.txt`; what is taken out
//! is what Xen on Arm takes out.

mod edit;

use super::dom0_layout::{DEVICE_TREE_SIZE, Dom0Layout, is_hidden};
use crate::host_tree::{GicRegisters, HostTree, TreeError};
use crate::region::{Region, merge};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};
use edit::{cells, compatible, set, strings};
use hv_core::ids::Irq;
use hypercall_abi::arch_arm::{PSCI_0_1_CPU_OFF, PSCI_0_1_CPU_ON};

/// Flags of an interrupt that is level-triggered and active low, with Xen's mask of processors.
const LEVEL_LOW: u32 = 0xf08;
/// The phandle the GIC is given if it has none.
const GIC_PHANDLE: u32 = 0xfde8;

/// Devices that are the hypervisor's, or that cannot work in a guest.
const KEPT_BACK: [&str; 25] = [
    "xen,domain",
    "xen,domain-shared-memory-v1",
    "xen,evtchn-v1",
    "xen,xen",
    "xen,multiboot-module",
    "multiboot,module",
    "arm,psci",
    "arm,psci-0.2",
    "arm,psci-1.0",
    "arm,cortex-a53-edac",
    "arm,armv7-timer-mem",
    "arm,gic-v3-its",
    "arm,gic-v2m-frame",
    "arm,smmu-v1",
    "arm,smmu-v2",
    "arm,smmu-v3",
    "arm,mmu-400",
    "arm,mmu-401",
    "arm,mmu-500",
    "brcm,bcm2835-aux-spi",
    "brcm,bcm2835-aux",
    "brcm,bcm2836-l1-intc",
    // The watchdog that restarts the machine; Linux and Xen know the one device by three names.
    "brcm,bcm2835-pm",
    "brcm,bcm2835-pm-wdt",
    "brcm,bcm2711-pm",
];

/// Says whether a node with these strings in `compatible` is not shown to Dom0.
pub(super) fn is_kept_back(compatible: &[String]) -> bool {
    compatible.iter().any(|name| {
        // Performance monitors belong to processors that Dom0 does not see.
        let monitor =
            name.starts_with("arm,") && (name.ends_with("-pmu") || name.ends_with("-pmuv3"));
        monitor || KEPT_BACK.contains(&name.as_str())
    })
}

/// What else Dom0's tree says.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// How many virtual processors it has.
    pub vcpus: u32,
    /// Its command line.
    pub bootargs: &'a str,
    /// Minor version of Xen 4 that the hypervisor appears to be.
    pub version: u32,
}

/// Why there is no tree for Dom0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dom0TreeError {
    /// The host's tree cannot be read.
    Host(TreeError),
    /// The tree is larger than the room for it.
    TooLarge(usize),
    /// A region does not fit into the cells the root's children have.
    Cells,
    /// The GIC's node is not where it was.
    NoGic,
}

impl fmt::Display for Dom0TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::TooLarge(size) => write!(f, "Dom0's device tree is too large: {size} bytes"),
            Self::Cells => f.write_str("an address does not fit into Dom0's device tree"),
            Self::NoGic => f.write_str("the interrupt controller is missing from the device tree"),
        }
    }
}

/// Derives Dom0's tree from the host's.
pub fn build(
    blob: &[u8],
    host: &HostTree,
    layout: &Dom0Layout,
    description: &Description<'_>,
) -> Result<Vec<u8>, Dom0TreeError> {
    let blob = HostTree::bytes(blob).map_err(Dom0TreeError::Host)?;
    let checked = Fdt::new(blob).map_err(|_| Dom0TreeError::Host(TreeError::Malformed))?;
    let mut tree = DeviceTree::from_fdt(&checked);
    // Reserved ranges are not part of Dom0's memory.
    tree.memory_reservations.clear();
    let mut removed = Vec::new();
    prune(&mut tree.root, "", host, layout, &mut removed);
    edit::drop_references(&mut tree.root, &removed);
    let gic = gic(&mut tree, host)?;
    chosen(&mut tree.root, layout, description);
    tree.root.add_child(processors(host, description.vcpus));
    tree.root.add_child(psci());
    for banks in [layout.banks.as_slice(), host.reserved_memory.as_slice()] {
        if let Some(first) = banks.first() {
            tree.root.add_child(memory(first, banks, host)?);
        }
    }
    tree.root.add_child(hypervisor(gic, host, layout, description.version)?);
    let blob = tree.to_dtb();
    if u64::try_from(blob.len()).is_ok_and(|size| size <= DEVICE_TREE_SIZE) {
        Ok(blob)
    } else {
        Err(Dom0TreeError::TooLarge(blob.len()))
    }
}

/// Takes out what Dom0 must not see; notes the phandles that lead nowhere afterwards.
fn prune(
    at: &mut DeviceTreeNode,
    path: &str,
    host: &HostTree,
    layout: &Dom0Layout,
    removed: &mut Vec<u32>,
) {
    let names: Vec<String> = at.children().map(|child| child.name().into()).collect();
    for name in names {
        let Some(child) = at.child_mut(&name) else { continue };
        let child_path = format!("{path}/{name}");
        if child_path == host.gic.path {
            edit::note_phandles_below(child, removed);
            continue;
        }
        if edit::is_compatible(child, &["arm,armv8-timer", "arm,armv7-timer"]) {
            timer(child, host);
            continue;
        }
        let is_memory = edit::is_string(child, "device_type", "memory");
        let gone = is_memory
            || path.is_empty() && (name == "cpus" || name == "hypervisor")
            || is_hidden(&layout.hidden, &child_path)
            || is_kept_back(&strings(child, "compatible"));
        if gone {
            edit::note_phandles(child, removed);
            at.remove_child(&name);
            continue;
        }
        if child.remove_property("xen,passthrough").is_some() {
            set(child, "status", "disabled");
        }
        prune(child, &child_path, host, layout, removed);
    }
}

/// Leaves of the timer's interrupts those a guest has.
fn timer(node: &mut DeviceTreeNode, host: &HostTree) {
    let keep = ["interrupt-parent", "clock-frequency", "phandle"];
    edit::keep_properties(node, &keep);
    compatible(node, &["arm,armv8-timer"]);
    let timer = host.timer;
    let interrupts = [timer.secure, timer.physical, timer.r#virtual].map(private_interrupt);
    cells(node, "interrupts", interrupts.as_flattened());
}

/// Returns the three cells of a private, level-triggered interrupt.
fn private_interrupt(irq: Irq) -> [u32; 3] {
    [1, irq.intid().saturating_sub(16), LEVEL_LOW]
}

/// Leaves of the interrupt controller what a guest has, and returns its phandle.
fn gic(tree: &mut DeviceTree, host: &HostTree) -> Result<u32, Dom0TreeError> {
    let parent = host.gic.path.rsplit_once('/').map_or("/", |(parent, _)| parent);
    let parent = tree.find_node(if parent.is_empty() { "/" } else { parent });
    let entry = parent.map_or(4, |parent| {
        let count =
            |name, default| edit::first_cell(parent, name).unwrap_or(default).min(4) as usize;
        count("#address-cells", 2) + count("#size-cells", 1)
    });
    let node = tree.find_node_mut(&host.gic.path).ok_or(Dom0TreeError::NoGic)?;
    let registers = match &host.gic.registers {
        GicRegisters::V2 { .. } => 2,
        GicRegisters::V3 { gicr, .. } => 1 + gicr.len(),
    };
    let keep = [
        "compatible",
        "reg",
        "phandle",
        "linux,phandle",
        "interrupt-controller",
        "#interrupt-cells",
        "#redistributor-regions",
        "redistributor-stride",
        "#address-cells",
        "interrupt-parent",
    ];
    edit::keep_properties(node, &keep);
    let children: Vec<String> = node.children().map(|child| child.name().into()).collect();
    for child in children {
        node.remove_child(&child);
    }
    let reg = node.property("reg").map(|reg| reg.value().to_vec()).unwrap_or_default();
    let reg = reg.get(..registers * entry * 4).unwrap_or(&reg);
    set(node, "reg", reg);
    if let Some(phandle) = edit::first_cell(node, "phandle") {
        return Ok(phandle);
    }
    cells(node, "phandle", &[GIC_PHANDLE]);
    Ok(GIC_PHANDLE)
}

/// Says in `/chosen` what is for Dom0, and nothing that was for the hypervisor.
fn chosen(root: &mut DeviceTreeNode, layout: &Dom0Layout, description: &Description<'_>) {
    if root.child_mut("chosen").is_none() {
        root.add_child(DeviceTreeNode::new_unchecked("chosen"));
    }
    let Some(chosen) = root.child_mut("chosen") else { return };
    for name in [
        "bootargs",
        "xen,dom0-bootargs",
        "xen,xen-bootargs",
        "xen,static-heap",
        "stdout-path",
        "linux,stdout-path",
        "linux,initrd-start",
        "linux,initrd-end",
        "linux,uefi-system-table",
        "linux,uefi-mmap-start",
        "linux,uefi-mmap-size",
        "linux,uefi-mmap-desc-size",
        "linux,uefi-mmap-desc-ver",
    ] {
        chosen.remove_property(name);
    }
    set(chosen, "bootargs", description.bootargs);
    if let Some(ramdisk) = layout.ramdisk {
        set(chosen, "linux,initrd-start", ramdisk.base.raw());
        set(chosen, "linux,initrd-end", ramdisk.end());
    }
}

/// Describes the virtual processors, which PSCI starts.
fn processors(host: &HostTree, vcpus: u32) -> DeviceTreeNode {
    let mut parent = DeviceTreeNode::new_unchecked("cpus");
    cells(&mut parent, "#address-cells", &[1]);
    cells(&mut parent, "#size-cells", &[0]);
    let first = host.cpus.first();
    for id in 0..vcpus {
        // Sixteen virtual processors share a number at affinity level 1.
        let affinity = id & 0xf | id >> 4 << 8;
        let mut cpu = DeviceTreeNode::new_unchecked(format!("cpu@{affinity:x}"));
        match first.map(|first| first.compatible.as_slice()).filter(|name| !name.is_empty()) {
            Some(name) => set(&mut cpu, "compatible", name),
            None => compatible(&mut cpu, &["arm,armv8"]),
        }
        set(&mut cpu, "device_type", "cpu");
        cells(&mut cpu, "reg", &[affinity]);
        if let Some(frequency) = first.and_then(|first| first.clock_frequency) {
            cells(&mut cpu, "clock-frequency", &[frequency]);
        }
        set(&mut cpu, "enable-method", "psci");
        parent.add_child(cpu);
    }
    parent
}

fn psci() -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("psci");
    compatible(&mut node, &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
    set(&mut node, "method", "hvc");
    cells(&mut node, "cpu_off", &[PSCI_0_1_CPU_OFF]);
    cells(&mut node, "cpu_on", &[PSCI_0_1_CPU_ON]);
    node
}

fn memory(
    first: &Region,
    banks: &[Region],
    host: &HostTree,
) -> Result<DeviceTreeNode, Dom0TreeError> {
    let mut node = DeviceTreeNode::new_unchecked(format!("memory@{:x}", first.base.raw()));
    set(&mut node, "device_type", "memory");
    cells(&mut node, "reg", &reg(&merge(banks.to_vec()), host)?);
    Ok(node)
}

fn hypervisor(
    gic: u32,
    host: &HostTree,
    layout: &Dom0Layout,
    version: u32,
) -> Result<DeviceTreeNode, Dom0TreeError> {
    let mut node = DeviceTreeNode::new_unchecked("hypervisor");
    compatible(&mut node, &[&format!("xen,xen-4.{version}"), "xen,xen"]);
    let mut regions = [layout.grant_window].to_vec();
    regions.extend(&layout.extended);
    cells(&mut node, "reg", &reg(&regions, host)?);
    cells(&mut node, "interrupts", &private_interrupt(layout.event_interrupt));
    cells(&mut node, "interrupt-parent", &[gic]);
    Ok(node)
}

/// Returns regions as cells of a child of the root; a size that needs more cells is split.
fn reg(regions: &[Region], host: &HostTree) -> Result<Vec<u32>, Dom0TreeError> {
    const LARGEST: u64 = 0x8000_0000;
    let (address, size) = host.root_cells;
    let mut cells = Vec::new();
    for region in regions {
        let mut base = region.base.raw();
        while base < region.end() {
            let left = region.end() - base;
            let part = if size < 2 { left.min(LARGEST) } else { left };
            push(&mut cells, base, address)?;
            push(&mut cells, part, size)?;
            base += part;
        }
    }
    Ok(cells)
}

/// Adds a number of so many cells.
fn push(cells: &mut Vec<u32>, value: u64, count: u32) -> Result<(), Dom0TreeError> {
    let (high, low) = (value >> 32, value & 0xffff_ffff);
    for part in [high, low].map(u32::try_from).into_iter().skip(if count < 2 { 1 } else { 0 }) {
        cells.push(part.map_err(|_| Dom0TreeError::Cells)?);
    }
    if (1..=2).contains(&count) && (count == 2 || high == 0) {
        Ok(())
    } else {
        Err(Dom0TreeError::Cells)
    }
}

#[cfg(test)]
mod tests;
