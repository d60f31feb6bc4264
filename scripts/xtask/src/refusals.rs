//! The hypervisor given what it cannot start with. It has to say one sentence on the serial port and stop: no silence, no restart, nothing after it.

use anyhow::{Context, Result};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::DeviceTree;
use hv_core::boot_bundle;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::compile::{self, Platform};
use crate::machine::{Gic, USUAL_CPU};
use crate::process::{dist, root};
use crate::qemu;
use crate::raspi4b;
use crate::serial::Serial;
use crate::system::Count;

/// How long it may take to the sentence.
const LIMIT: Duration = Duration::from_secs(60);
/// How long nothing may follow it.
const QUIET: Duration = Duration::from_millis(500);
/// What a sentence starts with, once the machine's memory is in order.
const CANNOT: &str = "(Domus) cannot start: ";
/// Bytes of the kernel in the bundles here: it never gets to run.
const KERNEL: usize = 1 << 16;

/// Something that the hypervisor cannot start with.
struct Refusal {
    name: &'static str,
    what: What,
    /// How its line on the serial port begins.
    says: &'static str,
}

enum What {
    /// QEMU's `virt` machine: MiB of memory, the hypervisor's command line, and what takes the ramdisk's place.
    Virt { memory: u32, line: &'static str, ramdisk: Ramdisk },
    /// The same with another device tree.
    VirtTree(Tree),
    /// A `virt` machine that starts its programs at EL1.
    NotEl2,
    /// A `virt` machine on which nobody says where the device tree is.
    NowhereOnVirt,
    /// The Raspberry Pi 4, with the device tree of another board or none.
    Raspi4b(Option<Tree>),
}

#[derive(Clone, Copy)]
enum Ramdisk {
    None,
    Bundle,
    /// A bundle of which the end is missing.
    CutShort,
    /// What other systems have there.
    Gzip,
    /// A bundle whose kernel is none.
    NoKernel,
}

#[derive(Clone, Copy)]
enum Tree {
    /// QEMU's own, for another board's image.
    Virt,
    OtherBoard,
    NoGic,
}

const ALL: [Refusal; 13] = [
    Refusal {
        name: "entered at EL1",
        what: What::NotEl2,
        says: "Domus needs to be started at EL2",
    },
    Refusal {
        name: "no device tree",
        what: What::NowhereOnVirt,
        says: "the loader gave no device tree",
    },
    Refusal {
        name: "device tree of another board",
        what: What::VirtTree(Tree::OtherBoard),
        says: "this image is for QEMU's virt machine, and the device tree is of another board (example,board)",
    },
    Refusal {
        name: "device tree without an interrupt controller",
        what: What::VirtTree(Tree::NoGic),
        says: "the device tree has no GICv2 or GICv3 with a virtual interface",
    },
    Refusal {
        name: "no Dom0",
        what: What::Virt { memory: 1024, line: "", ramdisk: Ramdisk::None },
        says: "the loader brought no Dom0: neither modules in the device tree nor a boot bundle",
    },
    Refusal {
        name: "boot bundle cut short",
        what: What::Virt { memory: 1024, line: "", ramdisk: Ramdisk::CutShort },
        says: "the boot bundle is cut short",
    },
    Refusal {
        name: "another ramdisk than a boot bundle",
        what: What::Virt { memory: 1024, line: "", ramdisk: Ramdisk::Gzip },
        says: "the boot bundle is not a cpio archive",
    },
    Refusal {
        name: "kernel that is none",
        what: What::Virt { memory: 1024, line: "", ramdisk: Ramdisk::NoKernel },
        says: "Dom0's kernel is not an arm64 Linux image",
    },
    Refusal {
        name: "too little memory for Dom0",
        what: What::Virt { memory: 512, line: "dom0_mem=1G", ramdisk: Ramdisk::Bundle },
        says: "Dom0 wants 512 MiB of memory and only ",
    },
    Refusal {
        name: "too little memory for Dom0's kernel",
        what: What::Virt { memory: 512, line: "dom0_mem=2M", ramdisk: Ramdisk::Bundle },
        says: "Dom0's kernel and ramdisk do not fit into its memory",
    },
    Refusal {
        name: "too little memory for the hypervisor",
        what: What::Virt { memory: 10, line: "", ramdisk: Ramdisk::None },
        says: "there is too little memory for the hypervisor itself",
    },
    Refusal {
        name: "no device tree, Raspberry Pi 4",
        what: What::Raspi4b(None),
        says: "the loader gave no device tree",
    },
    Refusal {
        name: "device tree of another board, Raspberry Pi 4",
        what: What::Raspi4b(Some(Tree::Virt)),
        says: "this image is for the Raspberry Pi 4, and the device tree is of another board (linux,dummy-virt)",
    },
];

/// Plays all, or those whose names contain one of `names`.
pub(crate) fn play(names: &[String]) -> Result<Count> {
    let mut count = Count::default();
    let chosen: Vec<&Refusal> = ALL
        .iter()
        .filter(|one| names.is_empty() || names.iter().any(|name| one.label().contains(name)))
        .collect();
    if chosen.is_empty() {
        return Ok(count);
    }
    let virt = compile::hypervisor(Platform::QemuVirt)?;
    let raspi = compile::hypervisor(Platform::RaspberryPi4)?;
    for refusal in chosen {
        let began = Instant::now();
        if let (What::Raspi4b(_), Some(why)) = (&refusal.what, raspi4b::missing()) {
            println!("skipped {}: {why}", refusal.label());
            continue;
        }
        let result = refusal.play(&virt, &raspi);
        count.note(&refusal.label(), began, &result);
    }
    Ok(count)
}

impl Refusal {
    fn label(&self) -> String {
        format!("refusal of {}", self.name)
    }

    fn play(&self, virt: &Path, raspi: &Path) -> Result<()> {
        let mut serial = Serial::start(self.command(virt, raspi)?, "refusal")?;
        let says = match self.what {
            What::NotEl2 => self.says.to_owned(),
            _ => format!("{CANNOT}{}", self.says),
        };
        serial.expect(&says, LIMIT)?;
        serial.expect("\n", LIMIT)?;
        serial.stay_quiet(QUIET)
    }

    fn command(&self, virt: &Path, raspi: &Path) -> Result<Command> {
        let mut command = Command::new("qemu-system-aarch64");
        let on_virt = |command: &mut Command, memory| {
            qemu::board(command, Gic::V3, USUAL_CPU, 1, memory)?;
            command.args(["-nic", "none"]);
            anyhow::Ok(())
        };
        match &self.what {
            What::Virt { memory, line, ramdisk } => {
                on_virt(&mut command, *memory)?;
                command.arg("-kernel").arg(virt).args(["-append", line]);
                if let Some(file) = ramdisk.file()? {
                    command.arg("-initrd").arg(file);
                }
            }
            What::VirtTree(tree) => {
                on_virt(&mut command, 1024)?;
                command.arg("-kernel").arg(virt).arg("-dtb").arg(tree.file()?);
            }
            What::NotEl2 => {
                command.args(["-machine", "virt", "-cpu", USUAL_CPU, "-m", "1024M"]);
                command.args(["-display", "none", "-no-reboot", "-nic", "none"]);
                command.arg("-kernel").arg(virt);
            }
            What::NowhereOnVirt => {
                on_virt(&mut command, 1024)?;
                // Put where it is started from, with nothing in its registers.
                let loaded = format!("loader,file={},addr=0x40200000,cpu-num=0", virt.display());
                command.args(["-device", &format!("{loaded},force-raw=on")]);
            }
            What::Raspi4b(tree) => {
                command = Command::new(raspi4b::program());
                command.args(["-machine", "raspi4b", "-display", "none", "-no-reboot"]);
                command.arg("-kernel").arg(raspi);
                if let Some(tree) = tree {
                    command.arg("-dtb").arg(tree.file()?);
                }
            }
        }
        Ok(command)
    }
}

impl Ramdisk {
    /// Writes it; returns where.
    fn file(self) -> Result<Option<PathBuf>> {
        let mut kernel = vec![0; KERNEL];
        let bundle = |kernel: &[u8]| boot_bundle::write("", "", kernel, None);
        let bytes = match self {
            Self::None => return Ok(None),
            Self::NoKernel => bundle(&kernel),
            Self::Gzip => [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].repeat(20),
            Self::Bundle | Self::CutShort => {
                // What an arm64 kernel says of itself: how much memory it takes, and that it is one.
                kernel.splice(16..24, (4_u64 << 20).to_le_bytes());
                kernel.splice(56..60, *b"ARM\x64");
                let mut whole = bundle(&kernel);
                if matches!(self, Self::CutShort) {
                    whole.truncate(whole.len() / 2);
                }
                whole
            }
        };
        written("refused.cpio", bytes).map(Some)
    }
}

impl Tree {
    /// Writes it; returns where.
    fn file(self) -> Result<PathBuf> {
        let name = match self {
            Self::Virt | Self::NoGic => "virt-gicv3.dtb",
            Self::OtherBoard => "soc.dtb",
        };
        let path = root().join("hypervisor/tests/trees").join(name);
        if !matches!(self, Self::NoGic) {
            return Ok(path);
        }
        let blob = fs::read(&path).with_context(|| path.display().to_string())?;
        let tree = Fdt::new(&blob).ok().with_context(|| path.display().to_string())?;
        let mut tree = DeviceTree::from_fdt(&tree);
        tree.root.remove_child("intc@8000000").context("the tree has no interrupt controller")?;
        written("refused.dtb", tree.to_dtb())
    }
}

fn written(name: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf> {
    let path = dist().join(name);
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}
