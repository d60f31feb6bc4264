//! What the host's device tree says, as plain data.
//!
//! `fdt` reads the tree; this module adds what it lacks: a check of the whole blob beforehand, so that
//! a corrupt one is refused and not walked; addresses translated through every bus; three-cell
//! interrupts with inherited interrupt parents; all memory nodes; and the console behind an alias with
//! options. Devicetree Specification 0.4, and Linux's bindings for what it leaves open.

mod bus;
mod check;
mod node;
mod walk;

use crate::region::Region;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use hv_core::addr::MachineAddr;
use hv_core::ids::Irq;

/// The host, as its device tree describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostTree {
    /// RAM, sorted and joined; reserved parts are still in it.
    pub memory: Vec<Region>,
    /// Parts of RAM that something else uses: the reservation block and `/reserved-memory`.
    pub reserved: Vec<Region>,
    /// Those of them that `/reserved-memory` names; Dom0's drivers may use them.
    pub reserved_memory: Vec<Region>,
    /// The processors, in the tree's order.
    pub cpus: Vec<Processor>,
    /// The interrupt controller.
    pub gic: Gic,
    /// The architected timer.
    pub timer: Timer,
    /// How the firmware is called, if it has PSCI.
    pub psci: Option<Psci>,
    /// Serial ports this project knows how to drive.
    pub serial_ports: Vec<SerialPort>,
    /// What `/chosen` says.
    pub chosen: Chosen,
    /// All nodes with registers, interrupts or windows, `/cpus` and memory left out.
    pub devices: Vec<Device>,
    /// `/aliases`: name and path.
    pub aliases: Vec<(String, String)>,
    /// Cells of an address and of a size under the root.
    pub root_cells: (u32, u32),
    /// Strings of the root's `compatible`.
    pub compatible: Vec<String>,
    /// The address after the last that every device reaches, if some reach less than all (`dma-ranges`).
    pub dma_end: Option<u64>,
}

/// A processor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Processor {
    /// Affinity fields of its MPIDR.
    pub mpidr: u64,
    /// How it is started.
    pub enable: EnableMethod,
    /// Its `compatible` property, as it stands.
    pub compatible: Vec<u8>,
    /// `clock-frequency`, if given.
    pub clock_frequency: Option<u32>,
}

/// How a processor is started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EnableMethod {
    /// By PSCI's CPU_ON.
    Psci,
    /// By writing the entry address to this place.
    SpinTable(MachineAddr),
    /// In no way that is known.
    Unknown,
}

/// The interrupt controller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gic {
    /// Its path.
    pub path: String,
    /// Its registers.
    pub registers: GicRegisters,
    /// The interrupt that asks for more list registers.
    pub maintenance: Option<Irq>,
}

/// The registers of an interrupt controller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GicRegisters {
    /// GICv2.
    V2 {
        /// Distributor.
        gicd: Region,
        /// CPU interface.
        gicc: Region,
        /// Virtual interface control.
        gich: Region,
        /// Virtual CPU interface.
        gicv: Region,
    },
    /// GICv3.
    V3 {
        /// Distributor.
        gicd: Region,
        /// Redistributors.
        gicr: Vec<Region>,
        /// Bytes from one redistributor to the next, if it is not what the architecture says.
        stride: Option<u64>,
    },
}

/// An interrupt as a device's node has it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Interrupt {
    /// Its number.
    pub irq: Irq,
    /// It is edge-triggered.
    pub edge: bool,
}

/// The architected timer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timer {
    /// Interrupt of the secure physical timer.
    pub secure: Irq,
    /// Interrupt of the physical timer.
    pub physical: Irq,
    /// Interrupt of the virtual timer.
    pub r#virtual: Irq,
    /// Interrupt of the hypervisor's timer.
    pub hypervisor: Irq,
    /// `clock-frequency`, where the firmware does not set it itself.
    pub clock_frequency: Option<u32>,
}

/// The instruction that calls the firmware.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conduit {
    /// SMC.
    Smc,
    /// HVC; nothing answers it once the hypervisor itself runs at EL2.
    Hvc,
}

/// The firmware's PSCI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Psci {
    /// How it is called.
    pub conduit: Conduit,
    /// Number of CPU_ON if it is version 0.1, which leaves the numbers to the tree.
    pub cpu_on_0_1: Option<u32>,
}

/// What drives a serial port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SerialKind {
    /// Arm's PL011.
    Pl011,
    /// The part of a PL011 that the Server Base System Architecture asks for.
    Sbsa,
    /// The Raspberry Pi's second UART.
    Bcm2835Aux,
}

/// A serial port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SerialPort {
    /// Its path.
    pub path: String,
    /// What drives it.
    pub kind: SerialKind,
    /// Its registers.
    pub registers: Region,
    /// Its interrupt.
    pub interrupt: Option<Interrupt>,
}

/// What `/chosen` says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chosen {
    /// `bootargs`.
    pub bootargs: Option<String>,
    /// `xen,xen-bootargs`.
    pub xen_bootargs: Option<String>,
    /// `xen,dom0-bootargs`.
    pub dom0_bootargs: Option<String>,
    /// `stdout-path`, options included.
    pub stdout_path: Option<String>,
    /// `linux,initrd-start` and `-end`.
    pub initrd: Option<Region>,
    /// What the loader put into memory for us.
    pub modules: Vec<Module>,
}

/// What a module is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ModuleKind {
    /// A kernel.
    Kernel,
    /// A ramdisk.
    Ramdisk,
    /// Something else that has a name: a device tree, a security policy.
    Other,
    /// The loader does not say.
    Unknown,
}

/// Something the loader put into memory (a `multiboot,module` node).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Module {
    /// What it is.
    pub kind: ModuleKind,
    /// Where it is.
    pub region: Region,
    /// Its `bootargs`.
    pub bootargs: Option<String>,
}

/// A node that has registers, interrupts or windows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// Its path.
    pub path: String,
    /// Strings of its `compatible`.
    pub compatible: Vec<String>,
    /// Its registers, and a PCI bridge's windows, as the processors address them.
    pub regions: Vec<Region>,
    /// Its interrupts, and those behind a PCI bridge, that go to the GIC.
    pub interrupts: Vec<Interrupt>,
}

/// Why a tree cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TreeError {
    /// It does not start with the magic number.
    NoMagic,
    /// There are fewer bytes than its header says.
    Truncated,
    /// Its header, or a node or property, is broken.
    Malformed,
    /// Nodes are nested too deeply.
    TooDeep,
    /// There is no memory node.
    NoMemory,
    /// There is no processor.
    NoProcessor,
    /// There is no GICv2 or GICv3 with all its registers.
    NoGic,
    /// There is no architected timer with four interrupts.
    NoTimer,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self {
            Self::NoMagic => "does not start with the magic number of a device tree",
            Self::Truncated => "is shorter than its header says",
            Self::Malformed => "is broken",
            Self::TooDeep => "nests nodes too deeply",
            Self::NoMemory => "has no memory node",
            Self::NoProcessor => "has no processor",
            Self::NoGic => "has no GICv2 or GICv3 with a virtual interface",
            Self::NoTimer => "has no Arm architected timer with a hypervisor interrupt",
        };
        write!(f, "the device tree {problem}")
    }
}

impl HostTree {
    /// Checks and reads a tree; bytes after its end do no harm.
    pub fn parse(blob: &[u8]) -> Result<Self, TreeError> {
        walk::read(check::check(blob)?)
    }

    /// Returns the tree's own bytes at the start of `blob`, checked.
    pub fn bytes(blob: &[u8]) -> Result<&[u8], TreeError> {
        check::check(blob).map(dtoolkit::fdt::Fdt::data)
    }

    /// Returns the serial port that is the console: the one `name` names (a path or an alias, options
    /// after a colon), else that of `stdout-path`, else the first.
    pub fn console(&self, name: Option<&str>) -> Option<&SerialPort> {
        let named = |name: &str| {
            let path = self.resolve(name);
            self.serial_ports.iter().find(|port| port.path == path)
        };
        name.and_then(named)
            .or_else(|| self.chosen.stdout_path.as_deref().and_then(named))
            .or_else(|| self.serial_ports.first())
    }

    /// Returns the path that a path or an alias, with options after a colon, means.
    fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        let name = name.split(':').next().unwrap_or(name);
        self.aliases.iter().find(|(alias, _)| alias == name).map_or(name, |(_, path)| path.as_str())
    }

    /// Returns the hypervisor's command line.
    ///
    /// `bootargs` is it unless `xen,xen-bootargs` is there (`docs/misc/arm/device-tree/booting.txt`).
    pub fn command_line(&self) -> &str {
        let chosen = &self.chosen;
        chosen.xen_bootargs.as_deref().or(chosen.bootargs.as_deref()).unwrap_or_default()
    }

    /// Returns the address after the last that something of the machine has.
    pub fn end(&self) -> u64 {
        let devices = self.devices.iter().flat_map(|device| &device.regions);
        self.memory.iter().chain(devices).map(Region::end).max().unwrap_or(0)
    }

    /// Returns how many bytes of RAM there are.
    pub fn memory_size(&self) -> u64 {
        self.memory.iter().map(|bank| bank.size).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests;
