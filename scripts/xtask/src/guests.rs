//! Bare-metal tests in QEMU: programs that run in place of the hypervisor or as its Dom0, and end QEMU with a status by semihosting.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::compile::{self, Built};
use crate::machine::MachineArgs;
use crate::process::{dist, root};
use crate::qemu;
use crate::serial::Serial;
use crate::system::Count;

/// How long one guest may run.
const LIMIT: Duration = Duration::from_secs(120);

/// One run of one program.
struct Guest {
    name: String,
    cpus: u32,
    place: Place,
}

/// Where the program runs.
enum Place {
    /// At EL2, in the hypervisor's place.
    Bare(PathBuf),
    /// As Dom0 of the hypervisor.
    Dom0 { hypervisor: PathBuf, kernel: PathBuf },
}

/// Runs all guests, or those whose names contain one of `names`.
pub(crate) fn play(names: &[String]) -> Result<Count> {
    let mut count = Count::default();
    for guest in all()? {
        if names.is_empty() || names.iter().any(|name| guest.name.contains(name.as_str())) {
            let began = Instant::now();
            let result = play_one(&guest);
            count.note(&format!("guest {} on {} CPU", guest.name, guest.cpus), began, &result);
        }
    }
    Ok(count)
}

fn all() -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    let machine = Built::Example("machine");
    for elf in compile::executables(&["platform-qemu-virt"], &machine, compile::BARE_METAL)? {
        let image = raw(&elf)?;
        for cpus in [1, 4] {
            let place = Place::Bare(image.clone());
            guests.push(Guest { name: String::from("machine"), cpus, place });
        }
    }
    if root().join("tests/guests/Cargo.toml").exists() {
        let hypervisor = compile::hypervisor()?;
        let built = compile::executables(&["test-guests"], &Built::Programs, compile::BARE_METAL)?;
        for elf in built {
            let kernel = raw(&elf)?;
            let name = elf.file_name().context("a nameless program")?.to_string_lossy();
            for cpus in [1, 2] {
                let place = Place::Dom0 { hypervisor: hypervisor.clone(), kernel: kernel.clone() };
                guests.push(Guest { name: name.clone().into_owned(), cpus, place });
            }
        }
    }
    Ok(guests)
}

fn raw(elf: &Path) -> Result<PathBuf> {
    let name = elf.file_name().context("a nameless program")?;
    let image = dist().join(name).with_extension("guest");
    compile::raw_image(elf, &image)?;
    Ok(image)
}

fn play_one(guest: &Guest) -> Result<()> {
    let mut command = Command::new("qemu-system-aarch64");
    qemu::board(&mut command, guest.cpus, 512);
    command.args(["-nic", "none", "-semihosting-config", "enable=on,target=native"]);
    match &guest.place {
        Place::Bare(image) => {
            command.arg("-kernel").arg(image);
        }
        Place::Dom0 { hypervisor, kernel } => {
            let args =
                MachineArgs { vcpus: guest.cpus, dom0_memory: 128, ..MachineArgs::default() };
            command.arg("-kernel").arg(hypervisor).args(["-append", &args.hypervisor_line()]);
            qemu::boot_kernel(&mut command, kernel, "");
        }
    }
    let mut serial = Serial::start(command, &format!("guest-{}-{}", guest.name, guest.cpus))?;
    let status = serial.end(LIMIT)?;
    if !status.success() {
        bail!("{status}; its last lines were:\n{}", serial.last_lines());
    }
    Ok(())
}
