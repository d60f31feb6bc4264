//! Dom0's disk: the base from Debian packages, made once and cached by what it is made of, and a copy of it with our toolstack added, made in a second.

use anyhow::{Context, Result, bail};
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compile;
use crate::process::{cache, dist, root, run, say};

/// The files Dom0 boots from.
#[derive(Clone)]
pub(crate) struct Dom0Image {
    pub(crate) disk: PathBuf,
    /// What `scripts/rootfs/make` left: Dom0's kernel, and those of the extras.
    base: PathBuf,
    /// Debian's hypervisor.
    pub(crate) xen: PathBuf,
}

/// A kernel and the ramdisk that mounts Dom0's disk with it.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    pub(crate) initrd: PathBuf,
}

/// Makes the base image, and what else is asked for on it, unless one of the same recipe is there.
pub(crate) fn base(extra: &[String]) -> Result<Dom0Image> {
    let recipe = root().join("scripts/rootfs");
    let mut name = format!("rootfs-{:016x}", recipe_hash(&recipe, extra)?);
    for part in extra {
        if !recipe.join("extra").join(part).is_file() {
            bail!("there is no {part} in scripts/rootfs/extra");
        }
        name.push('-');
        name.push_str(part);
    }
    let here = cache().join(name);
    if !here.join("complete").exists() {
        say("making Dom0's image (once; kept in target/cache)");
        run(Command::new(recipe.join("make")).arg(&here).args(extra))?;
        fs::write(here.join("complete"), "")?;
    }
    Ok(Dom0Image { disk: here.join("dom0.ext4"), xen: here.join("xen"), base: here })
}

impl Dom0Image {
    /// Finds Dom0's usual kernel, or another by the name it has in an extra.
    pub(crate) fn kernel(&self, name: Option<&str>) -> Result<Kernel> {
        let here = match name {
            None => self.base.clone(),
            Some(name) => self.base.join("kernels").join(name),
        };
        if !here.is_dir() {
            bail!(
                "no extra brings the kernel {}: extra=kernels has some",
                name.unwrap_or_default()
            );
        }
        Ok(Kernel { image: here.join("vmlinuz"), initrd: here.join("dom0-initrd.img") })
    }
}

/// Makes the image with our toolstack in /usr/sbin and our hotplug scripts in /etc/xen/scripts, if they are wanted, and the library's
/// example guests in /var/lib/xen/guests.
pub(crate) fn dom0(toolstack: bool, extra: &[String]) -> Result<Dom0Image> {
    let base = base(extra)?;
    let mut files = Vec::new();
    if toolstack {
        for binary in compile::toolstack()? {
            let to = format!("/usr/sbin/{}", file_name(&binary)?);
            files.push((binary, to));
        }
        for script in listed(&root().join("dom0-toolstack/hotplug"))? {
            let to = format!("/etc/xen/scripts/{}", file_name(&script)?);
            files.push((script, to));
        }
    }
    for guest in compile::example_guests()? {
        let to = format!("/var/lib/xen/guests/{}", file_name(&guest)?);
        files.push((guest, to));
    }
    // By what is on it, so that what boots from one is not disturbed when another is made; beside it and then renamed, so
    // that a machine that runs keeps the disk it booted from.
    let tools = if toolstack { &[] } else { &[String::from("debian")][..] };
    let name = [&[String::from("dom0")], tools, extra].concat().join("-");
    let disk = dist().join(format!("{name}.ext4"));
    let new = dist().join(format!("dom0.ext4.{}", std::process::id()));
    run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&base.disk).arg(&new))?;
    add_files(&new, &files)?;
    fs::rename(&new, &disk)?;
    Ok(Dom0Image { disk, ..base })
}

/// Puts executable files on an ext4 image, replacing what has their names.
fn add_files(disk: &Path, files: &[(PathBuf, String)]) -> Result<()> {
    // What is there already stays as it is.
    let mut script = String::from("mkdir /var/lib/xen/guests\n");
    for (from, to) in files {
        let from = from.to_str().context("a path that is not text")?;
        script.push_str(&format!("rm {to}\nwrite {from} {to}\n"));
        script.push_str(&format!("set_inode_field {to} mode 0100755\n"));
        script.push_str(&format!("set_inode_field {to} uid 0\nset_inode_field {to} gid 0\n"));
    }
    let mut debugfs = Command::new("debugfs")
        .args(["-w", "-f", "-"])
        .arg(disk)
        .env("PATH", path_with_sbin())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("debugfs cannot be started; is e2fsprogs installed?")?;
    debugfs.stdin.take().context("debugfs has no input")?.write_all(script.as_bytes())?;
    let output = debugfs.wait_with_output()?;
    // debugfs always ends with status 0: removing what was not there is fine, anything else is not.
    let complaints = String::from_utf8_lossy(&output.stderr);
    let serious = complaints.lines().find(|line| {
        !["debugfs ", "rm: File not found", "mkdir: Ext2 inode already"]
            .iter()
            .any(|usual| line.starts_with(usual))
    });
    match serious {
        Some(line) => bail!("debugfs on {}: {line}", disk.display()),
        None => Ok(()),
    }
}

/// Returns the search path with the directories of administrators' tools, which a plain user's may lack.
pub(crate) fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).context("a file without a name")
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Sums up everything under the recipe's directory, documentation and what is not asked for aside.
pub(crate) fn recipe_hash(directory: &Path, extra: &[String]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    hash_tree(directory, &mut hasher)?;
    for part in extra {
        fs::read(directory.join("extra").join(part))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn hash_tree(directory: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    for path in listed(directory)? {
        let documentation = path.extension().is_some_and(|extension| extension == "md");
        if documentation || path.ends_with("extra") {
            continue;
        }
        file_name(&path)?.hash(hasher);
        if path.is_dir() {
            hash_tree(&path, hasher)?;
        } else {
            fs::read(&path).with_context(|| path.display().to_string())?.hash(hasher);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_found_by_its_name_if_an_extra_brings_it() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        fs::create_dir_all(base.join("kernels/cloud")).unwrap();
        let image =
            Dom0Image { disk: PathBuf::new(), xen: PathBuf::new(), base: base.to_path_buf() };
        assert_eq!(image.kernel(None).unwrap().image, base.join("vmlinuz"));
        let cloud = image.kernel(Some("cloud")).unwrap();
        assert_eq!(cloud.initrd, base.join("kernels/cloud/dom0-initrd.img"));
        let missing = image.kernel(Some("mainline")).err().unwrap().to_string();
        assert!(missing.contains("mainline"), "{missing}");
    }

    #[test]
    fn what_is_not_asked_for_does_not_change_what_is_made() {
        let recipe = tempfile::tempdir().unwrap();
        fs::write(recipe.path().join("make"), "one").unwrap();
        let sum = |extra: &[String]| recipe_hash(recipe.path(), extra).unwrap();
        let first = sum(&[]);
        fs::write(recipe.path().join("README.md"), "words").unwrap();
        fs::create_dir(recipe.path().join("extra")).unwrap();
        fs::write(recipe.path().join("extra/more"), "more").unwrap();
        assert_eq!(sum(&[]), first);
        assert_ne!(sum(&[String::from("more")]), first);
        fs::write(recipe.path().join("make"), "two").unwrap();
        assert_ne!(sum(&[]), first);
    }
}
