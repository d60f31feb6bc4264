//! The smallest guest: says hello on the hypervisor's console.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    pv_guest_lib::entry!(main);

    fn main() {
        pv_guest_lib::say!("hello from vCPU {}", pv_guest_lib::cpu::number());
        pv_guest_lib::say!("{:?}", pv_guest_lib::tree::get());
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
