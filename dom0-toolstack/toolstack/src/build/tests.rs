//! Building and removing domains, against a hypervisor in memory and a real xenstore server in a thread.

mod store;

use std::io::Write;
use std::path::Path;

use crate::config::Config;
use crate::config::domain::DomainConfig;
use crate::cpupool::Scheduler;
use crate::domain::{self, End, Request};
use crate::layout::PAGE;
use crate::userdata::Userdata;
use crate::{Error, build, cpupool, dom0, unfinished};
use tempfile::{NamedTempFile, TempDir};
use uuid::Uuid;
use xen_sys::domctl::{CreateDomain, Domctl, GicVersion, ShutdownReason};
use xen_sys::fake::FakeXen;
use xen_sys::hvm::{Hvm, Param};
use xen_sys::memory::Memory;
use xen_sys::sysctl::{PoolChange, Sysctl};
use xen_sys::{DomId, Gfn};
use xenstore::client::{Client, Store};

const UUID: &str = "36898411-6db1-4c17-baac-c31dceda9bf5";

/// A host with Dom0, a store with a backend that takes every device, and a kernel to boot.
struct Bench {
    xen: FakeXen,
    store: Client,
    _server: store::Server,
    kernel: NamedTempFile,
    files: Userdata,
    _directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let server = store::Server::start(&directory.path().join("socket"));
        let store = Client::connect_to(&directory.path().join("socket")).unwrap();
        let xen = FakeXen::new(2, 1024);
        let dom0 = CreateDomain {
            domain: Some(DomId::DOM0),
            handle: [0; 16],
            max_vcpus: 1,
            max_event_channel: 1023,
            max_grant_frames: None,
            max_maptrack_frames: None,
            vpmu: false,
            gic_version: None,
            spis: 0,
        };
        xen.create_domain(&dom0).unwrap();
        dom0::initialise(&xen, &store, PAGE).unwrap();
        let mut kernel = NamedTempFile::new().unwrap();
        kernel.write_all(&image()).unwrap();
        let files = Userdata::new(&directory.path().join("files"));
        Self { xen, store, _server: server, kernel, files, _directory: directory }
    }

    fn config(&self, more: &str) -> (DomainConfig, String) {
        let text = format!(
            "name='g1'\nuuid='{UUID}'\nkernel='{}'\nmemory=64\nvcpus=2\ncpus='1'\n\
             extra='console=hvc0 quiet'\n{more}\n",
            self.kernel.path().display()
        );
        let config = Config::parse("test", &text, &[]).unwrap();
        (DomainConfig::from_config(&config).unwrap().0, text)
    }

    fn create(&self, more: &str) -> Result<build::Built, Error> {
        let (config, text) = self.config(more);
        build::create(&self.xen, &self.store, &self.files, &config, &text)
    }

    /// Every node with its value and permissions, as `xenstore-ls -fp` prints them.
    fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(&self.store, "", &mut lines);
        lines.sort();
        lines
    }
}

fn list(store: &Client, path: &str, lines: &mut Vec<String>) {
    let shown = if path.is_empty() { "/" } else { path };
    for name in store.directory(shown).unwrap() {
        let path = format!("{path}/{name}");
        let value = store.read_string(&path).unwrap();
        let permissions: Vec<_> =
            store.get_perms(&path).unwrap().iter().map(ToString::to_string).collect();
        lines.push(format!("{path} = \"{value}\"   ({})", permissions.join(",")));
        list(store, &path, lines);
    }
}

fn image() -> Vec<u8> {
    let mut bytes = vec![0x55; 3 << 20];
    bytes[8..16].fill(0);
    bytes[16..24].copy_from_slice(&0x40_0000_u64.to_le_bytes());
    bytes[24..32].copy_from_slice(&0xa_u64.to_le_bytes());
    bytes[56..64].copy_from_slice(&0x644d_5241_u64.to_le_bytes());
    bytes
}

const DEVICES: &str = "disk=['script=/bin/true,vdev=xvda,target=one', 'script=/bin/true,vdev=xvdb,access=r,target=two']\n\
                       vif=['script=/bin/true,bridge=xenbr0,mac=00:16:3e:01:02:03']";

#[test]
fn dom0_is_told_its_memorys_target_unless_its_kernels_pages_are_larger_than_xens() {
    let bench = Bench::new();
    let target = "/local/domain/0/memory/target";
    assert!(bench.store.exists(target).unwrap());
    bench.store.rm("/local/domain/0/memory").unwrap();
    dom0::initialise(&bench.xen, &bench.store, 4 * PAGE).unwrap();
    assert!(!bench.store.exists(target).unwrap());
    dom0::initialise(&bench.xen, &bench.store, PAGE).unwrap();
    assert!(bench.store.exists(target).unwrap());
}

#[test]
fn a_built_domain_stands_in_xenstore_as_libxl_s_does() {
    let bench = Bench::new();
    let built = bench.create(DEVICES).unwrap();
    assert_eq!(built.domain, DomId(1));
    // What Debian's xl 4.20 leaves for the same configuration, but for what the kernel's backends,
    // xenconsoled and the hotplug scripts add.
    let expected = include_str!("xenstore-of-libxl.txt");
    let found = bench.listing();
    let mut missing = Vec::new();
    for line in expected.lines() {
        if !found.iter().any(|found| found == line) {
            missing.push(line);
        }
    }
    assert!(missing.is_empty(), "missing {missing:#?} in {found:#?}");
    let more: Vec<_> = found
        .iter()
        .filter(|line| !expected.lines().any(|expected| expected == line.as_str()))
        .filter(|line| !line.contains("start_time"))
        .filter(|line| !line.starts_with("/tool") && !line.starts_with("/local/domain/0/memory"))
        .collect();
    assert!(more.is_empty(), "more than libxl: {more:#?}");
}

#[test]
fn kernel_and_device_tree_are_in_memory_and_the_vcpu_starts_there() {
    let bench = Bench::new();
    look_at_loaded(&bench);
}

#[test]
fn a_hypervisor_without_our_extension_has_them_mapped() {
    let bench = Bench::new();
    bench.xen.be_plain_xen();
    look_at_loaded(&bench);
}

fn look_at_loaded(bench: &Bench) {
    let domain = bench.create("").unwrap().domain;
    let (entry, tree) = bench.xen.boot_context(domain).unwrap();
    assert_eq!(entry, 0x4000_0000);
    let mut bytes = vec![0; 3 << 20];
    let frames: Vec<Gfn> = (0x4_0000..0x4_0300).map(Gfn).collect();
    bench.xen.map_foreign(domain, &frames).unwrap().read(0, &mut bytes);
    assert!(bytes == image());
    let page = bench.xen.map_foreign(domain, &[Gfn(tree / 4096)]).unwrap();
    assert_eq!(page.load_u32(0), 0xd00d_feed_u32.swap_bytes());
    assert_eq!(bench.xen.param(domain, Param::StorePfn).unwrap(), 0x3_9001);
    assert_eq!(bench.xen.param(domain, Param::ConsoleEvtchn).unwrap(), 2);
    assert_eq!(bench.xen.param(domain, Param::CallbackIrq).unwrap(), 0x0200_0000_0000_021f);
    let grants = bench.xen.map_grant_table(domain, 0).unwrap();
    assert_eq!((grants.load_u64(0), grants.load_u64(8)), (0x3_9000_0000_0001, 0x3_9001_0000_0001));
}

#[test]
fn an_emulated_uart_has_a_console_of_its_own() {
    let bench = Bench::new();
    let nodes = bench.listing();
    let domain = bench.create("vuart='sbsa_uart'").unwrap().domain;
    let read = |name: &str| bench.store.read_string(&format!("/local/domain/1/vuart/0/{name}"));
    assert_eq!(
        (read("port").unwrap().as_str(), read("ring-ref").unwrap().as_str()),
        ("3", "233475")
    );
    assert_eq!(read("type").unwrap(), "xenconsoled");
    domain::destroy(&bench.xen, &bench.store, &bench.files, domain).unwrap();
    assert_eq!(bench.listing(), nodes);
}

const SHARED: &str = "p9=['tag=share,path=/srv/g1,security_model=none,type=xen_9pfsd,max-files=3']";

#[test]
fn a_shared_folder_stands_in_xenstore_as_libxl_s_does() {
    let bench = Bench::new();
    bench.store.write("/local/domain/0/libxl/xen-9pfs/state", "running").unwrap();
    let nodes = bench.listing();
    let built = bench.create(SHARED).unwrap();
    let found = bench.listing();
    let back = "/local/domain/0/backend/xen_9pfs/1/0";
    let front = "/local/domain/1/device/9pfs/0";
    for (path, value, permissions) in [
        (format!("{back}/frontend"), front, "n0,r1"),
        (format!("{back}/frontend-id"), "1", "n0,r1"),
        (format!("{back}/online"), "1", "n0,r1"),
        // The daemon has taken it.
        (format!("{back}/state"), "2", "n0,r1"),
        (format!("{back}/path"), "/srv/g1", "n0,r1"),
        (format!("{back}/security_model"), "none", "n0,r1"),
        (format!("{back}/max-space"), "0", "n0,r1"),
        (format!("{back}/max-files"), "3", "n0,r1"),
        (format!("{back}/max-open-files"), "0", "n0,r1"),
        (format!("{back}/auto-delete"), "0", "n0,r1"),
        (format!("{front}/backend"), back, "n1,r0"),
        (format!("{front}/backend-id"), "0", "n1,r0"),
        (format!("{front}/state"), "1", "n1,r0"),
        (format!("{front}/tag"), "share", "n1,r0"),
        (String::from("/libxl/1/device/9pfs/0/frontend"), front, "n0"),
        (String::from("/libxl/1/device/9pfs/0/backend"), back, "n0"),
        (String::from("/libxl/1/device/9pfs/0/path"), "/srv/g1", "n0"),
    ] {
        let line = format!("{path} = \"{value}\"   ({permissions})");
        assert!(found.contains(&line), "no {line} in {found:#?}");
    }
    domain::destroy(&bench.xen, &bench.store, &bench.files, built.domain).unwrap();
    assert_eq!(bench.listing(), nodes);
}

#[test]
fn a_daemon_that_was_killed_is_not_believed_to_run() {
    let bench = Bench::new();
    let nodes = bench.listing();
    bench.store.write("/local/domain/0/libxl/xen-9pfs/state", "running").unwrap();
    // No process has such a number.
    bench.store.write("/local/domain/0/libxl/xen-9pfs/pid", "4194305").unwrap();
    let error = bench.create(SHARED).unwrap_err().to_string();
    assert!(error.contains("there is no xen-9pfsd"), "{error}");
    bench.store.rm("/local/domain/0/libxl").unwrap();
    assert_eq!(bench.listing(), nodes);
}

#[test]
fn a_failure_at_any_call_leaves_nothing_behind() {
    let bench = Bench::new();
    let (nodes, free) = (bench.listing(), bench.xen.phys_info().unwrap().free_pages);
    let mut failures = 0;
    for calls in 0.. {
        bench.xen.fail_after(Some(calls));
        let built = bench.create(DEVICES);
        bench.xen.fail_after(None);
        match built {
            Ok(built) => {
                domain::destroy(&bench.xen, &bench.store, &bench.files, built.domain).unwrap();
                break;
            }
            Err(_) => failures += 1,
        }
        assert_eq!(bench.listing(), nodes, "after {calls} calls");
        assert_eq!(bench.xen.domains(DomId(1)).unwrap(), [], "after {calls} calls");
        assert_eq!(bench.xen.phys_info().unwrap().free_pages, free, "after {calls} calls");
    }
    assert!(failures > 20, "{failures}");
    assert_eq!(bench.listing(), nodes);
}

#[test]
fn a_domain_that_another_command_destroys_while_it_is_made_leaves_nothing_behind() {
    let bench = Bench::new();
    let (nodes, free) = (bench.listing(), bench.xen.phys_info().unwrap().free_pages);
    let mut failures = 0;
    for calls in 1.. {
        bench.xen.destroy_guests_after(calls);
        match bench.create(DEVICES) {
            Ok(built) => {
                let Bench { xen, store, files, .. } = &bench;
                domain::take_back(xen, store, files, built.domain, built.uuid).unwrap();
                break;
            }
            Err(_) => failures += 1,
        }
        assert_eq!(bench.listing(), nodes, "after {calls} calls");
        assert_eq!(bench.xen.phys_info().unwrap().free_pages, free, "after {calls} calls");
        assert!(bench.files.unfinished().found().is_empty(), "after {calls} calls");
    }
    assert!(failures > 15, "{failures}");
    assert_eq!(bench.listing(), nodes);
    assert_eq!(bench.xen.domains(DomId(1)).unwrap(), []);
}

#[test]
fn a_failing_script_or_a_missing_backend_undoes_the_domain() {
    let bench = Bench::new();
    let nodes = bench.listing();
    let error = bench.create("disk=['script=/bin/false,vdev=xvda,target=x']").unwrap_err();
    assert!(error.to_string().contains("/bin/false failed for vbd 51712"), "{error}");
    assert_eq!(bench.listing(), nodes);
    assert!(bench.xen.domains(DomId(1)).unwrap().is_empty());
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    bench.create("").unwrap();
    let nodes = bench.listing();
    for (more, words) in [
        ("", "a domain named \"g1\" already exists, with domain id 1"),
        ("name='x'\nkernel='/nonexistent'", "cannot open /nonexistent"),
        ("name='x'\nmemory=4096", "not enough memory"),
        ("name='x'\ndisk=['/nonexistent,,xvda']", "disk xvda: /nonexistent does not exist"),
        ("name='x'\ndisk=['/proc,,xvda']", "neither a block device nor a file"),
        ("name='x'\nvif=['bridge=nonexistent']", "no network bridge \"nonexistent\""),
        ("name='x'\nvif=['backend=nobody']", "nobody is an invalid domain identifier"),
        ("name='x'\npool='other'", "no CPU pool \"other\""),
        ("name='x'\ncpus='7'", "names no CPU of this host"),
    ] {
        let more = format!("{more}\nuuid='{}'", Uuid::from_u128(2));
        let error = bench.create(&more).unwrap_err().to_string();
        assert!(error.contains(words), "{more}: {error}");
        assert_eq!(bench.listing(), nodes, "{more}");
    }
}

#[test]
fn a_killed_command_s_domain_is_taken_back_and_a_finished_one_is_not() {
    let bench = Bench::new();
    let (nodes, free) = (bench.listing(), bench.xen.phys_info().unwrap().free_pages);
    // Killed after the domain was built, and before anybody was told.
    let built = bench.create(DEVICES).unwrap();
    assert_eq!(bench.files.unfinished().found(), [built.uuid]);
    let recover = || unfinished::recover(&bench.xen, &bench.store, &bench.files).unwrap();
    assert_eq!(recover(), [built.domain]);
    assert_eq!(bench.listing(), nodes);
    assert_eq!(bench.xen.phys_info().unwrap().free_pages, free);
    assert!(bench.files.unfinished().found().is_empty());
    // Killed while its nodes were removed, with the domain gone already.
    let built = bench.create(DEVICES).unwrap();
    bench.xen.destroy_domain(built.domain).unwrap();
    assert_eq!(recover(), []);
    assert_eq!(bench.listing(), nodes);
    // Killed before there was a domain.
    bench.files.unfinished().begin(Uuid::from_u128(9)).unwrap();
    assert_eq!(recover(), []);
    // Not killed at all.
    let built = bench.create(DEVICES).unwrap();
    build::finish(&bench.files, built).unwrap();
    assert_eq!(recover(), []);
    assert!(bench.xen.domain_info(built.domain).is_ok());
    let error = bench.create("name='g2'").unwrap_err().to_string();
    assert!(error.contains("a domain with UUID"), "{error}");
    assert!(bench.files.unfinished().found().is_empty());
}

#[test]
fn a_failed_creation_is_not_unfinished() {
    let bench = Bench::new();
    bench.xen.fail_after(Some(9));
    bench.create("").unwrap_err();
    bench.xen.fail_after(None);
    assert!(bench.files.unfinished().found().is_empty());
}

#[test]
fn a_pool_is_made_used_and_removed_or_left_as_it_was() {
    let bench = Bench::new();
    let (xen, store) = (&bench.xen, &bench.store);
    let nodes = bench.listing();
    let wanted = [1].into();
    // The CPU is in the first pool still: nothing is left behind.
    let make = || cpupool::create(xen, store, "two", Scheduler::CREDIT2, &wanted);
    make().unwrap_err();
    assert_eq!((bench.listing(), cpupool::all(xen).unwrap().len()), (nodes.clone(), 1));
    xen.change_pool(PoolChange::RemoveCpu(0, 1)).unwrap();
    let pool = make().unwrap();
    assert_eq!(cpupool::find(xen, store, "two").unwrap().cpus, wanted);
    assert_eq!(cpupool::find(xen, store, "Pool-0").unwrap().id, 0);
    assert!(cpupool::rename(xen, store, pool, "Pool-0").is_err());
    cpupool::rename(xen, store, pool, "second").unwrap();
    let built = bench.create("pool='second'").unwrap();
    assert_eq!(xen.domain_info(built.domain).unwrap().cpupool, pool);
    let error = cpupool::destroy(xen, store, pool).unwrap_err().to_string();
    assert!(error.contains("\"second\" still has 1 domains"), "{error}");
    cpupool::migrate(xen, built.domain, 0).unwrap();
    domain::destroy(xen, store, &bench.files, built.domain).unwrap();
    cpupool::destroy(xen, store, pool).unwrap();
    assert_eq!(bench.listing(), nodes);
}

#[test]
fn a_domain_is_found_renamed_and_its_end_noticed() {
    let bench = Bench::new();
    let built = bench.create("").unwrap();
    let (xen, store) = (&bench.xen, &bench.store);
    assert_eq!(domain::find(xen, store, "g1").unwrap(), built.domain);
    assert_eq!(domain::find(xen, store, "1").unwrap(), built.domain);
    assert!(domain::find(xen, store, "2").is_err());
    domain::rename(xen, store, built.domain, "g2").unwrap();
    assert!(domain::rename(xen, store, built.domain, "Domain-0").is_err());
    assert_eq!(domain::find(xen, store, "g2").unwrap(), built.domain);
    assert_eq!(store.read_string(&format!("/vm/{UUID}/name")).unwrap(), "g2");
    xen.shut_down(built.domain, ShutdownReason::Crash);
    let end = domain::wait_for_end(xen, store, built.domain, built.uuid).unwrap();
    assert!(matches!(end, End::ShutDown(info) if info.shutdown == Some(ShutdownReason::Crash)));
    domain::destroy(xen, store, &bench.files, built.domain).unwrap();
    let end = domain::wait_for_end(xen, store, built.domain, built.uuid).unwrap();
    assert_eq!(end, End::Destroyed);
}

#[test]
fn a_domain_is_kept_under_another_name_and_its_own_can_be_used_again() {
    let bench = Bench::new();
    let built = bench.create("").unwrap();
    let (xen, store) = (&bench.xen, &bench.store);
    let info = xen.domain_info(built.domain).unwrap();
    domain::preserve(xen, store, &bench.files, &info, "g1-kept", Uuid::from_u128(5)).unwrap();
    let again = bench.create("").unwrap();
    assert_eq!(again.uuid, built.uuid);
    assert_eq!(domain::name(store, built.domain).unwrap().as_deref(), Some("g1-kept"));
    assert_eq!(xen.domain_info(built.domain).unwrap().handle, *Uuid::from_u128(5).as_bytes());
    let kept = format!("/vm/{}", Uuid::from_u128(5));
    assert_eq!(store.read_string("/local/domain/1/vm").unwrap(), kept);
    assert_eq!(store.read_string(&format!("{kept}/name")).unwrap(), "g1-kept");
}

#[test]
fn a_request_is_over_when_the_guest_has_read_it_or_is_gone() {
    let bench = Bench::new();
    let built = bench.create("").unwrap();
    bench.xen.shut_down(built.domain, ShutdownReason::Poweroff);
    domain::request(&bench.xen, &bench.store, built.domain, Request::Poweroff).unwrap();
    let error = domain::request(&bench.xen, &bench.store, DomId::DOM0, Request::Reboot);
    assert!(error.unwrap_err().to_string().contains("from within"));
    assert!(Path::new("/bin/true").exists());
}

#[test]
fn a_host_says_which_interrupt_controller_it_cannot_give() {
    let bench = Bench::new();
    let refused = bench.create("gic_version='v2'").unwrap_err().to_string();
    assert!(refused.contains("gic_version = \"v2\": this host has"), "{refused}");
    bench.create("gic_version='v3'").unwrap();
    let bench = Bench::new();
    bench.xen.set_gic(GicVersion::V2);
    let refused = bench.create("maxvcpus=9").unwrap_err().to_string();
    assert!(refused.contains("vcpus = 9") && refused.contains("at most 8"), "{refused}");
}
