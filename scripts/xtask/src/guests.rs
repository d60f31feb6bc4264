//! Bare-metal tests in QEMU: `machine` in the hypervisor's place, and the guests of `tests/guests` as its Dom0, each on the machines it is made for. A guest prints a line for each test; `machine` ends QEMU with a status.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::compile::{self, Built};
use crate::image;
use crate::machine::{Gic, Hypervisor, MachineArgs, USUAL_CPU};
use crate::process::{dist, output};
use crate::qemu;
use crate::serial::Serial;
use crate::system::Count;

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(120);

/// On what machines each guest runs: processors, and virtual ones of Dom0.
const SHAPES: [(&str, &[(u32, u32)]); 13] = [
    ("domains", &[(1, 1), (2, 1)]),
    ("evtchn", &[(1, 2), (2, 2)]),
    ("grant", &[(1, 1)]),
    ("hostile", &[(1, 4), (4, 4)]),
    ("memory", &[(1, 1)]),
    ("mmio", &[(1, 1)]),
    ("p2m", &[(1, 1)]),
    ("psci", &[(1, 4), (4, 4)]),
    ("sched", &[(1, 4)]),
    ("sysreg", &[(1, 1)]),
    ("timer", &[(1, 1)]),
    ("version", &[(1, 1)]),
    ("vgic", &[(1, 2), (2, 2)]),
];

/// Guests that run on a newer processor as well: it has registers that the usual one has not, and
/// that nobody may get.
const ON_NEWER: [&str; 1] = ["sysreg"];
/// That processor.
const NEWER_CPU: &str = "neoverse-n1";

/// One run of one program.
struct Guest {
    name: String,
    cpu: &'static str,
    cpus: u32,
    vcpus: u32,
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
pub(crate) fn play(hypervisor: Hypervisor, gic: Gic, names: &[String]) -> Result<Count> {
    let mut count = Count::default();
    for guest in all(hypervisor)? {
        if names.is_empty() || names.iter().any(|name| guest.name.contains(name.as_str())) {
            let began = Instant::now();
            let result = play_one(&guest, hypervisor, gic);
            let Guest { name, cpu, cpus, vcpus, .. } = &guest;
            let machine = match *cpu {
                USUAL_CPU => format!("{cpus} CPU, GICv{gic}"),
                cpu => format!("{cpus} CPU, {cpu}, GICv{gic}"),
            };
            let on = match guest.place {
                Place::Bare(_) => format!("guest {name} on {machine}"),
                Place::Dom0 { .. } => format!("guest {name} with {vcpus} vCPU on {machine}"),
            };
            count.note(&on, began, &result);
        }
    }
    Ok(count)
}

fn all(hypervisor: Hypervisor) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    let below = match hypervisor {
        Hypervisor::Domus => {
            for kernel in build("platform-qemu-virt", &Built::Example("machine"))? {
                for cpus in [1, 4] {
                    let place = Place::Bare(kernel.image.clone());
                    let name = kernel.name.clone();
                    guests.push(Guest { name, cpu: USUAL_CPU, cpus, vcpus: 0, place });
                }
            }
            compile::hypervisor(compile::Platform::QemuVirt)?
        }
        Hypervisor::Xen => image::base(&[])?.xen,
    };
    for kernel in build("test-guests", &Built::Programs)? {
        let shapes = SHAPES.iter().find(|(name, _)| *name == kernel.name);
        let (_, shapes) = shapes.with_context(|| format!("no shape for {}", kernel.name))?;
        let newer = ON_NEWER.contains(&kernel.name.as_str()).then_some(NEWER_CPU);
        for cpu in [USUAL_CPU].into_iter().chain(newer) {
            for (cpus, vcpus) in *shapes {
                let place = Place::Dom0 { hypervisor: below.clone(), kernel: kernel.image.clone() };
                let name = kernel.name.clone();
                guests.push(Guest { name, cpu, cpus: *cpus, vcpus: *vcpus, place });
            }
        }
    }
    Ok(guests)
}

/// A program as a boot loader wants it.
struct Kernel {
    name: String,
    image: PathBuf,
}

fn build(package: &str, what: &Built) -> Result<Vec<Kernel>> {
    let built = compile::executables(&[package], what, compile::BARE_METAL)?;
    built.iter().map(|elf| raw(elf)).collect()
}

fn raw(elf: &Path) -> Result<Kernel> {
    let name = elf.file_name().context("a nameless program")?.to_string_lossy().into_owned();
    let image = dist().join(&name).with_extension("guest");
    compile::raw_image(elf, &image)?;
    Ok(Kernel { name, image })
}

fn play_one(guest: &Guest, hypervisor: Hypervisor, gic: Gic) -> Result<()> {
    let mut command = Command::new("qemu-system-aarch64");
    qemu::board(&mut command, gic, guest.cpu, guest.cpus, 1024)?;
    command.args(["-nic", "none", "-semihosting-config", "enable=on,target=native"]);
    match &guest.place {
        Place::Bare(image) => {
            command.arg("-kernel").arg(image);
        }
        Place::Dom0 { hypervisor: below, kernel } => {
            let args = MachineArgs {
                hypervisor,
                vcpus: guest.vcpus,
                dom0_memory: 256,
                // By counted instructions a run is the same every time, and idle time passes at once. With more
                // processors QEMU would let each run for 100 ms while the others' time passes too.
                icount: guest.cpus == 1,
                dom0_append: words(&guest.name)?,
                ..MachineArgs::default()
            };
            qemu::clock(&mut command, &args);
            command.arg("-kernel").arg(below).args(["-append", &args.hypervisor_line()]);
            // Without a line for Dom0, Xen would take its own for it.
            qemu::boot_kernel(&mut command, kernel, &args.dom0_line());
        }
    }
    let Guest { name, cpu, cpus, vcpus, .. } = guest;
    let transcript = format!("guest-{name}-{cpu}-{cpus}-{vcpus}-gic{gic}");
    let mut serial = Serial::start(command, &transcript)?;
    let status = serial.end(LIMIT)?;
    if !status.success() {
        bail!("{status}; its last lines were:\n{}", serial.last_lines());
    }
    match guest.place {
        Place::Bare(_) => Ok(()),
        Place::Dom0 { .. } => verdict(serial.text())
            .with_context(|| format!("its last lines were:\n{}", serial.last_lines())),
    }
}

/// Returns what a guest's command line has besides the usual.
///
/// QEMU 10 ends with an assertion where the hypervisor asks whether it may write to a page that stage 2 maps for
/// reading (`do_ats_write`); version 7 has not got it yet.
fn words(name: &str) -> Result<String> {
    if name != "hostile" {
        return Ok(String::new());
    }
    let said = output(Command::new("qemu-system-aarch64").arg("--version"))?;
    let answers =
        if major(&said).is_some_and(|major| major < 8) { "answers=read-only" } else { "" };
    Ok(answers.to_owned())
}

/// Reads the first number of QEMU's version.
fn major(said: &str) -> Option<u32> {
    let number = said.split_once("version ")?.1.split('.').next()?;
    number.parse().ok()
}

/// Judges a guest by its lines: all tests passed, there was at least one, and it came to its end.
fn verdict(text: &str) -> Result<()> {
    let failures: Vec<&str> = text.lines().filter(|line| line.starts_with("not ok ")).collect();
    if !failures.is_empty() {
        bail!("\n{}", failures.join("\n"));
    }
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    let end = format!("{passed} passed, 0 failed");
    if passed == 0 || !text.lines().any(|line| line == end) {
        bail!("it did not come to its end");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_says_how_many_tests_passed_has_passed() {
        assert!(verdict("(Domus) hello\nok one\nok two\n2 passed, 0 failed\n").is_ok());
    }

    #[test]
    fn a_guest_that_stops_early_or_runs_nothing_has_failed() {
        assert!(verdict("ok one\nok two\n").is_err());
        assert!(verdict("ok one\n2 passed, 0 failed\n").is_err());
        assert!(verdict("0 passed, 0 failed\n").is_err());
    }

    #[test]
    fn the_major_version_of_qemu_is_read_from_what_it_says() {
        assert_eq!(major("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n"), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2\n"), Some(10));
        assert_eq!(major("no such program"), None);
    }

    #[test]
    fn a_failure_is_named() {
        let error = verdict("ok one\nnot ok two: why\n1 passed, 1 failed\n").unwrap_err();
        assert!(error.to_string().contains("two: why"));
    }
}
