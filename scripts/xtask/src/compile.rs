//! Builds what ships: the hypervisor as a raw arm64 `Image`, the toolstack as static binaries.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{cargo, dist, llvm_tool, output, run, say};

/// The target of the hypervisor and of bare-metal guests.
pub(crate) const BARE_METAL: &str = "aarch64-unknown-none-softfloat";
const STATIC_LINUX: &str = "aarch64-unknown-linux-musl";

/// A platform that the hypervisor is built for.
#[derive(Clone, Copy)]
pub(crate) enum Platform {
    QemuVirt,
    RaspberryPi4,
}

impl Platform {
    /// Returns the names of its package and of its image, less the ending.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::QemuVirt => ("platform-qemu-virt", "qemu-virt"),
            Self::RaspberryPi4 => ("platform-raspberry-pi-4", "raspberry-pi-4"),
        }
    }
}

const TOOLSTACK: [&str; 4] = ["boot-bundle", "xenstore", "xenconsoled", "xl"];

/// What of a package is built.
pub(crate) enum Built {
    Programs,
    Program(&'static str),
    Example(&'static str),
    /// All examples, with all features.
    Examples,
}

/// Builds the hypervisor and the toolstack, with its manual.
pub(crate) fn everything() -> Result<()> {
    hypervisor(Platform::QemuVirt)?;
    hypervisor(Platform::RaspberryPi4)?;
    toolstack()?;
    documents()
}

/// Writes the manual pages and the completion, which the program makes from its own commands.
pub(crate) fn documents() -> Result<()> {
    say("writing manual pages and completion");
    let share = dist().join("share");
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "xl", "--", "generate-documents"]).arg(&share);
    run(&mut command)
}

/// Builds the hypervisor for a platform; returns the raw image's path.
pub(crate) fn hypervisor(platform: Platform) -> Result<PathBuf> {
    let (package, name) = platform.names();
    say(&format!("building the hypervisor ({name})"));
    let elf = executables(&[package], &Built::Programs, BARE_METAL)?
        .pop()
        .context("the platform has no binary")?;
    let image = dist().join(name).with_extension("img");
    raw_image(&elf, &image)?;
    fs::copy(&elf, dist().join(name).with_extension("elf"))?;
    Ok(image)
}

/// Builds the library's examples and template, and a test guest to be their neighbour; returns the paths of their raw images, which are kernels of guests.
pub(crate) fn example_guests() -> Result<Vec<PathBuf>> {
    say("building the guests");
    let to = dist().join("guests");
    fs::create_dir_all(&to)?;
    let mut images = Vec::new();
    let mut built = executables(&["pv-guest-lib"], &Built::Examples, BARE_METAL)?;
    built.extend(executables(&["test-guests"], &Built::Program("hostile"), BARE_METAL)?);
    for elf in built {
        let image = to.join(elf.file_name().context("a program without a name")?);
        raw_image(&elf, &image)?;
        images.push(image);
    }
    // The template is linked straight to what is loaded.
    for built in executables(&["my-guest"], &Built::Programs, BARE_METAL)? {
        let image = to.join(built.file_name().context("a program without a name")?);
        fs::copy(&built, &image)?;
        images.push(image);
    }
    Ok(images)
}

/// Turns an ELF file into the bytes a boot loader copies to memory.
pub(crate) fn raw_image(elf: &Path, image: &Path) -> Result<()> {
    fs::create_dir_all(dist())?;
    run(Command::new(llvm_tool("llvm-objcopy")?).args(["-O", "binary"]).arg(elf).arg(image))
}

/// Builds the toolstack; returns the paths of its stripped binaries.
pub(crate) fn toolstack() -> Result<Vec<PathBuf>> {
    say("building the toolstack");
    let bin = dist().join("bin");
    fs::create_dir_all(&bin)?;
    let strip = llvm_tool("llvm-strip")?;
    let mut installed = Vec::new();
    for built in executables(&TOOLSTACK, &Built::Programs, STATIC_LINUX)? {
        let to = bin.join(built.file_name().context("a binary without a name")?);
        run(Command::new(&strip).arg("-o").arg(&to).arg(&built))?;
        if to.ends_with("xl") {
            // xl under its other name; a copy, since images are filled with plain files.
            let other = bin.join("xen-init-dom0");
            fs::copy(&to, &other)?;
            installed.push(other);
        }
        installed.push(to);
    }
    Ok(installed)
}

/// Builds packages for a target and returns the executables that came of it.
pub(crate) fn executables(packages: &[&str], built: &Built, target: &str) -> Result<Vec<PathBuf>> {
    let mut command = cargo();
    let profile = if target == STATIC_LINUX { "toolstack" } else { "release" };
    command.args(["build", "--profile", profile, "--quiet", "--target", target]);
    match built {
        Built::Programs => command.arg("--bins"),
        Built::Program(name) => command.args(["--bin", name]),
        Built::Example(name) => command.args(["--example", name]),
        Built::Examples => command.args(["--examples", "--all-features"]),
    };
    command.arg("--message-format=json-render-diagnostics");
    for package in packages {
        command.args(["--package", package]);
    }
    let mut found = Vec::new();
    for line in output(&mut command)?.lines() {
        let message: Value = serde_json::from_str(line).context("cargo's messages are JSON")?;
        if let Some(path) = message.get("executable").and_then(Value::as_str) {
            found.push(PathBuf::from(path));
        }
    }
    if found.is_empty() {
        bail!("nothing was built of {}", packages.join(", "));
    }
    Ok(found)
}
