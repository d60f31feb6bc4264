//! The hypervisor image for QEMU's `virt` machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use core::panic::PanicInfo;
    use hv_arch::BootInfo;
    use hypervisor::board::{Board, SerialModel};

    static BOARD: Board = Board {
        name: "QEMU's virt machine",
        compatible: &["linux,dummy-virt"],
        early_serial: &[(SerialModel::Pl011, 0x0900_0000)],
        watchdog: None,
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
