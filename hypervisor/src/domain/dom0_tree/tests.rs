//! What Dom0's tree says of boards of different shapes, and that corrupt ones do no harm.

use super::*;
use crate::domain::dom0_layout::{LayoutError, Request};
use crate::host_tree::tests::corrupted;
use crate::region::without;
use alloc::vec;

const VIRT_V2: &[u8] = include_bytes!("../../../tests/trees/virt-gicv2.dtb");
const VIRT_V3: &[u8] = include_bytes!("../../../tests/trees/virt-gicv3.dtb");
const SOC: &[u8] = include_bytes!("../../../tests/trees/soc.dtb");

fn plan(host: &HostTree) -> Result<Dom0Layout, LayoutError> {
    let used = [Region::between(0x4000_0000, 0x4100_0000)];
    let free = without(&host.memory, &[&host.reserved, &used[..]].concat());
    let request = Request {
        host,
        free: &free,
        memory: 1 << 29,
        text_offset: 0,
        kernel_size: 40 << 20,
        ramdisk_size: 5_000_000,
        ipa_bits: 40,
        dma_bits: 32,
        console: host.console(None),
        grant_frames: 64,
    };
    Dom0Layout::plan(&request)
}

fn description(vcpus: u32) -> Description<'static> {
    Description { vcpus, bootargs: "console=hvc0 quiet", version: 20 }
}

fn dom0(blob: &[u8], vcpus: u32) -> (Dom0Layout, DeviceTree) {
    let host = HostTree::parse(blob).unwrap();
    let layout = plan(&host).unwrap();
    let tree = build(blob, &host, &layout, &description(vcpus)).unwrap();
    let tree = DeviceTree::from_fdt(&Fdt::new(&tree).unwrap());
    (layout, tree)
}

fn has(tree: &DeviceTree, path: &str) -> bool {
    tree.find_node(path).is_some()
}

fn words(tree: &DeviceTree, path: &str, property: &str) -> Vec<u32> {
    let node = tree.find_node(path).expect(path);
    let property = node.property(property).expect(property);
    let value = property.value();
    value.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word)).collect()
}

fn texts(tree: &DeviceTree, path: &str, property: &str) -> Vec<String> {
    strings(tree.find_node(path).expect(path), property)
}

/// Splits into the cells of an address or a size, both of two cells.
fn wide(region: &Region) -> [u32; 4] {
    let half = |value: u64, shift: u32| u32::try_from(value >> shift & 0xffff_ffff).unwrap();
    let (base, size) = (region.base.raw(), region.size);
    [half(base, 32), half(base, 0), half(size, 32), half(size, 0)]
}

#[test]
fn what_is_the_hypervisors_is_gone_and_the_rest_is_there() {
    let (_, tree) = dom0(VIRT_V3, 4);
    for gone in [
        "/pl011@9000000",
        "/pmu",
        "/memory@40000000",
        "/intc@8000000/its@8080000",
        "/chosen/module@0x49000000",
        "/cpus/cpu-map",
    ] {
        assert!(!has(&tree, gone), "{gone}");
    }
    for kept in
        ["/pcie@10000000", "/virtio_mmio@a003e00", "/pl031@9010000", "/apb-pclk", "/flash@0"]
    {
        assert!(has(&tree, kept), "{kept}");
    }
    let bridge = tree.find_node("/pcie@10000000").unwrap();
    assert!(bridge.property("msi-map").is_none(), "it named the interrupt translation service");
    assert!(bridge.property("interrupt-map").is_some());
}

#[test]
fn the_interrupt_controller_keeps_what_a_guest_has() {
    let (_, tree) = dom0(VIRT_V3, 4);
    let gic = "/intc@8000000";
    assert_eq!(texts(&tree, gic, "compatible"), ["arm,gic-v3"]);
    let reg = words(&tree, gic, "reg");
    assert_eq!(reg, [0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0xf6_0000]);
    let node = tree.find_node(gic).unwrap();
    assert!(
        node.property("interrupts").is_none() && node.property("interrupt-controller").is_some()
    );

    let (_, tree) = dom0(VIRT_V2, 4);
    let reg = words(&tree, gic, "reg");
    assert_eq!(reg, [0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000]);
    assert!(!has(&tree, "/intc@8000000/v2m@8020000"));

    let (_, tree) = dom0(SOC, 2);
    let gic = "/soc/interrupt-controller@40041000";
    assert_eq!(words(&tree, gic, "reg"), [0x4004_1000, 0x1000, 0x4004_2000, 0x2000]);
}

#[test]
fn the_timer_has_three_level_interrupts() {
    let (_, tree) = dom0(VIRT_V3, 1);
    assert_eq!(texts(&tree, "/timer", "compatible"), ["arm,armv8-timer"]);
    let interrupts = [1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08];
    assert_eq!(words(&tree, "/timer", "interrupts"), interrupts);
}

#[test]
fn linux_finds_the_hypervisor_as_its_binding_says() {
    let (layout, tree) = dom0(VIRT_V3, 4);
    assert_eq!(texts(&tree, "/hypervisor", "compatible"), ["xen,xen-4.20", "xen,xen"]);
    let regions = [layout.grant_window].into_iter().chain(layout.extended);
    let reg: Vec<u32> = regions.flat_map(|region| wide(&region)).collect();
    assert_eq!(words(&tree, "/hypervisor", "reg"), reg);
    assert_eq!(words(&tree, "/hypervisor", "interrupts"), [1, 0, 0xf08]);
    let gic = words(&tree, "/intc@8000000", "phandle");
    assert_eq!(words(&tree, "/hypervisor", "interrupt-parent"), gic);
}

#[test]
fn memory_processors_and_firmware_are_the_guests() {
    let (layout, tree) = dom0(VIRT_V3, 18);
    let bank = layout.banks[0];
    let memory = format!("/memory@{:x}", bank.base.raw());
    assert_eq!(words(&tree, &memory, "reg"), wide(&bank));
    assert_eq!(texts(&tree, &memory, "device_type"), ["memory"]);
    let cpus = tree.find_node("/cpus").unwrap();
    assert_eq!(cpus.children().count(), 18);
    assert_eq!(words(&tree, "/cpus/cpu@f", "reg"), [0xf]);
    assert_eq!(words(&tree, "/cpus/cpu@101", "reg"), [0x101], "the 18th");
    assert_eq!(texts(&tree, "/cpus/cpu@101", "enable-method"), ["psci"]);
    assert_eq!(texts(&tree, "/cpus/cpu@0", "compatible"), ["arm,cortex-a57"]);
    assert_eq!(texts(&tree, "/psci", "method"), ["hvc"]);
    assert_eq!(words(&tree, "/psci", "cpu_on"), [2]);
}

#[test]
fn chosen_is_about_dom0() {
    let (layout, tree) = dom0(VIRT_V3, 1);
    assert_eq!(texts(&tree, "/chosen", "bootargs"), ["console=hvc0 quiet"]);
    let ramdisk = layout.ramdisk.unwrap();
    let cells = |value: u64| wide(&Region::between(value, value))[..2].to_vec();
    assert_eq!(words(&tree, "/chosen", "linux,initrd-start"), cells(ramdisk.base.raw()));
    assert_eq!(words(&tree, "/chosen", "linux,initrd-end"), cells(ramdisk.end()));
    let chosen = tree.find_node("/chosen").unwrap();
    assert!(chosen.property("stdout-path").is_none());
    assert!(chosen.property("rng-seed").is_some());
}

#[test]
fn reserved_memory_stays_described_and_its_own_node_too() {
    let (layout, tree) = dom0(SOC, 1);
    assert!(has(&tree, "/reserved-memory/firmware@3000000"));
    assert_eq!(words(&tree, "/memory@3000000", "reg"), [0, 0x300_0000, 0x1_0000]);
    let bank = layout.banks[0];
    let path = format!("/memory@{:x}", bank.base.raw());
    let [high, low, _, size] = wide(&bank);
    assert_eq!(words(&tree, &path, "reg"), [high, low, size], "sizes of one cell");
    assert!(tree.memory_reservations.is_empty());
}

#[test]
fn a_size_too_large_for_one_cell_is_split() {
    let mut host = HostTree::parse(SOC).unwrap();
    let large = [Region::between(0x1_0000_0000, 0x2_8000_0000)];
    let cells = [1, 0, 0x8000_0000, 1, 0x8000_0000, 0x8000_0000, 2, 0, 0x8000_0000];
    assert_eq!(reg(&large, &host), Ok(cells.to_vec()));
    host.root_cells = (1, 1);
    assert_eq!(reg(&large, &host), Err(Dom0TreeError::Cells));
    let low = [Region::between(0x1000, 0x3000)];
    assert_eq!(reg(&low, &host), Ok(vec![0x1000, 0x2000]));
    host.root_cells = (3, 1);
    assert_eq!(reg(&low, &host), Err(Dom0TreeError::Cells));
}

#[test]
fn performance_monitors_and_modules_are_kept_back() {
    let names =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).into()).collect() };
    assert!(is_kept_back(&names(&["arm,cortex-a72-pmu"])));
    assert!(is_kept_back(&names(&["arm,armv8-pmuv3"])));
    assert!(is_kept_back(&names(&["multiboot,kernel", "multiboot,module"])));
    assert!(!is_kept_back(&names(&["rockchip,rk3399-pmu"])), "it manages power");
    assert!(!is_kept_back(&[]));
}

#[test]
fn a_tree_that_is_not_the_one_that_was_read_does_not_panic() {
    let host = HostTree::parse(VIRT_V3).unwrap();
    let layout = plan(&host).unwrap();
    let foreign = build(SOC, &host, &layout, &description(1));
    assert_eq!(foreign, Err(Dom0TreeError::NoGic));
    let none = build(b"none", &host, &layout, &description(1));
    assert_eq!(none, Err(Dom0TreeError::Host(TreeError::NoMagic)));
}

#[test]
fn a_corrupt_host_tree_gives_dom0_a_good_one_or_none() {
    let mut built = 0;
    for original in [VIRT_V2, VIRT_V3, SOC] {
        for blob in corrupted(original, 300) {
            let Ok(host) = HostTree::parse(&blob) else { continue };
            let Ok(layout) = plan(&host) else { continue };
            if let Ok(tree) = build(&blob, &host, &layout, &description(2)) {
                Fdt::new(&tree).unwrap();
                built += 1;
            }
        }
    }
    assert!(built > 100, "only {built} were good enough");
}
