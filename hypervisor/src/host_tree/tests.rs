//! What is read of real and of corrupt device trees.

use super::*;
use alloc::vec::Vec;

const VIRT_V2: &[u8] = include_bytes!("../../tests/trees/virt-gicv2.dtb");
const VIRT_V3: &[u8] = include_bytes!("../../tests/trees/virt-gicv3.dtb");
const SOC: &[u8] = include_bytes!("../../tests/trees/soc.dtb");

fn region(base: u64, size: u64) -> Region {
    Region::new(base, size).unwrap()
}

fn device<'t>(tree: &'t HostTree, path: &str) -> &'t Device {
    tree.devices.iter().find(|device| device.path == path).expect(path)
}

fn spi(number: u32, edge: bool) -> Interrupt {
    Interrupt { irq: Irq::spi(number).unwrap(), edge }
}

#[test]
fn qemus_virt_machine_with_a_gicv3_is_understood() {
    let tree = HostTree::parse(VIRT_V3).unwrap();
    assert_eq!(tree.memory, [region(0x4000_0000, 0xc000_0000)]);
    assert_eq!(tree.memory_size(), 0xc000_0000);
    assert_eq!(tree.end(), 1 << 40, "the bridge's upper window");
    let mpidrs: Vec<u64> = tree.cpus.iter().map(|cpu| cpu.mpidr).collect();
    assert_eq!(mpidrs, [0, 1, 2, 3]);
    assert!(tree.cpus.iter().all(|cpu| cpu.enable == EnableMethod::Psci));
    assert_eq!(tree.cpus[0].compatible, b"arm,cortex-a57\0");
    let registers = GicRegisters::V3 {
        gicd: region(0x800_0000, 0x1_0000),
        gicr: [region(0x80a_0000, 0xf6_0000)].to_vec(),
        stride: None,
    };
    assert_eq!(tree.gic.registers, registers);
    assert_eq!(tree.gic.maintenance, Some(Irq::ppi(9)));
    assert_eq!(tree.timer.r#virtual, Irq::ppi(11));
    assert_eq!(tree.timer.hypervisor, Irq::ppi(10));
    assert_eq!(tree.psci, Some(Psci { conduit: Conduit::Smc, cpu_on_0_1: None }));
    let console = tree.console(None).unwrap();
    assert_eq!(console.kind, SerialKind::Pl011);
    assert_eq!(console.registers, region(0x900_0000, 0x1000));
    assert_eq!(console.interrupt, Some(spi(1, false)));
    assert_eq!(device(&tree, "/virtio_mmio@a000200").interrupts, [spi(17, true)]);
}

#[test]
fn qemus_virt_machine_with_a_gicv2_is_understood() {
    let tree = HostTree::parse(VIRT_V2).unwrap();
    let registers = GicRegisters::V2 {
        gicd: region(0x800_0000, 0x1_0000),
        gicc: region(0x801_0000, 0x1_0000),
        gich: region(0x803_0000, 0x1_0000),
        gicv: region(0x804_0000, 0x1_0000),
    };
    assert_eq!(tree.gic.registers, registers);
}

#[test]
fn what_the_loader_says_is_found_under_chosen() {
    let tree = HostTree::parse(VIRT_V3).unwrap();
    assert_eq!(tree.command_line(), "dom0_mem=1G loglvl=all");
    let kernel = tree.chosen.modules.iter().find(|module| module.kind == ModuleKind::Kernel);
    let kernel = kernel.unwrap();
    assert_eq!(kernel.region.base.raw(), 0x4900_0000);
    assert_eq!(kernel.bootargs.as_deref(), Some("console=hvc0 quiet"));
    let ramdisk = tree.chosen.modules.iter().find(|module| module.kind == ModuleKind::Ramdisk);
    assert_eq!(ramdisk.unwrap().region, region(0x5400_0000, 2_000_000));
}

#[test]
fn a_pci_bridge_has_its_windows_and_its_devices_interrupts() {
    let tree = HostTree::parse(VIRT_V3).unwrap();
    let bridge = device(&tree, "/pcie@10000000");
    let wanted = [
        region(0x40_1000_0000, 0x1000_0000),
        region(0x3eff_0000, 0x1_0000),
        region(0x1000_0000, 0x2eff_0000),
        region(0x80_0000_0000, 0x80_0000_0000),
    ];
    assert_eq!(bridge.regions, wanted);
    assert_eq!(bridge.interrupts, [3, 4, 5, 6].map(|number| spi(number, false)));
}

#[test]
fn addresses_are_translated_through_every_bus() {
    let tree = HostTree::parse(SOC).unwrap();
    let registers = GicRegisters::V2 {
        gicd: region(0xff84_1000, 0x1000),
        gicc: region(0xff84_2000, 0x2000),
        gich: region(0xff84_4000, 0x2000),
        gicv: region(0xff84_6000, 0x2000),
    };
    assert_eq!(tree.gic.registers, registers);
    assert_eq!(device(&tree, "/soc/gpio@7e200000").regions, [region(0xfe20_0000, 0xb4)]);
    let unreachable = tree.devices.iter().any(|device| device.path == "/soc/button@0");
    assert!(!unreachable, "no range of the bus leads there, and its interrupt is not the GIC's");
    assert!(!tree.devices.iter().any(|device| device.path.ends_with("sensor@48")));
}

#[test]
fn only_interrupts_that_reach_the_gic_count() {
    let tree = HostTree::parse(SOC).unwrap();
    assert_eq!(device(&tree, "/soc/ethernet@7d580000").interrupts, [spi(157, true)]);
}

#[test]
fn memory_nodes_are_joined_and_reservations_known() {
    let tree = HostTree::parse(SOC).unwrap();
    assert_eq!(tree.memory, [region(0, 0x3b40_0000), region(0x4000_0000, 0xbc00_0000)]);
    assert_eq!(tree.reserved, [region(0, 0x1000), region(0x300_0000, 0x1_0000)]);
    assert_eq!(tree.chosen.initrd, Some(region(0x200_0000, 0x80_0000)));
    assert_eq!(tree.root_cells, (2, 1));
}

#[test]
fn processors_of_a_spin_table_have_their_places() {
    let tree = HostTree::parse(SOC).unwrap();
    let places: Vec<EnableMethod> = tree.cpus.iter().map(|cpu| cpu.enable).collect();
    let place = |address| EnableMethod::SpinTable(MachineAddr::new(address));
    assert_eq!(places, [place(0xd8), place(0xe0)]);
}

#[test]
fn what_devices_reach_ends_where_a_bus_says_so() {
    assert_eq!(HostTree::parse(SOC).unwrap().dma_end, Some(0x4000_0000));
    assert_eq!(HostTree::parse(VIRT_V3).unwrap().dma_end, None);
}

#[test]
fn the_console_is_found_by_option_alias_or_default() {
    let mut tree = HostTree::parse(SOC).unwrap();
    let path = |tree: &HostTree, name| tree.console(name).map(|port| port.path.clone()).unwrap();
    assert_eq!(path(&tree, None), "/soc/serial@7e215040");
    assert_eq!(path(&tree, Some("/soc/serial@7e201000:57600")), "/soc/serial@7e201000");
    assert_eq!(path(&tree, Some("nowhere")), "/soc/serial@7e215040");
    tree.chosen.stdout_path = None;
    assert_eq!(path(&tree, None), "/soc/serial@7e201000");
}

#[test]
fn bytes_after_the_tree_are_cut_off() {
    let mut blob = SOC.to_vec();
    blob.extend([0xff; 100]);
    assert_eq!(HostTree::bytes(&blob), Ok(SOC));
    assert_eq!(HostTree::parse(&blob), HostTree::parse(SOC));
}

#[test]
fn what_is_no_tree_is_refused() {
    assert_eq!(HostTree::parse(b"MZ"), Err(TreeError::NoMagic));
    assert_eq!(HostTree::parse(&SOC[..SOC.len() - 1]), Err(TreeError::Truncated));
    assert_eq!(HostTree::parse(&SOC[..5]), Err(TreeError::Truncated));
}

#[test]
fn nodes_nested_too_deeply_are_refused() {
    use dtoolkit::model::{DeviceTree, DeviceTreeNode};
    let mut inner = DeviceTreeNode::new("n").unwrap();
    for _ in 0..40 {
        let mut outer = DeviceTreeNode::new("n").unwrap();
        outer.add_child(inner);
        inner = outer;
    }
    let mut tree = DeviceTree::new();
    tree.root.add_child(inner);
    assert_eq!(HostTree::parse(&tree.to_dtb()), Err(TreeError::TooDeep));
}

/// A generator of numbers that is the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 8).unwrap() % limit
    }
}

/// Returns copies of a tree with a few bytes changed, and some cut short.
pub(crate) fn corrupted(original: &[u8], count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut numbers = Numbers(0x5eed);
    (0..count).map(move |_| {
        let mut blob = original.to_vec();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(blob.len());
            blob[at] = match numbers.below(4) {
                0 => 0,
                1 => 0xff,
                2 => blob[at] ^ (1 << numbers.below(8)),
                _ => u8::try_from(numbers.below(256)).unwrap(),
            };
        }
        blob.truncate(blob.len() - numbers.below(2) * numbers.below(64));
        blob
    })
}

#[test]
fn corrupt_trees_are_refused_or_read_but_never_panic() {
    let (mut refused, mut read) = (0, 0);
    for original in [VIRT_V2, VIRT_V3, SOC] {
        for blob in corrupted(original, 700) {
            match HostTree::parse(&blob) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100 && read > 100, "{refused} refused, {read} read");
}
