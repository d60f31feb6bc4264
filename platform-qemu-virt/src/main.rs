//! The hypervisor image for QEMU's virt machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use core::fmt::Write;
    use core::panic::PanicInfo;
    use hv_arch::{BootInfo, uart::Pl011};
    use hv_core::addr::MachineAddr;

    hv_arch::entry!(main);

    fn main(boot: BootInfo) -> ! {
        let mut uart = Pl011::new(MachineAddr::new(0x0900_0000)).expect("maps");
        let _ = writeln!(uart, "{boot:x?}");
        hv_arch::semihosting::exit(0)
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        if let Ok(mut uart) = Pl011::new(MachineAddr::new(0x0900_0000)) {
            let _ = writeln!(uart, "{info}");
            for address in hv_arch::trap::backtrace() {
                let _ = writeln!(uart, "  at {address:#x}");
            }
        }
        hv_arch::semihosting::exit(1)
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
