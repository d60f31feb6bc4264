//! The hypervisor image for QEMU's `virt` machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use core::panic::PanicInfo;

    hv_arch::entry!(hypervisor::start::start);

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        hypervisor::panic::report(info)
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
