//! QEMU's model of the Raspberry Pi 4: what it boots of the SD card, and what its model lacks of the board.

use anyhow::{Context, Result, ensure};
use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::machine::MachineArgs;
use crate::process::dist;
use crate::qemu;

/// Devices that Debian's kernel drives and that this model has not. Most crash the kernel; the video processor and the screen only make udev load
/// dozens of modules in vain, which takes longer than systemd waits for a device.
const MISSING: [&str; 16] = [
    "/gpu",
    "/scb/gpu@7ec00000",
    "/soc/mailbox@7e00b840",
    "/soc/interrupt-controller@7ef00100",
    "/soc/serial@7e201400",
    "/soc/serial@7e201600",
    "/soc/serial@7e201800",
    "/soc/serial@7e201a00",
    "/soc/aux@7e215000",
    "/soc/serial@7e215040",
    "/soc/clock@7ef00000",
    "/soc/watchdog@7e100000",
    "/soc/i2c@7ef04500",
    "/soc/i2c@7ef09500",
    "/soc/hdmi@7ef00700",
    "/soc/hdmi@7ef05700",
];
/// Where this model has the card: at the controller that the board has its radio at.
const CARD_SLOT: &str = "/soc/mmc@7e300000";
/// MiB below the first GiB's end.
const LOW_MEMORY: u32 = 1024;
/// The board's device tree, as Debian's kernel package has it.
const TREE: &str = "bcm2711-rpi-4-b.dtb";

/// Returns the QEMU to use: another than the system's if the environment names one.
pub(crate) fn program() -> OsString {
    std::env::var_os("QEMU_RASPI4B").unwrap_or_else(|| "qemu-system-aarch64".into())
}

/// Says why there is no such machine here; nothing if there is.
pub(crate) fn missing() -> Option<&'static str> {
    let machines = Command::new(program()).args(["-machine", "help"]).output();
    let known = machines.is_ok_and(|said| {
        let text = String::from_utf8_lossy(&said.stdout);
        text.lines().any(|line| line.starts_with("raspi4b "))
    });
    (!known)
        .then_some("this QEMU has no raspi4b; QEMU 9.0 has (QEMU_RASPI4B=PROGRAM names another)")
}

/// Returns the command that boots the SD card on the board.
pub(crate) fn command(args: &MachineArgs) -> Result<Command> {
    let card = debian::card()?;
    let tree = dist().join(TREE);
    debian::copy_from_card(TREE, &tree)?;
    let hypervisor = dist().join("card-domus.img");
    debian::copy_from_card("domus.img", &hypervisor)?;
    let edited = edited(&tree, args.memory)?;
    let mut command = Command::new(program());
    command.args(["-machine", "raspi4b", "-display", "none", "-no-reboot"]);
    command.args(["-smp", &args.cpus.to_string(), "-m", &format!("{}M", args.memory)]);
    qemu::clock(&mut command, args);
    command.arg("-kernel").arg(hypervisor).args(["-append", &args.hypervisor_line()]);
    command.arg("-dtb").arg(edited).arg("-initrd").arg(&card.bundle);
    let disk = card.disk.display();
    command.args(["-drive", &format!("file={disk},if=sd,format=raw,snapshot=on")]);
    command.args(&args.qemu);
    Ok(command)
}

/// Turns off in a device tree what the model lacks, and makes its first serial port the console.
fn edited(tree: &Path, memory: u32) -> Result<PathBuf> {
    let blob = fs::read(tree).with_context(|| tree.display().to_string())?;
    let checked = Fdt::new(&blob).ok().context("the card's device tree is broken")?;
    let mut tree = DeviceTree::from_fdt(&checked);
    for name in MISSING {
        let node = tree.find_node_mut(name);
        let node = node.with_context(|| format!("the card's device tree has no {name}"))?;
        node.add_property(DeviceTreeProperty::new_unchecked("status", "disabled"));
    }
    let slot = tree.find_node_mut(CARD_SLOT);
    let slot = slot.with_context(|| format!("the card's device tree has no {CARD_SLOT}"))?;
    // The radio's power is switched by the firmware, which this model has not.
    slot.remove_property("mmc-pwrseq");
    slot.remove_child("wifi@1");
    let chosen = tree.find_node_mut("/chosen").context("the card's device tree has no /chosen")?;
    ensure!(chosen.property("stdout-path").is_some(), "the card's device tree has no console");
    chosen.add_property(DeviceTreeProperty::new_unchecked("stdout-path", "serial0:115200n8"));
    // QEMU says nothing of what is above 1 GiB, and takes other nodes out that are called memory.
    if memory > LOW_MEMORY {
        let mut high = DeviceTreeNode::new_unchecked("ram@40000000");
        high.add_property(DeviceTreeProperty::new_unchecked("device_type", "memory"));
        let reg: &[u32] = &[0, LOW_MEMORY << 20, (memory - LOW_MEMORY) << 20];
        high.add_property(DeviceTreeProperty::new_unchecked("reg", reg));
        tree.root.add_child(high);
    }
    let edited = dist().join("raspi4b.dtb");
    fs::write(&edited, tree.to_dtb())?;
    Ok(edited)
}
