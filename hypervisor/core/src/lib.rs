//! The hypervisor's decisions, free of hardware.
//!
//! Everything here takes its inputs as arguments and returns what must happen next; nothing reads a
//! register, a clock or a static. That is what lets every line run under `cargo test` on the host.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod bits;
pub mod boot_bundle;
pub mod console_ring;
pub mod evtchn;
pub mod exit;
#[cfg(any(test, feature = "fakes"))]
pub mod fake;
pub mod frames;
pub mod grant;
pub mod guest;
pub mod idregs;
pub mod ids;
pub mod inject;
pub mod lifecycle;
pub mod memory;
pub mod p2m;
pub mod privilege;
pub mod reach;
pub mod sched;
pub mod sysreg;
pub mod time;
pub mod timer_queue;
pub mod vgic;
pub mod vpl011;
pub mod vpsci;
pub mod vtimer;
