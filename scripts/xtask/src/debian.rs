//! A whole Debian installation as Dom0, with systemd and dpkg: our Debian packages, and the installation that they make a host.

use anyhow::{Context, Result, bail};
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::compile;
use crate::image::{path_with_sbin, recipe_hash};
use crate::machine::Root;
use crate::process::{cache, dist, output, root, run, say};

/// Name of the SD card's image.
const SD_CARD: &str = "sdcard-raspberry-pi-4.img";
/// Size of the disk that stands for a card, in bytes: more than the image needs.
const CARD_SIZE: u64 = 4 << 30;

/// A Debian installation that our packages have made a host.
pub(crate) struct Host {
    /// Its disk: one file system.
    pub(crate) disk: PathBuf,
    /// The hypervisor, as the installation's own boot files have it.
    pub(crate) hypervisor: PathBuf,
    /// The boot bundle that `domus-update-boot` wrote.
    pub(crate) bundle: PathBuf,
}

/// Builds the two Debian packages, once in a command's life; returns their paths.
pub(crate) fn packages() -> Result<Vec<PathBuf>> {
    static MADE: OnceLock<Vec<PathBuf>> = OnceLock::new();
    if let Some(paths) = MADE.get() {
        return Ok(paths.clone());
    }
    compile::everything()?;
    say("making the Debian packages");
    let version = env!("CARGO_PKG_VERSION");
    let mut make = Command::new(root().join("scripts/deb/make"));
    make.arg(dist()).arg(version).arg(dist());
    if let Some(date) = date_of_sources() {
        make.env("SOURCE_DATE_EPOCH", date);
    }
    run(&mut make)?;
    let names = ["domus-hypervisor", "domus-toolstack"];
    let paths = names.map(|name| dist().join(format!("{name}_{version}_arm64.deb")));
    for path in &paths {
        let size = fs::metadata(path).with_context(|| path.display().to_string())?.len();
        let shown = path.strip_prefix(root()).unwrap_or(path);
        say(&format!("{} ({} KiB)", shown.display(), size / 1024));
    }
    Ok(MADE.get_or_init(|| paths.into()).clone())
}

/// Makes a plain Debian installation unless one of the same recipe is there; returns its directory.
pub(crate) fn base() -> Result<PathBuf> {
    let scripts = root().join("scripts");
    // The demo guest comes with it.
    let recipe = recipe_hash(&scripts.join("debian"), &[])?
        ^ recipe_hash(&scripts.join("rootfs/initramfs"), &[])?;
    let here = cache().join(format!("debian-{recipe:016x}"));
    if !here.join("complete").exists() {
        say("making a Debian installation (once; kept in target/cache)");
        run(Command::new(scripts.join("debian/make")).arg(&here))?;
        fs::write(here.join("complete"), "")?;
    }
    Ok(here)
}

/// Installs our packages into a copy of the Debian installation, as an administrator would with dpkg.
pub(crate) fn host() -> Result<Host> {
    let base = base()?;
    let packages = packages()?;
    let disk = dist().join("debian.ext4");
    let hypervisor = dist().join("debian-domus.img");
    let bundle = dist().join("debian-domus-boot.cpio");
    let made_of = Ingredients::of(&base, &packages, &["host"])?;
    if made_of.made(&disk) && hypervisor.exists() && bundle.exists() {
        return Ok(Host { disk, hypervisor, bundle });
    }
    say("installing them in a Debian installation, in a virtual machine");
    let new = dist().join(format!("debian.ext4.{}", std::process::id()));
    let original = base.join("debian.ext4");
    run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(original).arg(&new))?;
    set_up(&base, &new, &packages, "qemu-virt")?;
    take(&new, "/boot/domus/domus.img", &hypervisor)?;
    take(&new, "/boot/domus/domus-boot.cpio", &bundle)?;
    fs::rename(&new, &disk)?;
    made_of.note(&disk)?;
    Ok(Host { disk, hypervisor, bundle })
}

/// Makes an SD card image for a Raspberry Pi 4, unless one of the same ingredients is there.
pub(crate) fn sd_card() -> Result<()> {
    let base = base()?;
    let packages = packages()?;
    let image = dist().join(SD_CARD);
    let made_of = Ingredients::of(&base, &packages, &["host", "raspberry-pi-4"])?;
    if made_of.made(&image) {
        say(&format!("target/dist/{SD_CARD} is up to date"));
        return Ok(());
    }
    say("making the SD card");
    let mut make = Command::new(root().join("scripts/raspberry-pi-4/make"));
    make.arg(base).arg(&image).args(packages);
    run(make.env("PATH", path_with_sbin()))?;
    made_of.note(&image)
}

/// Makes the SD card and puts a copy of it into a larger disk, as writing it to a card would.
pub(crate) fn card() -> Result<Host> {
    sd_card()?;
    let disk = dist().join("card.disk");
    let image = dist().join(SD_CARD);
    run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&image).arg(&disk))?;
    fs::OpenOptions::new().write(true).open(&disk)?.set_len(CARD_SIZE)?;
    let bundle = dist().join("card-domus-boot.cpio");
    copy_from_card("domus-boot.cpio", &bundle)?;
    // The board's own hypervisor is of no use on this machine.
    Ok(Host { disk, hypervisor: dist().join("qemu-virt.img"), bundle })
}

/// Makes what a machine with such a root file system boots from, unless it is there.
pub(crate) fn make(root: Root) -> Result<()> {
    match root {
        Root::Small => Ok(()),
        Root::Debian => host().map(drop),
        Root::Card => sd_card(),
    }
}

/// Copies a file out of the SD card's boot partition.
pub(crate) fn copy_from_card(name: &str, to: &Path) -> Result<()> {
    let image = dist().join(SD_CARD);
    let mut copy = Command::new("mcopy");
    copy.arg("-n").arg("-o").arg("-i").arg(format!("{}@@4M", image.display()));
    run(copy.arg(format!("::{name}")).arg(to))
}

/// Runs `scripts/host/make`: our packages and what makes a Dom0 of an installation, put on a disk.
pub(crate) fn set_up(base: &Path, disk: &Path, packages: &[PathBuf], board: &str) -> Result<()> {
    run(Command::new(root().join("scripts/host/make"))
        .arg(base)
        .arg(disk)
        .arg(board)
        .args(packages))
}

/// What a disk is made of, summed up: a Debian installation, our packages, and the scripts that put them together.
struct Ingredients {
    sum: String,
}

impl Ingredients {
    /// Sums up; `scripts` are directories in `scripts/`.
    fn of(base: &Path, packages: &[PathBuf], scripts: &[&str]) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        base.hash(&mut hasher);
        for package in packages {
            fs::read(package)?.hash(&mut hasher);
        }
        for directory in scripts {
            recipe_hash(&root().join("scripts").join(directory), &[])?.hash(&mut hasher);
        }
        Ok(Self { sum: format!("{:016x}", hasher.finish()) })
    }

    /// Says whether a disk that is there was made of these.
    fn made(&self, disk: &Path) -> bool {
        disk.exists() && fs::read_to_string(Self::beside(disk)).is_ok_and(|sum| sum == self.sum)
    }

    /// Notes beside a disk that it was made of these.
    fn note(&self, disk: &Path) -> Result<()> {
        let path = Self::beside(disk);
        fs::write(&path, &self.sum).with_context(|| path.display().to_string())
    }

    fn beside(disk: &Path) -> PathBuf {
        disk.with_added_extension("made-of")
    }
}

/// Copies a file out of an ext4 image.
fn take(disk: &Path, from: &str, to: &Path) -> Result<()> {
    let _ = fs::remove_file(to);
    let request = format!("dump {from} {}", to.display());
    let mut debugfs = Command::new("debugfs");
    debugfs.env("PATH", path_with_sbin()).args(["-R", &request]).arg(disk);
    // It says its version, and ends with status 0 whatever happened.
    run(debugfs.stderr(Stdio::null()))?;
    match fs::metadata(to) {
        Ok(file) if file.len() > 0 => Ok(()),
        _ => bail!("{} has no {from}", disk.display()),
    }
}

/// Returns when the sources were last committed, in seconds; nothing outside a clone.
fn date_of_sources() -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["log", "-1", "--format=%ct"]);
    output(&mut git).ok().map(|date| date.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_made_anew_when_a_package_in_it_is_another() {
        let here = tempfile::tempdir().unwrap();
        let (disk, package) = (here.path().join("disk.img"), here.path().join("a.deb"));
        fs::write(&package, "one").unwrap();
        let sum = || Ingredients::of(here.path(), std::slice::from_ref(&package), &["host"]);
        sum().unwrap().note(&disk).unwrap();
        assert!(!sum().unwrap().made(&disk), "there is no disk");
        fs::write(&disk, "").unwrap();
        assert!(sum().unwrap().made(&disk));
        fs::write(&package, "two").unwrap();
        assert!(!sum().unwrap().made(&disk));
    }
}
