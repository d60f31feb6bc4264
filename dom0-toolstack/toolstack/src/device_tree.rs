//! The device tree that a guest is started with: the same nodes as libxl's, so that a guest sees the same machine.

use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use hypercall_abi::arch_arm::{PSCI_0_1_CPU_OFF, PSCI_0_1_CPU_ON};
use xen_sys::domctl::GicVersion;

use crate::layout::{self, Region, ppi};

/// What the tree depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Machine {
    /// Xen's version.
    pub version: (u32, u32),
    /// vCPUs.
    pub vcpus: u32,
    /// Memory that the guest has.
    pub memory: Vec<Region>,
    /// Address space where it may map others' memory.
    pub extended: Vec<Region>,
    /// Its interrupt controller.
    pub gic_version: GicVersion,
    /// The timer's frequency, where the timer does not say.
    pub clock_frequency: Option<u32>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Where the ramdisk lies.
    pub ramdisk: Option<Region>,
    /// Whether there is an emulated PL011.
    pub vuart: bool,
    /// Randomness for the kernel's generator.
    pub seed: Vec<u8>,
}

/// How the interrupt controller is referred to.
const GIC_PHANDLE: u32 = 65000;
/// Level-triggered, active low, on all CPUs (devicetree bindings, arm,gic).
const PPI_LEVEL_LOW: u32 = 0xf08;
/// Level-triggered, active high, on all CPUs.
const SPI_LEVEL_HIGH: u32 = 0xf04;
const SPI: u32 = 0;
const PPI: u32 = 1;

impl Machine {
    /// The tree, flattened.
    pub fn to_dtb(&self) -> Vec<u8> {
        let (major, minor) = self.version;
        let model = format!("XENVM-{major}.{minor}");
        let compatible = format!("xen,xenvm-{major}.{minor}");
        let mut root = node(
            "",
            [
                property("model", model.as_str()),
                property("compatible", [compatible.as_str(), "xen,xenvm"].as_slice()),
                property("interrupt-parent", GIC_PHANDLE),
                property("#address-cells", 2_u32),
                property("#size-cells", 2_u32),
            ],
        );
        root.add_child(self.chosen());
        root.add_child(self.cpus());
        root.add_child(psci());
        for bank in &self.memory {
            let properties = [property("device_type", "memory"), property("reg", cells(&[*bank]))];
            root.add_child(node(&format!("memory@{:x}", bank.base), properties));
        }
        root.add_child(self.interrupt_controller());
        root.add_child(self.timer());
        root.add_child(self.hypervisor());
        if self.vuart {
            root.add_child(pl011());
        }
        let mut tree = DeviceTree::new();
        tree.root = root;
        tree.to_dtb()
    }

    fn chosen(&self) -> DeviceTreeNode {
        let mut chosen = node("chosen", []);
        if let Some(cmdline) = &self.cmdline {
            chosen.add_property(property("bootargs", cmdline.as_str()));
        }
        if let Some(ramdisk) = self.ramdisk {
            chosen.add_property(property("linux,initrd-start", ramdisk.base));
            chosen.add_property(property("linux,initrd-end", ramdisk.end()));
        }
        chosen.add_property(property("rng-seed", self.seed.as_slice()));
        chosen
    }

    fn cpus(&self) -> DeviceTreeNode {
        let mut cpus =
            node("cpus", [property("#address-cells", 1_u32), property("#size-cells", 0_u32)]);
        for vcpu in 0..self.vcpus {
            let affinity = (vcpu >> 4 << 8) | (vcpu & 0xf);
            cpus.add_child(node(
                &format!("cpu@{affinity:x}"),
                [
                    property("device_type", "cpu"),
                    property("compatible", "arm,armv8"),
                    property("enable-method", "psci"),
                    property("reg", affinity),
                ],
            ));
        }
        cpus
    }

    fn interrupt_controller(&self) -> DeviceTreeNode {
        let (compatible, regions): (&[&str], [Region; 2]) = match self.gic_version {
            GicVersion::V2 => {
                (&["arm,cortex-a15-gic", "arm,cortex-a9-gic"], [layout::GICD_V2, layout::GICC_V2])
            }
            GicVersion::V3 => (&["arm,gic-v3"], [layout::GICD_V3, layout::GICR_V3]),
        };
        let [distributor, _] = regions;
        node(
            &format!("interrupt-controller@{:x}", distributor.base),
            [
                property("compatible", compatible),
                property("#interrupt-cells", 3_u32),
                property("#address-cells", 0_u32),
                property("interrupt-controller", [].as_slice() as &[u8]),
                property("reg", cells(&regions)),
                property("linux,phandle", GIC_PHANDLE),
                property("phandle", GIC_PHANDLE),
            ],
        )
    }

    fn timer(&self) -> DeviceTreeNode {
        let interrupts: Vec<u32> = [ppi::TIMER_SECURE, ppi::TIMER_PHYSICAL, ppi::TIMER_VIRTUAL]
            .into_iter()
            .flat_map(|interrupt| [PPI, interrupt - 16, PPI_LEVEL_LOW])
            .collect();
        let mut timer = node(
            "timer",
            [property("compatible", "arm,armv8-timer"), property("interrupts", interrupts)],
        );
        if let Some(hertz) = self.clock_frequency {
            timer.add_property(property("clock-frequency", hertz));
        }
        timer
    }

    fn hypervisor(&self) -> DeviceTreeNode {
        let (major, minor) = self.version;
        let compatible = format!("xen,xen-{major}.{minor}");
        let regions: Vec<Region> =
            [layout::GRANT_TABLE].into_iter().chain(self.extended.iter().copied()).collect();
        node(
            "hypervisor",
            [
                property("compatible", [compatible.as_str(), "xen,xen"].as_slice()),
                property("reg", cells(&regions)),
                property("interrupts", vec![PPI, ppi::EVENT - 16, PPI_LEVEL_LOW]),
                property("interrupt-parent", GIC_PHANDLE),
            ],
        )
    }
}

/// The address space above each bank's memory, as far as `address_bits` reach, where it is worth having.
pub fn extended_regions(memory: &[Region], address_bits: u8) -> Vec<Region> {
    /// Less is of no use to Linux, which takes 128 MiB steps.
    const LEAST: u64 = 64 << 20;
    let limit = 1_u64.checked_shl(u32::from(address_bits)).unwrap_or(u64::MAX);
    layout::RAM
        .iter()
        .filter_map(|bank| {
            let used = memory.iter().find(|region| region.base == bank.base);
            let base = used.map_or(bank.base, |region| region.end());
            let base = base.next_multiple_of(layout::MIB_2);
            let end = bank.end().min(limit) / layout::MIB_2 * layout::MIB_2;
            let size = end.checked_sub(base)?;
            (size >= LEAST).then_some(Region { base, size })
        })
        .collect()
}

fn psci() -> DeviceTreeNode {
    node(
        "psci",
        [
            property("compatible", ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"].as_slice()),
            property("method", "hvc"),
            property("cpu_off", PSCI_0_1_CPU_OFF),
            property("cpu_on", PSCI_0_1_CPU_ON),
        ],
    )
}

fn pl011() -> DeviceTreeNode {
    node(
        &format!("sbsa-pl011@{:x}", layout::PL011.base),
        [
            property("compatible", "arm,sbsa-uart"),
            property("reg", cells(&[layout::PL011])),
            property("interrupts", vec![SPI, layout::PL011_SPI - 32, SPI_LEVEL_HIGH]),
            property("current-speed", 115_200_u32),
        ],
    )
}

fn node<const N: usize>(name: &str, properties: [DeviceTreeProperty; N]) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    for property in properties {
        node.add_property(property);
    }
    node
}

fn property(name: &str, value: impl ToPropertyValue) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, value)
}

/// Regions as `reg` has them, two cells each for address and size.
fn cells(regions: &[Region]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(regions.len() * 16);
    for region in regions {
        bytes.extend_from_slice(&region.base.to_be_bytes());
        bytes.extend_from_slice(&region.size.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use dtoolkit::fdt::Fdt;
    use dtoolkit::{Node, Property};

    use super::*;

    fn machine() -> Machine {
        Machine {
            version: (4, 20),
            vcpus: 18,
            memory: vec![Region { base: 0x4000_0000, size: 256 << 20 }],
            extended: vec![Region { base: 0x5000_0000, size: 0xb000_0000 }],
            gic_version: GicVersion::V3,
            clock_frequency: None,
            cmdline: Some("console=hvc0".into()),
            ramdisk: Some(Region { base: 0x4800_0000, size: 0x1234 }),
            vuart: false,
            seed: vec![7; 128],
        }
    }

    fn value(dtb: &[u8], path: &str, name: &str) -> Vec<u8> {
        let tree = Fdt::new(dtb).unwrap();
        let node = tree.find_node(path).unwrap_or_else(|| panic!("{path}"));
        let property = node.property(name).unwrap_or_else(|| panic!("{path} {name}"));
        property.value().to_vec()
    }

    #[test]
    fn the_nodes_are_those_that_linux_looks_for() {
        let dtb = machine().to_dtb();
        assert_eq!(value(&dtb, "/", "compatible"), b"xen,xenvm-4.20\0xen,xenvm\0");
        assert_eq!(value(&dtb, "/hypervisor", "compatible"), b"xen,xen-4.20\0xen,xen\0");
        assert_eq!(value(&dtb, "/chosen", "bootargs"), b"console=hvc0\0");
        assert_eq!(value(&dtb, "/chosen", "linux,initrd-end"), 0x4800_1234_u64.to_be_bytes());
        assert_eq!(value(&dtb, "/memory@40000000", "reg")[8..], 0x1000_0000_u64.to_be_bytes());
        assert_eq!(value(&dtb, "/cpus/cpu@101", "reg"), 0x101_u32.to_be_bytes());
        assert_eq!(value(&dtb, "/timer", "interrupts").len(), 36);
        assert_eq!(value(&dtb, "/interrupt-controller@3001000", "compatible"), b"arm,gic-v3\0");
        assert_eq!(
            value(&dtb, "/hypervisor", "interrupts"),
            [0, 0, 0, 1, 0, 0, 0, 15, 0, 0, 0xf, 8]
        );
    }

    #[test]
    fn the_space_above_the_memory_is_offered_up_to_the_address_limit() {
        let memory = [Region { base: 0x4000_0000, size: 256 << 20 }];
        let regions = extended_regions(&memory, 44);
        // As Debian's xl reports them for this size on a 44-bit machine.
        assert_eq!(regions[0], Region { base: 0x5000_0000, size: 0xb000_0000 });
        assert_eq!((regions[1].base, regions[1].end()), (0x2_0000_0000, 0x100_0000_0000));
        assert_eq!(extended_regions(&memory, 32).len(), 1);
        let full = [Region { base: 0x4000_0000, size: 0xc000_0000 }];
        assert_eq!(extended_regions(&full, 40)[0].base, 0x2_0000_0000);
    }
}
