//! Why something could not be done, in one sentence for whoever typed the command.

use std::path::{Path, PathBuf};

use xen_sys::DomId;
use xen_sys::domctl::GicVersion;

/// Result of what the toolstack does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hypervisor refused.
    #[error(transparent)]
    Xen(#[from] xen_sys::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] xenstore::client::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// A file could not be used.
    #[error("cannot {action} {}: {}", .path.display(), plain(.source))]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not a kernel that a guest can boot.
    #[error("{} is not an arm64 Linux kernel image: {why}", .path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Images do not fit into the domain's memory.
    #[error(
        "kernel and ramdisk take {needed_kib} KiB, more than the domain's memory of {memory_kib} KiB; \
         give it more with memory = …"
    )]
    ImagesTooLarge {
        /// What they take.
        needed_kib: u64,
        /// What there is.
        memory_kib: u64,
    },
    /// The host has too little free memory.
    #[error("not enough memory: the domain needs {needed_mib} MiB and {free_mib} MiB are free")]
    NoMemory {
        /// With everything that the hypervisor keeps for it.
        needed_mib: u64,
        /// What is free.
        free_mib: u64,
    },
    /// The host cannot give a guest the interrupt controller it asks for.
    #[error(
        "gic_version = \"{version}\": this host has an interrupt controller of the other version, and guests have \
         the host's; leave gic_version out"
    )]
    NoSuchGic {
        /// The version asked for.
        version: GicVersion,
    },
    /// The host's interrupt controller does not serve so many vCPUs.
    #[error(
        "vcpus = {wanted}: this host has a GICv2, with which a domain has at most {most} vCPUs"
    )]
    TooManyVcpus {
        /// vCPUs asked for.
        wanted: u32,
        /// vCPUs there may be.
        most: u32,
    },
    /// A CPU list means no CPU that the host has.
    #[error("cpus = \"{list}\" names no CPU of this host, which has CPUs 0 to {last}")]
    NoSuchCpus {
        /// The list as written.
        list: String,
        /// The host's last CPU.
        last: u32,
    },
    /// Another domain has the name.
    #[error("a domain named \"{name}\" already exists, with domain id {domain}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        domain: DomId,
    },
    /// Another domain has the UUID.
    #[error("a domain with UUID {uuid} already exists, with domain id {domain}")]
    UuidTaken {
        /// The UUID.
        uuid: uuid::Uuid,
        /// Who has it.
        domain: DomId,
    },
    /// There is no such domain.
    #[error("{name} is an invalid domain identifier")]
    NoSuchDomain {
        /// Its name or number as given.
        name: String,
    },
    /// A bridge is missing.
    #[error(
        "there is no network bridge \"{bridge}\" for the domain's interface {devid}; create it \
         (ip link add {bridge} type bridge && ip link set {bridge} up) or name another with bridge=…"
    )]
    NoBridge {
        /// Its name.
        bridge: String,
        /// Which interface wants it.
        devid: u32,
    },
    /// A disk is missing or not a disk.
    #[error("disk {vdev}: {} {why}", .target.display())]
    BadDisk {
        /// Its name in the guest.
        vdev: String,
        /// Its target.
        target: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A disk is in use by another domain.
    #[error(
        "disk {vdev}: {} is already used by domain {domain}{}; use mode w! if both may write",
        .target.display(), if *.writable { " for writing" } else { "" }
    )]
    DiskInUse {
        /// Its name in the guest.
        vdev: String,
        /// Its target.
        target: PathBuf,
        /// Who uses it.
        domain: DomId,
        /// Whether that domain may write to it.
        writable: bool,
    },
    /// A backend did not take a device.
    #[error("no backend took {device} within {seconds} s ({hint})")]
    NoBackend {
        /// The device, as in `vbd 51712`.
        device: String,
        /// How long we waited.
        seconds: u64,
        /// Where to look.
        hint: &'static str,
    },
    /// Nobody can share a folder.
    #[error(
        "there is no xen-9pfsd, which serves p9=…; it comes with Xen's tools (in Debian: xen-utils-4.20)"
    )]
    NoShareDaemon,
    /// The daemon that shares folders does not start.
    #[error("{} did not say within {seconds} s that it runs", .program.display())]
    ShareDaemonSilent {
        /// The program.
        program: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// A hotplug script failed.
    #[error("{script} failed for {device}: {why}")]
    Hotplug {
        /// The script.
        script: String,
        /// The device, as in `vif 0`.
        device: String,
        /// What it said, or how it ended.
        why: String,
    },
    /// The CPU pool does not exist.
    #[error("there is no CPU pool \"{pool}\"")]
    NoSuchPool {
        /// Its name.
        pool: String,
    },
    /// A CPU pool still has domains.
    #[error("CPU pool \"{pool}\" still has {domains} domains; move them with xl cpupool-migrate")]
    PoolInUse {
        /// Its name.
        pool: String,
        /// How many.
        domains: u32,
    },
    /// Another CPU pool has the name.
    #[error("a CPU pool named \"{name}\" already exists, with number {pool}")]
    PoolNameTaken {
        /// The name.
        name: String,
        /// Who has it.
        pool: u32,
    },
    /// A domain cannot do what was asked.
    #[error("domain {domain} cannot do this: {why}")]
    Refused {
        /// The domain.
        domain: DomId,
        /// Why.
        why: String,
    },
    /// A guest did not act in time.
    #[error("domain {domain} did not {what} within {seconds} s")]
    TimedOut {
        /// The domain.
        domain: DomId,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
}

/// The system's words for an error, without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).into()
}

impl Error {
    /// An error about a file.
    pub fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }
}
