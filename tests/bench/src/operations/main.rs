//! A kernel for Dom0 that measures single operations of the hypervisor below it, and prints `cost NAME: NANOSECONDS`
//! for each. Under QEMU's `-icount` an instruction is a nanosecond; the guest's own loop is included.
//!
//! Interrupts stay masked and are taken by reading the acknowledge register, so that what is counted is the
//! hypervisor's path and not a guest's handler.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod alone;
#[cfg(target_os = "none")]
mod child;
#[cfg(target_os = "none")]
mod measure;
#[cfg(target_os = "none")]
mod pair;

#[cfg(target_os = "none")]
pv_guest_lib::entry!(measure::main);

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
