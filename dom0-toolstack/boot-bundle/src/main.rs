//! Writes and shows boot bundles: Dom0's kernel, its ramdisk and the command lines in one file, which a loader passes as a ramdisk.
//!
//! The format is `hv_core::boot_bundle`'s, the very code by which the hypervisor reads it. What the hypervisor would
//! refuse at boot is refused here, where somebody can still read the reason.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use flate2::read::GzDecoder;
use hv_core::boot_bundle;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where an arm64 `Image` says what it is (Linux, Documentation/arch/arm64/booting.rst), and what stands there.
const MAGIC_AT: usize = 56;
const MAGIC: &[u8] = b"ARM\x64";
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Writes and shows boot bundles: Dom0's kernel, ramdisk and command lines in one file.
#[derive(Debug, Parser)]
#[command(name = "domus-bundle", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a bundle.
    Write {
        /// Dom0's kernel: an arm64 Image, plain or compressed by gzip.
        #[arg(long, value_name = "FILE")]
        kernel: PathBuf,
        /// Dom0's initial ramdisk.
        #[arg(long, value_name = "FILE")]
        ramdisk: Option<PathBuf>,
        /// The hypervisor's command line; what the loader passes comes behind it.
        #[arg(long, value_name = "LINE", default_value = "")]
        hypervisor_line: String,
        /// Dom0's command line.
        #[arg(long, value_name = "LINE", default_value = "")]
        dom0_line: String,
        /// The bundle; what has its name is replaced once the new one is complete.
        bundle: PathBuf,
    },
    /// Prints what is in a bundle.
    Show {
        /// The bundle.
        bundle: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("domus-bundle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Write { kernel, ramdisk, hypervisor_line, dom0_line, bundle } => {
            let kernel = read_kernel(&kernel)?;
            let ramdisk = ramdisk.map(|path| read_file(&path)).transpose()?;
            let bytes =
                boot_bundle::write(&hypervisor_line, &dom0_line, &kernel, ramdisk.as_deref());
            replace(&bundle, &bytes).with_context(|| bundle.display().to_string())
        }
        Command::Show { bundle } => {
            print!("{}", show(&read_file(&bundle)?).with_context(|| bundle.display().to_string())?);
            Ok(())
        }
    }
}

/// Describes a bundle, one property a line.
fn show(bytes: &[u8]) -> Result<String> {
    let bundle = boot_bundle::read(bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(format!(
        "hypervisor_line: {}\ndom0_line: {}\nkernel: {} bytes\nramdisk: {} bytes\n",
        bundle.manifest.command_line,
        bundle.manifest.dom0_command_line,
        bundle.kernel.len(),
        bundle.ramdisk.map_or(0, <[u8]>::len),
    ))
}

/// Reads a kernel as the hypervisor takes it: uncompressed, and an arm64 `Image`.
fn read_kernel(path: &Path) -> Result<Vec<u8>> {
    let mut kernel = read_file(path)?;
    if kernel.starts_with(GZIP) {
        let mut plain = Vec::new();
        GzDecoder::new(kernel.as_slice())
            .read_to_end(&mut plain)
            .with_context(|| format!("{}: its compression is broken", path.display()))?;
        kernel = plain;
    }
    if kernel.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) != Some(MAGIC) {
        bail!("{} is no arm64 Image, plain or compressed by gzip", path.display());
    }
    Ok(kernel)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Writes a file beside another and gives it the other's name once it is whole on the disk.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = File::create(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The error below is the one that matters; half a file helps nobody.
        let _ = fs::remove_file(&new);
        return Err(error.into());
    }
    fs::rename(&new, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn kernel() -> Vec<u8> {
        let mut image = vec![7; 4096];
        image[MAGIC_AT..MAGIC_AT + MAGIC.len()].copy_from_slice(MAGIC);
        image
    }

    fn write(directory: &Path, kernel: &[u8]) -> Result<PathBuf> {
        let (from, to) = (directory.join("vmlinuz"), directory.join("bundle"));
        fs::write(&from, kernel)?;
        run(Command::Write {
            kernel: from,
            ramdisk: None,
            hypervisor_line: "dom0_mem=1G".into(),
            dom0_line: "console=hvc0".into(),
            bundle: to.clone(),
        })?;
        Ok(to)
    }

    #[test]
    fn a_compressed_kernel_is_in_the_bundle_as_the_hypervisor_takes_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&kernel()).unwrap();
        let bundle = write(directory.path(), &gzip.finish().unwrap()).unwrap();
        let bytes = fs::read(bundle).unwrap();
        assert_eq!(boot_bundle::read(&bytes).unwrap().kernel, kernel());
        let shown = show(&bytes).unwrap();
        assert!(shown.contains("dom0_line: console=hvc0\nkernel: 4096 bytes\n"), "{shown}");
    }

    #[test]
    fn what_is_no_kernel_leaves_the_old_bundle_alone() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = write(directory.path(), &kernel()).unwrap();
        let before = fs::read(&bundle).unwrap();
        for wrong in [&b"MZ"[..], &[0x1f, 0x8b, 8, 0, 1], &[0; 8192]] {
            assert!(write(directory.path(), wrong).is_err());
        }
        assert_eq!(fs::read(&bundle).unwrap(), before);
    }

    #[test]
    fn another_ramdisk_is_not_shown_as_a_bundle() {
        let error = show(&[0; 200]).unwrap_err();
        assert_eq!(error.to_string(), "the boot bundle is not a cpio archive");
    }
}
