//! Bare-metal guests that test the hypervisor below them, one topic each.
//!
//! Each boots as Dom0's kernel of this project's hypervisor or of Xen 4.20, prints `ok NAME` or
//! `not ok NAME: why` for each test and `N passed, N failed` at the end, and shuts the machine
//! down. `cargo xtask guests` plays them. `hostile` is played beside other guests, too: for a
//! moment by the scenario `hostile`, and by `campaign`, with `cargo xtask system --long`, until ten
//! million calls were answered. `memory` is about the library that all of them are built on. What a
//! test expects is what Xen 4.20 does; where this hypervisor does better on purpose, the test says
//! so and accepts both.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod chance;
#[cfg(target_os = "none")]
mod suite;

#[cfg(target_os = "none")]
pub mod domains;
#[cfg(target_os = "none")]
pub mod evtchn;
#[cfg(target_os = "none")]
pub mod grant;
#[cfg(target_os = "none")]
pub mod hostile;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod mmio;
#[cfg(target_os = "none")]
pub mod p2m;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod sched;
#[cfg(target_os = "none")]
pub mod sysreg;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod version;
#[cfg(target_os = "none")]
pub mod vgic;

/// Makes a binary of a topic: its `main` off the machine does nothing.
#[macro_export]
macro_rules! boot {
    ($topic:ident) => {
        #[cfg(target_os = "none")]
        pv_guest_lib::entry!($crate::$topic::main, heap: 2 << 20);

        #[cfg(not(target_os = "none"))]
        fn main() {}
    };
}
