//! Configurations as other programs write them: read whole, with the meaning their writers had in mind.
//!
//! The files are ours, in the shape of what each program writes.

use std::path::{Path, PathBuf};

use toolstack::config::domain::{Action, DomainConfig, Pinning};
use toolstack::config::{Config, Diagnostic};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn load(name: &str, overrides: &[&str]) -> Result<(DomainConfig, Vec<Diagnostic>), String> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let config = Config::load(&path(name), &overrides).map_err(|error| error.to_string())?;
    DomainConfig::from_config(&config).map_err(|error| error.to_string())
}

/// A configuration that is acted on whole: nothing is to be said about it.
fn good(name: &str) -> DomainConfig {
    let (config, remarks) = load(name, &[]).expect("it is read whole");
    let remarks: Vec<String> = remarks.iter().map(ToString::to_string).collect();
    assert!(remarks.is_empty(), "{name}: {remarks:#?}");
    config
}

const MIB: u64 = 1024;

#[test]
fn the_examples_of_xen_s_tools_are_read() {
    let pv = good("xen-example-pv.cfg");
    assert_eq!((pv.name.as_str(), pv.vcpus, pv.memory_kib), ("example.pvlinux", 2, 128 * MIB));
    assert_eq!(pv.cmdline.as_deref(), Some("root=/dev/xvda1"));
    // An empty text is an interface with everything at its default.
    assert_eq!((pv.vifs.len(), &pv.vifs[0].bridge, pv.vifs[0].mac), (1, &None, None));
    assert_eq!(
        (pv.disks[0].target.as_str(), pv.disks[0].readonly),
        ("/dev/vg/guest-volume", false)
    );
    let pvh = good("xen-example-pvh.cfg");
    assert_eq!((pvh.memory_kib, pvh.max_memory_kib), (512 * MIB, 1024 * MIB));
    assert_eq!(pvh.cmdline.as_deref(), Some("root=/dev/xvda1 console=hvc0"));
}

#[test]
fn a_fully_virtual_example_is_refused_at_its_type() {
    let error = load("xen-example-hvm.cfg", &[]).unwrap_err();
    assert!(error.contains("xen-example-hvm.cfg:2:8"), "{error}");
    assert!(error.contains("cannot be made on Arm"), "{error}");
}

#[test]
fn what_xen_tools_writes_is_read() {
    let web = good("xen-tools-static.cfg");
    assert_eq!(web.cmdline.as_deref(), Some("root=/dev/xvda2 ro elevator=noop console=hvc0"));
    assert_eq!((web.vcpus, web.memory_kib, web.max_memory_kib), (2, 512 * MIB, 1024 * MIB));
    let disks: Vec<_> = web.disks.iter().map(|disk| (&*disk.vdev, &*disk.target)).collect();
    assert_eq!(
        disks,
        [("xvda2", "/dev/vg0/web.example.org-disk"), ("xvda1", "/dev/vg0/web.example.org-swap")]
    );
    assert_eq!(web.vifs[0].ip.as_deref(), Some("192.168.1.200 192.168.1.201"));
    assert_eq!(web.vifs[0].mac.unwrap().to_string(), "00:16:3e:12:34:56");
    assert_eq!((web.on.reboot, web.on.crash), (Action::Restart, Action::Restart));
    let mail = good("xen-tools-dhcp.cfg");
    assert_eq!(mail.disks[0].target, "/srv/xen/domains/mail/disk.img");
}

#[test]
fn a_boot_loader_is_refused_with_what_to_do_instead() {
    let error = load("xen-tools-pygrub.cfg", &[]).unwrap_err();
    assert!(error.contains("bootloader is not supported yet"), "{error}");
    // With a kernel beside it the rest is read, and the boot loader is reported as without effect.
    let (db, remarks) = load("xen-tools-pygrub.cfg", &["kernel='/boot/vmlinuz'"]).unwrap();
    assert_eq!((db.name.as_str(), remarks.len()), ("db", 1));
}

#[test]
fn what_ganeti_writes_is_read() {
    let pvm = good("ganeti-xen-pvm.cfg");
    assert_eq!((pvm.cap, pvm.cpu_weight), (Some(50), Some(512)));
    assert!(matches!(&pvm.cpus, Pinning::Each(lists) if lists.len() == 2));
    let disk = &pvm.disks[0];
    assert_eq!(disk.target, "/var/run/ganeti/instance-disks/instance1.example.com:0");
    assert_eq!((disk.devid, disk.readonly, pvm.disks[1].readonly), (0x800, false, true));
    let vif = &pvm.vifs[0];
    assert_eq!((vif.ip.as_deref(), vif.bridge.as_deref()), (Some("192.0.2.7"), Some("xen-br0")));
    assert_eq!(vif.script.as_deref(), Some("/etc/xen/scripts/vif-ganeti"));
    let pvh = good("ganeti-xen-pvh.cfg");
    assert!(matches!(&pvh.cpus, Pinning::All(list) if list.is_all()));
    assert_eq!(pvh.on.reboot, Action::Destroy);
}

#[test]
fn what_pacemaker_s_agent_starts_is_read_with_its_settings() {
    let guest = good("pacemaker.cfg");
    let disk = &guest.disks[0];
    assert_eq!((disk.script.as_deref(), disk.target.as_str()), (Some("block-drbd"), "r0"));
    assert_eq!(guest.on.crash, Action::Preserve);
    let (renamed, _) = load("pacemaker.cfg", &["name=\"other\"", "memory=512"]).unwrap();
    assert_eq!((renamed.name.as_str(), renamed.memory_kib), ("other", 512 * MIB));
}

#[test]
fn what_libvirt_exports_is_read() {
    let guest = good("libvirt.cfg");
    let disk = &guest.disks[1];
    assert_eq!((disk.target.as_str(), disk.readonly), ("/srv/data.img", true));
    assert_eq!(guest.vifs[0].script.as_deref(), Some("vif-bridge"));
}

#[test]
fn every_file_of_the_corpus_has_a_test() {
    let source = include_str!("corpus.rs");
    for entry in std::fs::read_dir(path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}
