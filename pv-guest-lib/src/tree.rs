//! What the guest needs to know from its device tree.

use alloc::string::String;
use alloc::vec::Vec;
use fdt::Fdt;
use fdt::node::FdtNode;
use spin::Once;

pub use crate::range::Range;

/// What the tree says.
#[derive(Debug)]
pub struct Tree {
    /// Where the tree itself is.
    pub own: Range,
    /// Memory.
    pub memory: Vec<Range>,
    /// Memory that is somebody else's: the tree, the ramdisk, what is reserved.
    pub taken: Vec<Range>,
    /// The ramdisk, which the configuration's `ramdisk=` names.
    pub ramdisk: Option<Range>,
    /// The interrupt controller's version: 2 or 3.
    pub gic_version: u32,
    /// Registers of the interrupt controller: distributor, then redistributors (version 3) or the processor's interface (version 2).
    pub gic: Vec<Range>,
    /// Window for the grant table.
    pub grant_window: Range,
    /// Address space for foreign frames.
    pub extended: Vec<Range>,
    /// Interrupt of event channels.
    pub event_interrupt: u32,
    /// Processors.
    pub cpus: usize,
    /// Command line.
    pub command_line: String,
}

static TREE: Once<Tree> = Once::new();

/// Returns what the tree says.
pub fn get() -> &'static Tree {
    TREE.get().expect("the tree is read before the guest's first function runs")
}

/// Reads the tree at an address.
pub(crate) fn init(address: u64) {
    let pointer = crate::map::pointer(address);
    // SAFETY: the boot protocol puts a device tree there, and nobody writes it.
    let tree = unsafe { Fdt::from_ptr(pointer) }.expect("there is a device tree at x0");
    let own = Range { start: address, len: tree.total_size() as u64 };
    let memory = tree.all_nodes().filter(is_memory).flat_map(ranges).collect();
    let ramdisk = ramdisk(&tree);
    let reserved = tree.find_node("/reserved-memory");
    let reserved = reserved.into_iter().flat_map(|node| node.children()).flat_map(ranges);
    let taken = reserved.chain(ramdisk).chain([own]).collect();
    let version_3 = tree.find_compatible(&["arm,gic-v3"]);
    let gic_version = if version_3.is_some() { 3 } else { 2 };
    let version_2 =
        || tree.find_compatible(&["arm,cortex-a15-gic", "arm,gic-400", "arm,cortex-a9-gic"]);
    let gic = version_3.or_else(version_2).map(ranges).unwrap_or_default();
    let xen = tree.find_compatible(&["xen,xen"]).expect("there is a hypervisor node");
    let mut windows = ranges(xen).into_iter();
    let grant_window = windows.next().expect("the hypervisor node has a grant window");
    let cells = xen.property("interrupts").map(|property| cells(property.value));
    let interrupt = cells.and_then(|cells| cells.get(1).copied());
    let event_interrupt = interrupt.expect("the hypervisor node has an interrupt") + 16;
    let command_line = tree.chosen().bootargs().unwrap_or_default().into();
    TREE.call_once(|| Tree {
        own,
        memory,
        taken,
        ramdisk,
        gic_version,
        gic,
        grant_window,
        extended: windows.collect(),
        event_interrupt,
        cpus: tree.cpus().count(),
        command_line,
    });
}

fn is_memory(node: &FdtNode<'_, '_>) -> bool {
    node.property("device_type").and_then(|property| property.as_str()) == Some("memory")
}

fn ramdisk(tree: &Fdt<'_>) -> Option<Range> {
    let chosen = tree.find_node("/chosen")?;
    let number = |name| {
        let cells = cells(chosen.property(name)?.value);
        Some(cells.iter().fold(0, |number, cell| number << 32 | u64::from(*cell)))
    };
    let (start, end) = (number("linux,initrd-start")?, number("linux,initrd-end")?);
    Some(Range::between(start, end))
}

fn ranges(node: FdtNode<'_, '_>) -> Vec<Range> {
    let Some(regions) = node.reg() else { return Vec::new() };
    regions
        .map(|region| Range {
            start: region.starting_address.expose_provenance() as u64,
            len: region.size.unwrap_or_default() as u64,
        })
        .collect()
}

fn cells(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell)).collect()
}
