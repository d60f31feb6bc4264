//! What is Arm's own: a guest's memory map, a vCPU's first registers (`public/arch-arm.h`).

/// `VGCF_online`: the vCPU is to run.
pub const VGCF_ONLINE: u32 = 1 << 0;

/// Processor state: EL0.
pub const PSR_MODE_EL0T: u64 = 0x00;
/// Processor state: EL1 on the stack of EL0.
pub const PSR_MODE_EL1T: u64 = 0x04;
/// Processor state: EL1.
pub const PSR_MODE_EL1H: u64 = 0x05;
/// Processor state: bits of the mode.
pub const PSR_MODE_MASK: u64 = 0x1f;
/// Processor state: fast interrupts masked.
pub const PSR_FIQ_MASK: u64 = 1 << 6;
/// Processor state: interrupts masked.
pub const PSR_IRQ_MASK: u64 = 1 << 7;
/// Processor state: system errors masked.
pub const PSR_ABT_MASK: u64 = 1 << 8;
/// Processor state: debug exceptions masked.
pub const PSR_DBG_MASK: u64 = 1 << 9;
/// Processor state in which a guest starts; tools before 4.20.4 leave debug exceptions unmasked.
pub const PSR_GUEST64_INIT: u64 =
    PSR_DBG_MASK | PSR_ABT_MASK | PSR_FIQ_MASK | PSR_IRQ_MASK | PSR_MODE_EL1H;
/// SCTLR_EL1 with which a guest starts.
pub const SCTLR_GUEST_INIT: u64 = 0x00c5_0078;

/// GIC version: as the machine has it.
pub const XEN_DOMCTL_CONFIG_GIC_NATIVE: u8 = 0;
/// GIC version: 2.
pub const XEN_DOMCTL_CONFIG_GIC_V2: u8 = 1;
/// GIC version: 3.
pub const XEN_DOMCTL_CONFIG_GIC_V3: u8 = 2;
/// Trusted environment: none.
pub const XEN_DOMCTL_CONFIG_TEE_NONE: u16 = 0;

/// virtio devices.
pub const GUEST_VIRTIO_MMIO_BASE: u64 = 0x0200_0000;
/// Size of the virtio devices' range.
pub const GUEST_VIRTIO_MMIO_SIZE: u64 = 0x0010_0000;
/// GICv2 distributor.
pub const GUEST_GICD_BASE: u64 = 0x0300_1000;
/// Size of the GICv2 distributor.
pub const GUEST_GICD_SIZE: u64 = 0x0000_1000;
/// GICv2 CPU interface.
pub const GUEST_GICC_BASE: u64 = 0x0300_2000;
/// Size of the GICv2 CPU interface.
pub const GUEST_GICC_SIZE: u64 = 0x0000_2000;
/// GICv3 distributor.
pub const GUEST_GICV3_GICD_BASE: u64 = 0x0300_1000;
/// Size of the GICv3 distributor.
pub const GUEST_GICV3_GICD_SIZE: u64 = 0x0001_0000;
/// GICv3 redistributors.
pub const GUEST_GICV3_GICR0_BASE: u64 = 0x0302_0000;
/// Size of the GICv3 redistributors' range.
pub const GUEST_GICV3_GICR0_SIZE: u64 = 0x0100_0000;
/// PCI configuration space.
pub const GUEST_VPCI_ECAM_BASE: u64 = 0x1000_0000;
/// Size of the PCI configuration space.
pub const GUEST_VPCI_ECAM_SIZE: u64 = 0x1000_0000;
/// ACPI tables.
pub const GUEST_ACPI_BASE: u64 = 0x2000_0000;
/// Size of the ACPI tables' range.
pub const GUEST_ACPI_SIZE: u64 = 0x0200_0000;
/// Virtual UART.
pub const GUEST_PL011_BASE: u64 = 0x2200_0000;
/// Size of the virtual UART.
pub const GUEST_PL011_SIZE: u64 = 0x0000_1000;
/// Grant table window.
pub const GUEST_GNTTAB_BASE: u64 = 0x3800_0000;
/// Size of the grant table window.
pub const GUEST_GNTTAB_SIZE: u64 = 0x0100_0000;
/// Pages the tools fill: console, xenstore, monitor ring, UART ring.
pub const GUEST_MAGIC_BASE: u64 = 0x3900_0000;
/// Size of that range.
pub const GUEST_MAGIC_SIZE: u64 = 0x0100_0000;
/// Banks of memory.
pub const GUEST_RAM_BANKS: usize = 2;
/// First bank of memory.
pub const GUEST_RAM0_BASE: u64 = 0x4000_0000;
/// Most the first bank can hold.
pub const GUEST_RAM0_SIZE: u64 = 0xc000_0000;
/// Second bank of memory.
pub const GUEST_RAM1_BASE: u64 = 0x02_0000_0000;
/// Most the second bank can hold.
pub const GUEST_RAM1_SIZE: u64 = 0xfe_0000_0000;

/// vCPUs a guest can have.
pub const GUEST_MAX_VCPUS: u32 = 128;
/// Interrupt of the virtual timer.
pub const GUEST_TIMER_VIRT_PPI: u32 = 27;
/// Interrupt of the secure physical timer.
pub const GUEST_TIMER_PHYS_S_PPI: u32 = 29;
/// Interrupt of the physical timer.
pub const GUEST_TIMER_PHYS_NS_PPI: u32 = 30;
/// Interrupt of event channels.
pub const GUEST_EVTCHN_PPI: u32 = 31;
/// Interrupt of the virtual UART.
pub const GUEST_VPL011_SPI: u32 = 32;
/// First interrupt of virtio devices.
pub const GUEST_VIRTIO_MMIO_SPI_FIRST: u32 = 33;
/// Last interrupt of virtio devices.
pub const GUEST_VIRTIO_MMIO_SPI_LAST: u32 = 43;
/// Function number of CPU_OFF in a device tree of PSCI 0.1.
pub const PSCI_0_1_CPU_OFF: u32 = 1;
/// Function number of CPU_ON in a device tree of PSCI 0.1.
pub const PSCI_0_1_CPU_ON: u32 = 2;

crate::layout::wire! {
    /// What Arm adds to a new domain's description.
    pub struct ArchDomainconfig = "struct xen_arch_domainconfig", 12 {
        /// IN/OUT: one of `XEN_DOMCTL_CONFIG_GIC_`.
        0 => gic_version: u8,
        /// IN: length of scalable vectors / 128.
        1 => sve_vl: u8,
        /// IN: one of `XEN_DOMCTL_CONFIG_TEE_`.
        2 => tee_type: u16,
        /// IN: shared interrupts.
        4 => nr_spis: u32,
        /// OUT: frequency of the timer if the device tree must say it, or 0.
        8 => clock_frequency: u32,
    }
}

crate::layout::wire! {
    /// A vCPU's general registers.
    pub struct VcpuGuestCoreRegs = "struct vcpu_guest_core_regs", 312 {
        /// x0 to x30.
        0 => x: [u64; 31] as "x0",
        /// Program counter.
        248 => pc64: u64,
        /// Processor state.
        256 => cpsr: u64,
        /// Saved processor state of EL1.
        264 => spsr_el1: u64,
        /// Saved processor state of 32-bit FIQ mode.
        272 => spsr_fiq: u32,
        /// Saved processor state of 32-bit IRQ mode.
        276 => spsr_irq: u32,
        /// Saved processor state of 32-bit undefined mode.
        280 => spsr_und: u32,
        /// Saved processor state of 32-bit abort mode.
        284 => spsr_abt: u32,
        /// Stack pointer of EL0.
        288 => sp_el0: u64,
        /// Stack pointer of EL1.
        296 => sp_el1: u64,
        /// Exception return address of EL1.
        304 => elr_el1: u64,
    }
}

crate::layout::wire! {
    /// A vCPU's registers as tools set and read them.
    pub struct VcpuGuestContext = "struct vcpu_guest_context", 352 {
        /// `VGCF_` bits.
        0 => flags: u32,
        /// Padding.
        4 => pad: u32,
        /// General registers.
        8 => user_regs: VcpuGuestCoreRegs,
        /// SCTLR_EL1.
        320 => sctlr: u64,
        /// TCR_EL1.
        328 => ttbcr: u64,
        /// TTBR0_EL1.
        336 => ttbr0: u64,
        /// TTBR1_EL1.
        344 => ttbr1: u64,
    }
}
