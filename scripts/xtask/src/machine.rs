//! What machine to boot, as the command line or a scenario says it. Decides defaults; `qemu` acts.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{compile, image};

/// The kind of the physical CPUs when nothing else is asked for.
pub(crate) const USUAL_CPU: &str = "cortex-a72";

/// Which hypervisor runs below Dom0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Hypervisor {
    /// This project's.
    Domus,
    /// Debian's Xen, for comparison.
    Xen,
}

/// Whose xenstored, xenconsoled and xl Dom0 uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Tools {
    /// This project's.
    Domus,
    /// Debian's, in C.
    Debian,
}

/// How Dom0's kernel and ramdisk reach the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Boot {
    /// As `multiboot,module` nodes of the device tree.
    Modules,
    /// In one file, passed as if it were a ramdisk; our hypervisor's own way.
    Bundle,
}

/// What Dom0's root file system is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Root {
    /// A few packages and busybox's init, up in seconds.
    Small,
    /// A whole Debian installation with systemd, made a host by our Debian packages; boots as those leave it.
    Debian,
    /// The Raspberry Pi's SD card, in a larger disk of the machine that is emulated; boots from its own boot bundle.
    Card,
}

/// Which board QEMU plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Board {
    /// QEMU's own.
    Virt,
    /// The Raspberry Pi 4, which boots the SD card and nothing else.
    Raspi4b,
}

/// Which version of interrupt controller the machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gic {
    V2,
    V3,
}

impl Gic {
    /// Returns the most processors such a machine may have.
    pub(crate) fn most_cpus(self) -> u32 {
        match self {
            Self::V2 => 8,
            Self::V3 => 512,
        }
    }
}

impl FromStr for Gic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "2" => Ok(Self::V2),
            "3" => Ok(Self::V3),
            _ => Err(format!("{text} is no version of the interrupt controller: 2 or 3")),
        }
    }
}

impl fmt::Display for Gic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "2",
            Self::V3 => "3",
        })
    }
}

/// The machine's shape.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MachineArgs {
    /// The hypervisor below Dom0
    #[arg(long, value_enum, default_value = "domus")]
    pub(crate) hypervisor: Hypervisor,
    /// Whose Xen tools Dom0 uses
    #[arg(long, value_enum, default_value = "domus")]
    pub(crate) tools: Tools,
    /// How Dom0's kernel and ramdisk reach the hypervisor
    #[arg(long, value_enum, default_value = "modules")]
    pub(crate) boot: Boot,
    /// What Dom0's root file system is
    #[arg(long, value_enum, default_value = "small")]
    pub(crate) root: Root,
    /// The board
    #[arg(long, value_enum, default_value = "virt")]
    pub(crate) board: Board,
    /// Version of the interrupt controller: 2 or 3
    #[arg(long, default_value_t = Gic::V3)]
    pub(crate) gic: Gic,
    /// Physical CPUs
    #[arg(long, default_value_t = 2)]
    pub(crate) cpus: u32,
    /// The kind of the physical CPUs, as QEMU calls it
    #[arg(long, default_value = USUAL_CPU)]
    pub(crate) cpu: String,
    /// Memory of the machine, in MiB
    #[arg(long, default_value_t = 2048)]
    pub(crate) memory: u32,
    /// Dom0's virtual CPUs
    #[arg(long, default_value_t = 1)]
    pub(crate) vcpus: u32,
    /// Dom0's memory, in MiB
    #[arg(long, default_value_t = 768)]
    pub(crate) dom0_memory: u32,
    /// What Dom0's disk has besides the usual: a name in scripts/rootfs/extra; may be repeated
    #[arg(long)]
    pub(crate) extra: Vec<String>,
    /// Dom0's kernel, if not the usual one: a name that an extra gives it, as `--extra kernels` does
    #[arg(long)]
    pub(crate) kernel: Option<String>,
    /// Counts instructions instead of nanoseconds: slower to watch, the same every time
    #[arg(long)]
    pub(crate) icount: bool,
    /// Keeps QEMU on one of the host's processors, beside so many busy loops, which start when Dom0 is up
    #[arg(long)]
    pub(crate) beside: Option<u32>,
    /// More words for the hypervisor's command line
    #[arg(long, default_value = "")]
    pub(crate) append: String,
    /// More words for Dom0's command line
    #[arg(long, default_value = "")]
    pub(crate) dom0_append: String,
    /// One more argument for QEMU; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) qemu: Vec<String>,
}

/// A machine with everything it boots from made.
pub(crate) struct Machine {
    pub(crate) args: MachineArgs,
    pub(crate) hypervisor: PathBuf,
    pub(crate) dom0: image::Dom0Image,
}

impl Default for MachineArgs {
    fn default() -> Self {
        Self {
            hypervisor: Hypervisor::Domus,
            tools: Tools::Domus,
            boot: Boot::Modules,
            root: Root::Small,
            board: Board::Virt,
            gic: Gic::V3,
            cpus: 2,
            cpu: String::from(USUAL_CPU),
            memory: 2048,
            vcpus: 1,
            dom0_memory: 768,
            extra: Vec::new(),
            kernel: None,
            icount: false,
            beside: None,
            append: String::new(),
            dom0_append: String::new(),
            qemu: Vec::new(),
        }
    }
}

impl MachineArgs {
    /// Changes one property, given as a scenario writes it: `vcpus=4`.
    pub(crate) fn set(&mut self, property: &str) -> Result<()> {
        let (name, value) = property.split_once('=').context("expected NAME=VALUE")?;
        match name {
            "boot" => {
                self.boot = Boot::from_str(value, false).map_err(anyhow::Error::msg)?;
                return Ok(());
            }
            "root" => {
                self.root = Root::from_str(value, false).map_err(anyhow::Error::msg)?;
                return Ok(());
            }
            "tools" => {
                self.tools = Tools::from_str(value, false).map_err(anyhow::Error::msg)?;
                return Ok(());
            }
            "append" => {
                self.append = with_more(std::mem::take(&mut self.append), value);
                return Ok(());
            }
            "dom0_append" => {
                self.dom0_append = with_more(std::mem::take(&mut self.dom0_append), value);
                return Ok(());
            }
            "extra" => {
                self.extra = value.split(',').map(str::to_owned).collect();
                return Ok(());
            }
            "kernel" => {
                self.kernel = Some(value.to_owned());
                return Ok(());
            }
            "cpu" => {
                value.clone_into(&mut self.cpu);
                return Ok(());
            }
            "board" => {
                self.board = Board::from_str(value, false).map_err(anyhow::Error::msg)?;
                return Ok(());
            }
            "gic" => {
                self.gic = value.parse().map_err(anyhow::Error::msg)?;
                return Ok(());
            }
            _ => {}
        }
        let number = || value.parse::<u32>().with_context(|| format!("{name}: not a number"));
        match name {
            "beside" => self.beside = Some(number()?),
            "cpus" => self.cpus = number()?,
            "vcpus" => self.vcpus = number()?,
            "memory" => self.memory = number()?,
            "dom0_memory" => self.dom0_memory = number()?,
            _ => bail!(
                "unknown property {name}: append, beside, board, boot, cpu, cpus, dom0_append, dom0_memory, extra, gic, kernel, memory, root, tools or vcpus"
            ),
        }
        Ok(())
    }

    /// Says whether what `prepare` makes for one is right for the other.
    pub(crate) fn boots_from_same(&self, other: &Self) -> bool {
        (self.hypervisor, self.tools, &self.extra) == (other.hypervisor, other.tools, &other.extra)
    }

    /// Builds what the machine needs.
    pub(crate) fn prepare(self) -> Result<Machine> {
        let dom0 = match self.tools {
            Tools::Domus => image::dom0(true, &self.extra)?,
            Tools::Debian => image::dom0(false, &self.extra)?,
        };
        let hypervisor = match self.hypervisor {
            Hypervisor::Domus => compile::hypervisor(compile::Platform::QemuVirt)?,
            Hypervisor::Xen => dom0.xen.clone(),
        };
        Ok(Machine { args: self, hypervisor, dom0 })
    }

    /// Returns the hypervisor's command line.
    pub(crate) fn hypervisor_line(&self) -> String {
        let mut line = format!("dom0_mem={}M dom0_max_vcpus={}", self.dom0_memory, self.vcpus);
        if self.hypervisor == Hypervisor::Xen {
            line.push_str(" console=dtuart");
        }
        with_more(line, &self.append)
    }

    /// Returns Dom0's command line.
    pub(crate) fn dom0_line(&self) -> String {
        let mut line = String::from("console=hvc0 quiet");
        if self.tools == Tools::Debian {
            line.push_str(" tools=debian");
        }
        with_more(line, &self.dom0_append)
    }
}

impl Machine {
    /// Returns the machine with another shape, which boots from the same files.
    pub(crate) fn reshaped(&self, args: MachineArgs) -> Self {
        Self { args, hypervisor: self.hypervisor.clone(), dom0: self.dom0.clone() }
    }
}

fn with_more(mut line: String, more: &str) -> String {
    if !more.is_empty() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(more);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_of_a_scenario_changes_the_machine() {
        let mut machine = MachineArgs::default();
        machine.set("vcpus=4").unwrap();
        machine.set("boot=bundle").unwrap();
        machine.set("gic=2").unwrap();
        machine.set("kernel=cloud").unwrap();
        assert_eq!(machine.kernel.as_deref(), Some("cloud"));
        assert_eq!(machine.gic, Gic::V2);
        assert!(machine.set("gic=4").is_err());
        assert_eq!(machine.boot, Boot::Bundle);
        assert_eq!(machine.hypervisor_line(), "dom0_mem=768M dom0_max_vcpus=4");
        assert!(machine.set("vcpus=four").is_err());
        assert!(machine.set("colour=red").is_err());
    }

    #[test]
    fn machines_of_the_same_tools_and_extras_boot_from_the_same_files() {
        let usual = MachineArgs::default();
        assert!(MachineArgs { gic: Gic::V2, cpus: 4, ..usual.clone() }.boots_from_same(&usual));
        assert!(!MachineArgs { tools: Tools::Debian, ..usual.clone() }.boots_from_same(&usual));
        let extra = vec![String::from("libvirt")];
        assert!(!MachineArgs { extra, ..usual.clone() }.boots_from_same(&usual));
    }

    #[test]
    fn debians_tools_are_asked_for_on_dom0s_command_line() {
        let machine = MachineArgs { tools: Tools::Debian, ..MachineArgs::default() };
        assert_eq!(machine.dom0_line(), "console=hvc0 quiet tools=debian");
    }
}
