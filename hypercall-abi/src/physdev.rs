//! Physical device operations (`public/physdev.h`).

/// `PHYSDEVOP_manage_pci_add`.
pub const PHYSDEVOP_MANAGE_PCI_ADD: u32 = 15;
/// `PHYSDEVOP_manage_pci_remove`.
pub const PHYSDEVOP_MANAGE_PCI_REMOVE: u32 = 16;
/// `PHYSDEVOP_manage_pci_add_ext`.
pub const PHYSDEVOP_MANAGE_PCI_ADD_EXT: u32 = 20;
/// `PHYSDEVOP_pci_mmcfg_reserved`.
pub const PHYSDEVOP_PCI_MMCFG_RESERVED: u32 = 24;
/// `PHYSDEVOP_pci_device_add`: see [`PciDeviceAdd`].
pub const PHYSDEVOP_PCI_DEVICE_ADD: u32 = 25;
/// `PHYSDEVOP_pci_device_remove`: see [`PciDevice`].
pub const PHYSDEVOP_PCI_DEVICE_REMOVE: u32 = 26;

/// The device is an extended function.
pub const XEN_PCI_DEV_EXTFN: u32 = 0x1;
/// The device is a virtual function.
pub const XEN_PCI_DEV_VIRTFN: u32 = 0x2;
/// The first optional word is the device's proximity domain.
pub const XEN_PCI_DEV_PXM: u32 = 0x4;

crate::layout::wire! {
    /// A PCI device.
    pub struct PciDevice = "struct physdev_pci_device", 4 {
        /// Its segment.
        0 => seg: u16,
        /// Its bus.
        2 => bus: u8,
        /// Its device and function.
        3 => devfn: u8,
    }
}

crate::layout::wire! {
    /// Argument of `PHYSDEVOP_pci_device_add`, without the optional words.
    pub struct PciDeviceAdd = "struct physdev_pci_device_add", 12 {
        /// The device's segment.
        0 => seg: u16,
        /// Its bus.
        2 => bus: u8,
        /// Its device and function.
        3 => devfn: u8,
        /// `XEN_PCI_DEV_` bits.
        4 => flags: u32,
        /// Bus of its physical function.
        8 => physfn_bus: u8 as "physfn.bus",
        /// Device and function of its physical function.
        9 => physfn_devfn: u8 as "physfn.devfn",
        /// Padding.
        10 => pad: u16,
    }
}
