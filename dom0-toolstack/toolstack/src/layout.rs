//! A guest's physical address space (`public/arch-arm.h`, guest memory map).

use hypercall_abi::arch_arm as abi;

/// A range of guest physical addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Region {
    /// First byte.
    pub base: u64,
    /// Number of bytes.
    pub size: u64,
}

impl Region {
    /// First byte after it.
    pub const fn end(self) -> u64 {
        self.base + self.size
    }
}

/// GICv2 distributor.
pub const GICD_V2: Region = Region { base: abi::GUEST_GICD_BASE, size: abi::GUEST_GICD_SIZE };
/// GICv2 CPU interface.
pub const GICC_V2: Region = Region { base: abi::GUEST_GICC_BASE, size: abi::GUEST_GICC_SIZE };
/// GICv3 distributor.
pub const GICD_V3: Region =
    Region { base: abi::GUEST_GICV3_GICD_BASE, size: abi::GUEST_GICV3_GICD_SIZE };
/// GICv3 redistributors.
pub const GICR_V3: Region =
    Region { base: abi::GUEST_GICV3_GICR0_BASE, size: abi::GUEST_GICV3_GICR0_SIZE };
/// Emulated PL011.
pub const PL011: Region = Region { base: abi::GUEST_PL011_BASE, size: abi::GUEST_PL011_SIZE };
/// Its interrupt.
pub const PL011_SPI: u32 = abi::GUEST_VPL011_SPI;
/// Where a guest maps its grant table.
pub const GRANT_TABLE: Region =
    Region { base: abi::GUEST_GNTTAB_BASE, size: abi::GUEST_GNTTAB_SIZE };
/// Pages that builder, guest and backends share.
pub const MAGIC: Region = Region { base: abi::GUEST_MAGIC_BASE, size: abi::GUEST_MAGIC_SIZE };
/// Memory, from the bottom up.
pub const RAM: [Region; 2] = [
    Region { base: abi::GUEST_RAM0_BASE, size: abi::GUEST_RAM0_SIZE },
    Region { base: abi::GUEST_RAM1_BASE, size: abi::GUEST_RAM1_SIZE },
];

/// Size of a page.
pub const PAGE: u64 = 4096;
/// A large mapping's size.
pub const MIB_2: u64 = 2 << 20;

/// Interrupts private to a CPU: timers and events.
pub mod ppi {
    /// Secure physical timer.
    pub const TIMER_SECURE: u32 = hypercall_abi::arch_arm::GUEST_TIMER_PHYS_S_PPI;
    /// Physical timer.
    pub const TIMER_PHYSICAL: u32 = hypercall_abi::arch_arm::GUEST_TIMER_PHYS_NS_PPI;
    /// Virtual timer.
    pub const TIMER_VIRTUAL: u32 = hypercall_abi::arch_arm::GUEST_TIMER_VIRT_PPI;
    /// Events.
    pub const EVENT: u32 = hypercall_abi::arch_arm::GUEST_EVTCHN_PPI;
}

/// The magic pages, by their place in [`MAGIC`].
pub mod magic {
    /// Console ring.
    pub const CONSOLE: u64 = 0;
    /// Xenstore ring.
    pub const STORE: u64 = 1;
    /// Monitor ring.
    pub const MONITOR: u64 = 2;
    /// Ring of the emulated PL011.
    pub const VUART: u64 = 3;
    /// How many there are.
    pub const COUNT: u64 = 4;

    /// The frame of the magic page at `index`.
    pub const fn frame(index: u64) -> u64 {
        super::MAGIC.base / super::PAGE + index
    }
}
