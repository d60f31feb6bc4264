//! The hypervisor image for the Raspberry Pi 4 (BCM2711).
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use core::panic::PanicInfo;
    use hv_arch::BootInfo;
    use hypervisor::board::{Board, SerialModel};

    /// The addresses are those of the processors' view with "low peripherals", which the firmware chooses.
    static BOARD: Board = Board {
        name: "the Raspberry Pi 4",
        compatible: &["brcm,bcm2711"],
        // Which one the firmware has set up is in its configuration; the other drops what it is given.
        early_serial: &[(SerialModel::Mini, 0xfe21_5040), (SerialModel::Pl011, 0xfe20_1000)],
        watchdog: Some(0xfe10_0000),
    };

    hv_arch::entry!(main);

    fn main(boot: BootInfo) -> ! {
        hypervisor::start::start(boot, &BOARD)
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        hypervisor::panic::report(info)
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
