//! Disks: a block device, or a file through a loop device, served by the kernel's blkback.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use xen_sys::DomId;
use xen_sys::loopdev::{self, LoopDevice};
use xenstore::client::{Client, Store};

use super::{Device, Kind};
use crate::config::disk::Disk;
use crate::error::{Error, Result};
use crate::{hotplug, store};

/// The script that Xen's tools use where none is given; we do its work ourselves.
const SCRIPT: &str = "block";

/// Checks, before anything is made, that `backend` can serve `disk`: what it means by the target is
/// known only where it is Dom0 and needs no script.
pub fn check(store: &impl Store, disk: &Disk, backend: DomId) -> Result<()> {
    if backend != DomId::DOM0 || disk.target.is_empty() || disk.script.is_some() {
        return Ok(());
    }
    let path = Path::new(&disk.target);
    let bad = |why: String| Error::BadDisk { vdev: disk.vdev.clone(), target: path.into(), why };
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => bad("does not exist".into()),
        _ => bad(format!("cannot be examined: {error}")),
    })?;
    if metadata.is_file() {
        return if metadata.len() == 0 { Err(bad("is an empty file".into())) } else { Ok(()) };
    }
    if !metadata.file_type().is_block_device() {
        return Err(bad("is neither a block device nor a file".into()));
    }
    check_unused(store, disk, &physical_device(metadata.rdev()))
}

/// Refuses a block device that another domain writes to, or that this one would write to under another.
fn check_unused(store: &impl Store, disk: &Disk, physical: &str) -> Result<()> {
    let root = format!("{}/backend/vbd", store::domain_path(DomId::DOM0));
    for domain in store.directory_or_empty(&root)? {
        for devid in store.directory_or_empty(&format!("{root}/{domain}"))? {
            let path = format!("{root}/{domain}/{devid}");
            let read = |name: &str| store.read_optional(&format!("{path}/{name}"));
            if read("physical-device")?.as_deref() != Some(physical) {
                continue;
            }
            let mode = read("mode")?.unwrap_or_default();
            let writable = mode.starts_with('w');
            if !disk.shared && !mode.ends_with('!') && (writable || !disk.readonly) {
                return Err(Error::DiskInUse {
                    vdev: disk.vdev.clone(),
                    target: disk.target.clone().into(),
                    domain: DomId(domain.parse().unwrap_or(0)),
                    writable,
                });
            }
        }
    }
    Ok(())
}

/// Gives `domain` a disk.
pub fn add(store: &Client, domain: DomId, disk: &Disk, backend: DomId) -> Result<()> {
    let device = Device { domain, kind: Kind::Vbd, devid: disk.devid, backend };
    let script = hotplug::script_path(disk.script.as_deref().unwrap_or(SCRIPT));
    let flag = |set: bool| if set { "1" } else { "0" }.to_owned();
    let (letter, shared) =
        (if disk.readonly { "r" } else { "w" }, if disk.shared { "!" } else { "" });
    let kind = if disk.cdrom { "cdrom" } else { "disk" };
    let back = [
        ("params", disk.target.clone()),
        ("script", script.display().to_string()),
        ("removable", flag(disk.cdrom)),
        ("bootable", "1".into()),
        ("dev", disk.vdev.clone()),
        ("type", "phy".into()),
        ("mode", format!("{letter}{shared}")),
        ("device-type", kind.into()),
        ("discard-enable", flag(disk.discard.unwrap_or(!disk.readonly))),
        ("specification", "xen".into()),
    ];
    let front = [
        ("virtual-device", disk.devid.to_string()),
        ("device-type", kind.into()),
        ("trusted", flag(disk.trusted)),
    ];
    device.publish(store, &front, &back)?;
    device.wait_taken(store)?;
    if backend != DomId::DOM0 {
        // A driver domain finds what it serves by itself.
        return Ok(());
    }
    if disk.script.is_some() {
        return hotplug::run(store, &script, &["add"], &device, &[]);
    }
    if disk.target.is_empty() { Ok(()) } else { connect(store, &device, disk) }
}

/// Tells the backend which block device to serve.
fn connect(store: &Client, device: &Device, disk: &Disk) -> Result<()> {
    let target = Path::new(&disk.target);
    let examine =
        |path: &Path| fs::metadata(path).map_err(|source| Error::file("examine", path, source));
    let metadata = examine(target)?;
    let (node, rdev, attached): (PathBuf, u64, _) = if metadata.is_file() {
        let attached = LoopDevice::attach(target, disk.readonly)?;
        let node = attached.path().to_owned();
        let rdev = examine(&node)?.rdev();
        (node, rdev, Some(attached))
    } else {
        (target.into(), metadata.rdev(), None)
    };
    let path = device.backend_path();
    store.transaction(|transaction| {
        let mut entries = Vec::new();
        if attached.is_some() {
            entries.push(("node", node.display().to_string()));
        }
        entries.push(("physical-device", physical_device(rdev)));
        entries.push(("physical-device-path", node.display().to_string()));
        entries.push(("hotplug-status", "connected".into()));
        store::entries(transaction, &path, &entries)
    })?;
    if let Some(attached) = attached {
        attached.keep()?; // from here on `node` in xenstore tells of it
    }
    Ok(())
}

/// Undoes what was set up on the host for a disk.
pub fn disconnect(store: &Client, device: &Device) -> Result<()> {
    let path = device.backend_path();
    let node = store.read_optional(&format!("{path}/node"))?;
    let script = store.read_optional(&format!("{path}/script"))?;
    if let Some(node) = node.filter(|node| node.starts_with("/dev/loop")) {
        let target = store.read_optional(&format!("{path}/params"))?.unwrap_or_default();
        // It may be gone, and somebody else's by now.
        let still_ours = loopdev::backing_file(Path::new(&node)).is_none_or(|file| {
            fs::canonicalize(&target).unwrap_or_else(|_| target.clone().into()) == file
        });
        return if still_ours { Ok(loopdev::detach(Path::new(&node))?) } else { Ok(()) };
    }
    let usual = hotplug::script_path(SCRIPT);
    match script {
        Some(script) if Path::new(&script) != usual => {
            hotplug::run(store, Path::new(&script), &["remove"], device, &[])
        }
        _ => Ok(()),
    }
}

/// A device number as blkback reads it.
fn physical_device(rdev: u64) -> String {
    format!("{:x}:{:x}", major(rdev), minor(rdev))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_hexadecimal() {
        assert_eq!(physical_device(rustix::fs::makedev(254, 16)), "fe:10");
    }
}
