//! The hypervisor image for QEMU's virt machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use core::fmt::Write;
    use core::panic::PanicInfo;
    use hv_arch::BootInfo;
    use hv_arch::uart::{Emergency, Pl011};
    use hv_core::addr::MachineAddr;

    hv_arch::entry!(main);

    fn main(boot: BootInfo) -> ! {
        let uart = Pl011::new(MachineAddr::new(0x0900_0000)).expect("the port is mapped first");
        let _ = writeln!(Emergency, "{uart:?} {boot:x?}");
        hv_arch::semihosting::exit(0)
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        let _ = writeln!(Emergency, "{info}");
        for address in hv_arch::trap::backtrace() {
            let _ = writeln!(Emergency, "  at {address:#x}");
        }
        hv_arch::semihosting::exit(1)
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
