//! A guest's physical address space (`public/arch-arm.h`, guest memory map).

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
pub const GICD_V2: Region = Region { base: 0x0300_1000, size: 0x1000 };
/// GICv2 CPU interface.
pub const GICC_V2: Region = Region { base: 0x0300_2000, size: 0x2000 };
/// GICv3 distributor.
pub const GICD_V3: Region = Region { base: 0x0300_1000, size: 0x1_0000 };
/// GICv3 redistributors.
pub const GICR_V3: Region = Region { base: 0x0302_0000, size: 0x0100_0000 };
/// Emulated PL011.
pub const PL011: Region = Region { base: 0x2200_0000, size: 0x1000 };
/// Its interrupt.
pub const PL011_SPI: u32 = 32;
/// Where a guest maps its grant table.
pub const GRANT_TABLE: Region = Region { base: 0x3800_0000, size: 0x0100_0000 };
/// Pages that builder, guest and backends share.
pub const MAGIC: Region = Region { base: 0x3900_0000, size: 0x0100_0000 };
/// Memory, from the bottom up.
pub const RAM: [Region; 2] = [
    Region { base: 0x4000_0000, size: 0xc000_0000 },
    Region { base: 0x2_0000_0000, size: 0xfe_0000_0000 },
];

/// Size of a page.
pub const PAGE: u64 = 4096;
/// A large mapping's size.
pub const MIB_2: u64 = 2 << 20;

/// Interrupts private to a CPU: timers and events.
pub mod ppi {
    /// Secure physical timer.
    pub const TIMER_SECURE: u32 = 29;
    /// Physical timer.
    pub const TIMER_PHYSICAL: u32 = 30;
    /// Virtual timer.
    pub const TIMER_VIRTUAL: u32 = 27;
    /// Events.
    pub const EVENT: u32 = 31;
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
