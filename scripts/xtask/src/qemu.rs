//! The QEMU command line of a machine.

use anyhow::{Context, Result, bail};
use hv_core::boot_bundle;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::image::Kernel;
use crate::machine::{Board, Boot, Gic, Hypervisor, Machine, MachineArgs, Root, Tools};
use crate::process::{dist, say};
use crate::raspi4b;

/// Whether the machine starts at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Debugger {
    None,
    /// Stops before the first instruction until a debugger on port 1234 says go.
    Waits,
}

// Where the boot modules are put, clear of where QEMU puts the hypervisor and the device tree.
const KERNEL_ADDRESS: u64 = 0x4900_0000;
const INITRD_ADDRESS: u64 = 0x5200_0000;

/// Boots a machine on this terminal, until it or the user ends it.
pub(crate) fn interactive(machine: &Machine, debugger: Debugger) -> Result<()> {
    let mut command = command(machine)?;
    command.args(["-serial", "mon:stdio"]);
    if debugger == Debugger::Waits {
        command.args(["-S", "-s"]);
        say(
            "waiting for a debugger: gdb-multiarch -ex 'target remote :1234' target/dist/qemu-virt.elf",
        );
    }
    say("booting (Ctrl-A X ends QEMU)");
    let status = command.status().context("qemu-system-aarch64 cannot be started")?;
    if !status.success() {
        bail!("QEMU ended with {status}");
    }
    Ok(())
}

/// Returns the command that boots a machine; its serial port is for the caller to connect.
pub(crate) fn command(machine: &Machine) -> Result<Command> {
    let args = &machine.args;
    if args.board == Board::Raspi4b {
        return raspi4b::command(args);
    }
    let mut command = Command::new("qemu-system-aarch64");
    board(&mut command, args.gic, &args.cpu, args.cpus, args.memory)?;
    clock(&mut command, args);
    match args.root {
        Root::Small => {}
        Root::Debian => return installed(command, args, &debian::host()?),
        Root::Card => return installed(command, args, &debian::card()?),
    }
    command.arg("-kernel").arg(&machine.hypervisor).args(["-append", &args.hypervisor_line()]);
    match args.boot {
        Boot::Modules => {
            let kernel = machine.dom0.kernel(args.kernel.as_deref())?;
            boot_kernel(&mut command, &kernel.image, &args.dom0_line());
            let initrd = kernel.initrd.display();
            let loader = format!("guest-loader,addr={INITRD_ADDRESS:#x},initrd={initrd}");
            command.arg("-device").arg(loader);
        }
        Boot::Bundle => {
            command.arg("-initrd").arg(bundle(machine)?);
        }
    }
    devices(&mut command, &machine.dom0.disk, args);
    Ok(command)
}

/// Boots what `domus-update-boot` has put in place in a Debian installation, on that installation.
fn installed(mut command: Command, args: &MachineArgs, host: &debian::Host) -> Result<Command> {
    if args.hypervisor != Hypervisor::Domus || args.tools != Tools::Domus {
        bail!("a Debian installation with our packages boots with our hypervisor and tools only");
    }
    command.arg("-kernel").arg(&host.hypervisor).args(["-append", &args.hypervisor_line()]);
    command.arg("-initrd").arg(&host.bundle);
    devices(&mut command, &host.disk, args);
    Ok(command)
}

/// Has the machine's time be what is asked for.
pub(crate) fn clock(command: &mut Command, args: &MachineArgs) {
    if args.icount {
        command.args(["-icount", "shift=0,sleep=off"]);
    }
}

/// Adds the root disk, the network, and what the user asked for.
fn devices(command: &mut Command, disk: &Path, args: &MachineArgs) {
    let disk = disk.display();
    // What Dom0 writes is gone when QEMU ends.
    command.args(["-drive", &format!("file={disk},if=none,id=root,format=raw,snapshot=on")]);
    command.args(["-device", "virtio-blk-device,drive=root"]);
    command.args(["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"]);
    command.args(&args.qemu);
}

/// Adds the board itself: its interrupt controller, processors, and memory in MiB.
pub(crate) fn board(
    command: &mut Command,
    gic: Gic,
    cpu: &str,
    cpus: u32,
    memory: u32,
) -> Result<()> {
    if cpus > gic.most_cpus() {
        bail!("a machine with a GICv{gic} has at most {} CPUs, not {cpus}", gic.most_cpus());
    }
    let machine = format!("virt,virtualization=on,gic-version={gic}");
    command.args(["-machine", &machine, "-cpu", cpu]);
    command.args(["-smp", &cpus.to_string(), "-m", &format!("{memory}M")]);
    command.args(["-display", "none", "-no-reboot"]);
    Ok(())
}

/// Adds Dom0's kernel as a boot module with its command line.
pub(crate) fn boot_kernel(command: &mut Command, kernel: &Path, line: &str) {
    command.arg("-device").arg(format!(
        "guest-loader,addr={KERNEL_ADDRESS:#x},kernel={},bootargs={}",
        kernel.display(),
        quoted(line)
    ));
}

/// Writes the machine's boot bundle; returns its path.
fn bundle(machine: &Machine) -> Result<PathBuf> {
    let Kernel { image, initrd } = machine.dom0.kernel(machine.args.kernel.as_deref())?;
    let (kernel, initrd) = (fs::read(image)?, fs::read(initrd)?);
    let bundle = boot_bundle::write("", &machine.args.dom0_line(), &kernel, Some(&initrd));
    // Another machine may be starting from its own.
    let path = dist().join(format!("boot-bundle-gic{}.cpio", machine.args.gic));
    fs::write(&path, bundle).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Doubles the commas, which separate QEMU's properties.
fn quoted(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_command_line_stays_in_its_property() {
        assert_eq!(quoted("console=hvc0,115200"), "console=hvc0,,115200");
    }
}
