//! Builds a domain: everything that stands between a [`DomainConfig`] and a guest that can be unpaused.
//!
//! Whatever fails, [`create`] leaves nothing behind: no domain, node, loop device or file.

#[cfg(test)]
mod tests;

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use hypercall_abi::grant_table::GTF_PERMIT_ACCESS;
use hypercall_abi::hvm::{
    HVM_PARAM_CALLBACK_TYPE_PPI, HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL,
    HVM_PARAM_CALLBACK_TYPE_SHIFT,
};
use uuid::Uuid;
use xen_sys::domctl::{CreateDomain, Created, GicVersion, SchedParams};
use xen_sys::hvm::Param;
use xen_sys::{DomId, Errno, Gfn, GrantRef, Port, Xen};
use xenstore::client::{Client, Store};

use crate::config::disk::Disk;
use crate::config::domain::{DomainConfig, MOST_VCPUS_V2};
use crate::config::vif::{Mac, Vif};
use crate::device_tree::{Machine, extended_regions};
use crate::devices::{Kind, console, p9, vbd, vif};
use crate::error::{Error, Result};
use crate::image::{Content, Kernel};
use crate::layout::{self, PAGE, Region, magic};
use crate::load::load_into_guest;
use crate::plan::{BuildPlan, Extents, Host, Images};
use crate::store::{self, domain_path, notes_path, private_to, readable_by};
use crate::userdata::{Item, Userdata};
use crate::{cpupool, devices, domain, json};

/// A domain that was built, paused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Built {
    /// Its number.
    pub domain: DomId,
    /// Its UUID.
    pub uuid: Uuid,
}

/// The interrupt that announces events, as CALLBACK_IRQ has it: a PPI, level, active low.
const CALLBACK_IRQ: u64 = (HVM_PARAM_CALLBACK_TYPE_PPI << HVM_PARAM_CALLBACK_TYPE_SHIFT)
    | (HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL << 8)
    | layout::ppi::EVENT as u64;
/// Bytes of randomness that a guest starts with.
const SEED: usize = 128;
/// Pieces asked for at a time, so that no list is longer than 32 KiB.
const EXTENTS_AT_ONCE: u64 = 4096;

/// What the plan was made from, opened and measured.
#[derive(Debug)]
pub struct Sources {
    kernel: Kernel,
    ramdisk: Option<Content>,
}

impl Sources {
    /// Opens kernel and ramdisk.
    pub fn open(config: &DomainConfig) -> Result<Self> {
        let kernel = Kernel::open(&config.kernel)?;
        let ramdisk = config.ramdisk.as_deref().map(Content::open).transpose()?;
        Ok(Self { kernel, ramdisk })
    }

    /// Their sizes.
    pub fn images(&self) -> Images {
        Images {
            text_offset: self.kernel.text_offset,
            kernel_size: self.kernel.size,
            kernel_length: self.kernel.content.length(),
            ramdisk_length: self.ramdisk.as_ref().map(Content::length),
        }
    }
}

/// What the host offers.
pub fn host(xen: &impl Xen) -> Result<Host> {
    let info = xen.phys_info()?;
    let topology = xen.cpu_topology()?;
    let mut cpu_nodes: Vec<u32> =
        topology.iter().map(|cpu| cpu.map_or(u32::MAX, |cpu| cpu.node)).collect();
    cpu_nodes.truncate(info.max_cpu as usize + 1);
    let free_pages = (info.free_pages + info.scrub_pages).saturating_sub(info.outstanding_pages);
    Ok(Host { cpu_nodes, free_kib: free_pages * (PAGE / 1024) })
}

/// Checks everything that can be checked before anything is made.
pub fn check(xen: &impl Xen, store: &Client, config: &DomainConfig) -> Result<()> {
    if let Some(domain) = domain::find_named(xen, store, &config.name)? {
        return Err(Error::NameTaken { name: config.name.clone(), domain });
    }
    if let Some(uuid) = config.uuid {
        check_uuid(xen, uuid)?;
    }
    if let Some(pool) = &config.pool {
        cpupool::find(xen, store, pool)?;
    }
    for disk in &config.disks {
        vbd::check(store, disk, backend(xen, store, disk.backend.as_deref())?)?;
    }
    for (devid, vif) in (0..).zip(&config.vifs) {
        backend(xen, store, vif.backend.as_deref())?;
        vif::check(vif, vif.devid.unwrap_or(devid))?;
    }
    for folder in &config.folders {
        p9::check(store, backend(xen, store, folder.backend.as_deref())?)?;
    }
    Ok(())
}

/// Builds a domain with its devices, and leaves it paused. `text` is what it is made anew from.
///
/// It counts as unfinished, and is removed when that is found out, until [`finish`] is called.
pub fn create(
    xen: &impl Xen,
    store: &Client,
    files: &Userdata,
    config: &DomainConfig,
    text: &str,
) -> Result<Built> {
    check(xen, store, config)?;
    let sources = Sources::open(config)?;
    let plan = BuildPlan::new(config, &sources.images(), &host(xen)?)?;
    let uuid = config.uuid.unwrap_or_else(Uuid::new_v4);
    let pool = config.pool.as_deref().map(|pool| cpupool::find(xen, store, pool)).transpose()?;
    files.unfinished().begin(uuid)?;
    let wanted = CreateDomain {
        domain: None,
        handle: *uuid.as_bytes(),
        max_vcpus: config.max_vcpus,
        max_event_channel: config.max_event_channels,
        max_grant_frames: config.max_grant_frames,
        max_maptrack_frames: config.max_maptrack_frames,
        vpmu: config.vpmu,
        gic_version: config.gic_version,
        spis: u32::from(config.vuart),
    };
    let created = match xen.create_domain(&wanted) {
        Ok(created) => created,
        Err(error) => {
            files.unfinished().end(uuid)?;
            return Err(explain(error, &wanted));
        }
    };
    let pool = pool.map(|pool| pool.id).filter(|pool| *pool != 0);
    let builder = Builder { xen, store, files, config, plan, created, uuid, pool };
    match builder.build(&sources, text) {
        Ok(()) => Ok(Built { domain: created.domain, uuid }),
        Err(error) => {
            // What failed first is what the user must hear; removal goes on over failures of its own.
            if domain::take_back(xen, store, files, created.domain, uuid).is_ok() {
                files.unfinished().end(uuid)?;
            }
            Err(error)
        }
    }
}

/// Says that a built domain is complete: whoever watches it has been told, and it may run.
pub fn finish(files: &Userdata, built: Built) -> Result<()> {
    files.unfinished().end(built.uuid)
}

/// Says what a refusal to create a domain was about, where its number tells.
fn explain(error: xen_sys::Error, wanted: &CreateDomain) -> Error {
    if error.is(Errno::NODEV)
        && let Some(version) = wanted.gic_version
    {
        return Error::NoSuchGic { version };
    }
    // Whatever else may be wrong was checked in the configuration.
    if error.is(Errno::INVAL)
        && wanted.max_vcpus > MOST_VCPUS_V2
        && wanted.gic_version != Some(GicVersion::V3)
    {
        return Error::TooManyVcpus { wanted: wanted.max_vcpus, most: MOST_VCPUS_V2 };
    }
    error.into()
}

struct Builder<'a, X> {
    xen: &'a X,
    store: &'a Client,
    files: &'a Userdata,
    config: &'a DomainConfig,
    plan: BuildPlan,
    created: Created,
    uuid: Uuid,
    /// The CPU pool, where it is not the first.
    pool: Option<u32>,
}

/// What links the domain to xenstored and xenconsoled.
struct Rings {
    store: Port,
    console: Port,
    vuart: Option<Port>,
}

impl<X: Xen> Builder<'_, X> {
    fn build(&self, sources: &Sources, text: &str) -> Result<()> {
        let domain = self.created.domain;
        self.xen.set_default_colors(domain)?;
        if let Some(pool) = self.pool {
            cpupool::migrate(self.xen, domain, pool)?;
        }
        self.publish_skeleton()?;
        self.limits()?;
        let mut rings = Rings {
            vuart: None,
            store: self.xen.alloc_unbound(domain, DomId::DOM0)?,
            console: self.xen.alloc_unbound(domain, DomId::DOM0)?,
        };
        self.memory()?;
        self.rings(&rings)?;
        if self.config.vuart {
            let ring = Gfn(magic::frame(magic::VUART));
            rings.vuart = Some(self.xen.init_vuart(domain, ring, DomId::DOM0)?);
        }
        self.load(sources)?;
        self.grants()?;
        self.scheduling()?;
        self.publish(&rings)?;
        self.devices(&rings)?;
        self.files.write(domain, self.uuid, Item::Config, text)?;
        let json = json::config(self.config, self.uuid);
        self.files.write(domain, self.uuid, Item::LibxlJson, &json.to_string())
    }

    /// vCPUs, where they may run, and how much memory there may be.
    fn limits(&self) -> Result<()> {
        let domain = self.created.domain;
        self.xen.set_max_vcpus(domain, self.config.max_vcpus)?;
        for (vcpu, cpus) in (0..).zip(&self.plan.affinity) {
            if let Some(cpus) = cpus {
                self.xen.set_vcpu_affinity(domain, vcpu, Some(cpus), None)?;
            }
        }
        self.xen.set_max_memory(domain, self.plan.limit_kib)?;
        Ok(self.xen.set_paging_pool(domain, self.plan.paging_pool)?)
    }

    fn memory(&self) -> Result<()> {
        let domain = self.created.domain;
        self.xen.set_param(domain, Param::CallbackIrq, CALLBACK_IRQ)?;
        self.xen.set_address_size(domain, 64)?;
        for run in &self.plan.extents {
            self.populate(*run)?;
        }
        let first = Gfn(magic::frame(0));
        self.populate(Extents { order: 0, first, count: magic::COUNT })
    }

    /// Fills a run, with smaller pieces where there are none as large.
    fn populate(&self, run: Extents) -> Result<()> {
        let domain = self.created.domain;
        let mut done = 0;
        while done < run.count {
            let frame = |index: u64| Gfn(run.first.0 + (index << run.order));
            let end = run.count.min(done + EXTENTS_AT_ONCE);
            let list: Vec<Gfn> = (done..end).map(frame).collect();
            let got = self.xen.populate(domain, run.order, &list)? as u64;
            done += got;
            if got == end - (done - got) {
                continue;
            }
            let smaller = match run.order {
                18 => 9,
                9 => 0,
                _ => return Err(self.out_of_memory()),
            };
            let count = 1 << (run.order - smaller);
            self.populate(Extents { order: smaller, first: frame(done), count })?;
            done += 1;
        }
        Ok(())
    }

    fn out_of_memory(&self) -> Error {
        let free_mib = host(self.xen).map_or(0, |host| host.free_kib / 1024);
        Error::NoMemory { needed_mib: self.config.max_memory_kib.div_ceil(1024), free_mib }
    }

    /// Clears the shared pages and tells the guest where they are.
    fn rings(&self, rings: &Rings) -> Result<()> {
        let domain = self.created.domain;
        let frames: Vec<Gfn> = (0..magic::COUNT).map(|i| Gfn(magic::frame(i))).collect();
        let pages = self.xen.map_foreign(domain, &frames)?;
        pages.fill(0, 0, pages.len());
        drop(pages);
        self.xen.flush_cache(domain, Gfn(magic::frame(0)), magic::COUNT)?;
        for (param, value) in [
            (Param::ConsolePfn, magic::frame(magic::CONSOLE)),
            (Param::StorePfn, magic::frame(magic::STORE)),
            (Param::MonitorRingPfn, magic::frame(magic::MONITOR)),
            (Param::ConsoleEvtchn, u64::from(rings.console.0)),
            (Param::StoreEvtchn, u64::from(rings.store.0)),
        ] {
            self.xen.set_param(domain, param, value)?;
        }
        Ok(())
    }

    /// Kernel, ramdisk and device tree, and where the first vCPU starts.
    fn load(&self, sources: &Sources) -> Result<()> {
        let domain = self.created.domain;
        self.place(self.plan.kernel, &sources.kernel.content)?;
        if let (Some(place), Some(ramdisk)) = (self.plan.ramdisk, &sources.ramdisk) {
            self.place(place, ramdisk)?;
        }
        let tree = self.device_tree()?;
        let place = Region { size: tree.len() as u64, ..self.plan.device_tree };
        self.place(place, &Content::Bytes(tree))?;
        let (entry, tree) = (self.plan.kernel.base, self.plan.device_tree.base);
        Ok(self.xen.set_boot_context(domain, 0, entry, tree)?)
    }

    fn place(&self, place: Region, content: &Content) -> Result<()> {
        let domain = self.created.domain;
        if load_into_guest(self.xen, domain, place, content)? {
            return Ok(());
        }
        let first = place.base / PAGE;
        let count = place.end().div_ceil(PAGE) - first;
        Ok(self.xen.flush_cache(domain, Gfn(first), count)?)
    }

    fn device_tree(&self) -> Result<Vec<u8>> {
        let address_bits = self.xen.domain_info(self.created.domain)?.address_bits;
        let memory = self.plan.memory.clone();
        let machine = Machine {
            version: self.xen.version()?,
            vcpus: self.config.max_vcpus,
            extended: extended_regions(&memory, address_bits),
            memory,
            gic_version: self.created.gic_version,
            clock_frequency: self.created.clock_frequency,
            cmdline: self.config.cmdline.clone(),
            ramdisk: self.plan.ramdisk,
            vuart: self.config.vuart,
            seed: random(SEED)?,
        };
        Ok(machine.to_dtb())
    }

    /// Grants Dom0 the rings, in the entries kept for that.
    fn grants(&self) -> Result<()> {
        const ENTRY: usize = 8;
        let table = self.xen.map_grant_table(self.created.domain, 0)?;
        for (reference, page) in
            [(GrantRef::CONSOLE, magic::CONSOLE), (GrantRef::XENSTORE, magic::STORE)]
        {
            let entry = reference.0 as usize * ENTRY;
            let frame = u32::try_from(magic::frame(page)).expect("magic pages lie below 16 TiB");
            table.store_u32(entry + 4, frame);
            table.store_u16(entry + 2, DomId::DOM0.0);
            table.store_u16(entry, GTF_PERMIT_ACCESS); // last: from here on the entry is valid
        }
        Ok(())
    }

    fn scheduling(&self) -> Result<()> {
        let (weight, cap) = (self.config.cpu_weight, self.config.cap);
        if weight.is_none() && cap.is_none() {
            return Ok(());
        }
        let now = self.xen.sched_params(self.created.domain)?;
        let params =
            SchedParams { weight: weight.unwrap_or(now.weight), cap: cap.unwrap_or(now.cap) };
        Ok(self.xen.set_sched_params(self.created.domain, params)?)
    }

    /// The nodes that a domain has before it has anything else.
    fn publish_skeleton(&self) -> Result<()> {
        let domain = self.created.domain;
        let (root, vm) = (domain_path(domain), format!("/vm/{}", self.uuid));
        let guest = private_to(domain);
        self.store.transaction(|transaction| {
            for path in [&root, &vm] {
                if transaction.exists(path)? {
                    transaction.rm(path)?;
                }
                store::directory(transaction, path, &readable_by(domain))?;
            }
            let notes = notes_path(domain);
            store::directory(transaction, &notes, &private_to(DomId::DOM0))?;
            transaction.mkdir(&format!("{notes}/device"))?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let (seconds, hundredths) = (now.as_secs(), now.subsec_millis() / 10);
            let about = [
                ("name", self.config.name.clone()),
                ("uuid", self.uuid.to_string()),
                ("start_time", format!("{seconds}.{hundredths:02}")),
            ];
            store::entries(transaction, &vm, &about)?;
            store::entries(
                transaction,
                &root,
                &[("vm", vm.clone()), ("name", self.config.name.clone())],
            )?;
            for name in ["cpu", "memory", "device", "control", "device/suspend"] {
                transaction.mkdir(&format!("{root}/{name}"))?;
            }
            for name in [
                "device/suspend/event-channel",
                "control/shutdown",
                "control/feature-poweroff",
                "control/feature-reboot",
                "control/feature-suspend",
                "control/sysrq",
                "data",
                "drivers",
                "feature",
                "attr",
                "error",
            ] {
                store::directory(transaction, &format!("{root}/{name}"), &guest)?;
            }
            store::entries(
                transaction,
                &format!("{root}/control"),
                &[
                    ("platform-feature-multiprocessor-suspend", "1".into()),
                    ("platform-feature-xs_reset_watches", "1".into()),
                ],
            )
        })
    }

    /// The nodes that tell a guest of its memory, vCPUs and rings; connects it to xenstore.
    fn publish(&self, rings: &Rings) -> Result<()> {
        let domain = self.created.domain;
        let root = domain_path(domain);
        let ring = magic::frame(magic::STORE);
        self.store.transaction(|transaction| {
            store::entries(
                transaction,
                &root,
                &[
                    ("memory/static-max", self.config.max_memory_kib.to_string()),
                    ("memory/target", self.config.memory_kib.to_string()),
                    ("memory/videoram", "0".into()),
                    ("domid", domain.to_string()),
                    ("store/port", rings.store.to_string()),
                    ("store/ring-ref", ring.to_string()),
                ],
            )?;
            for vcpu in 0..self.config.max_vcpus {
                let state = if vcpu < self.config.vcpus { "online" } else { "offline" };
                transaction.write(&format!("{root}/cpu/{vcpu}/availability"), state)?;
            }
            store::entries(
                transaction,
                &notes_path(domain),
                &[("type", "pvh".into()), ("dm-version", "qemu_xen".into())],
            )
        })?;
        Ok(self.store.introduce(domain.0, ring, rings.store.0)?)
    }

    fn devices(&self, rings: &Rings) -> Result<()> {
        let domain = self.created.domain;
        for disk in &self.config.disks {
            let backend = backend(self.xen, self.store, disk.backend.as_deref())?;
            vbd::add(self.store, domain, disk, backend)?;
        }
        let ring = magic::frame(magic::CONSOLE);
        console::add(self.store, domain, Kind::Console, ring, rings.console)?;
        if let Some(port) = rings.vuart {
            let ring = magic::frame(magic::VUART);
            console::add(self.store, domain, Kind::Vuart, ring, port)?;
        }
        for (index, vif) in (0..).zip(&self.config.vifs) {
            let backend = backend(self.xen, self.store, vif.backend.as_deref())?;
            let mac = vif.mac.map_or_else(random_mac, Ok)?;
            vif::add(self.store, domain, vif, vif.devid.unwrap_or(index), mac, backend)?;
        }
        for (index, folder) in (0..).zip(&self.config.folders) {
            let backend = backend(self.xen, self.store, folder.backend.as_deref())?;
            p9::add(self.store, domain, folder, index, backend)?;
        }
        Ok(())
    }
}

/// Gives a running domain one more disk.
pub fn attach_disk(xen: &impl Xen, store: &Client, domain: DomId, disk: &Disk) -> Result<()> {
    let backend = backend(xen, store, disk.backend.as_deref())?;
    check_free(store, domain, Kind::Vbd, disk.devid)?;
    vbd::check(store, disk, backend)?;
    or_remove(store, domain, Kind::Vbd, disk.devid, vbd::add(store, domain, disk, backend))
}

/// Gives a running domain one more network interface.
pub fn attach_vif(xen: &impl Xen, store: &Client, domain: DomId, vif: &Vif) -> Result<()> {
    let backend = backend(xen, store, vif.backend.as_deref())?;
    let used: Vec<u32> = devices::list(store, domain)?
        .iter()
        .filter(|device| device.kind == Kind::Vif)
        .map(|device| device.devid)
        .collect();
    let free = (0..).find(|devid| !used.contains(devid)).unwrap_or(0);
    let devid = vif.devid.unwrap_or(free);
    check_free(store, domain, Kind::Vif, devid)?;
    vif::check(vif, devid)?;
    let mac = vif.mac.map_or_else(random_mac, Ok)?;
    let added = vif::add(store, domain, vif, devid, mac, backend);
    or_remove(store, domain, Kind::Vif, devid, added)
}

fn check_free(store: &Client, domain: DomId, kind: Kind, devid: u32) -> Result<()> {
    let devices = devices::list(store, domain)?;
    if devices.iter().any(|device| device.kind == kind && device.devid == devid) {
        let why = format!("it has a {} {devid} already", kind.name());
        return Err(Error::Refused { domain, why });
    }
    Ok(())
}

/// Passes `added` on; takes back what was made where it is a failure.
fn or_remove(
    store: &Client,
    domain: DomId,
    kind: Kind,
    devid: u32,
    added: Result<()>,
) -> Result<()> {
    if added.is_err() {
        for device in devices::list(store, domain)? {
            if device.kind == kind && device.devid == devid {
                // What failed first is what the user must hear.
                let _ = device.remove(store);
            }
        }
    }
    added
}

/// The domain that serves a device.
fn backend(xen: &impl Xen, store: &Client, name: Option<&str>) -> Result<DomId> {
    name.map_or(Ok(DomId::DOM0), |name| domain::find(xen, store, name))
}

/// Refuses a UUID that a domain has: what belongs to which could not be told any more.
fn check_uuid(xen: &impl Xen, uuid: Uuid) -> Result<()> {
    let domains = xen.domains(DomId::DOM0)?;
    let other = domains.iter().find(|info| domain::uuid(info) == uuid && !info.dying);
    other.map_or(Ok(()), |other| Err(Error::UuidTaken { uuid, domain: other.domain }))
}

fn random(count: usize) -> Result<Vec<u8>> {
    let path = "/dev/urandom";
    let mut bytes = vec![0; count];
    let filled = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    filled.map_err(|source| Error::file("read", path.as_ref(), source))?;
    Ok(bytes)
}

fn random_mac() -> Result<Mac> {
    let mut tail = [0; 3];
    for (to, from) in tail.iter_mut().zip(random(3)?) {
        *to = from;
    }
    Ok(Mac::in_xen_range(tail))
}

/// Lets a built domain run.
pub fn unpause(xen: &impl Xen, domain: DomId) -> Result<()> {
    match xen.unpause_domain(domain) {
        // It was not paused: somebody else let it run.
        Err(error) if error.is(Errno::INVAL) => Ok(()),
        answer => Ok(answer?),
    }
}
