//! Types and numbers that a guest and the hypervisor exchange.
//!
//! One module mirrors one public Xen header (as of Xen 4.20, on 64-bit Arm); nothing here has behaviour
//! beyond decoding. Names are Xen's, in Rust's case. A guest handle is a `u64`.
#![no_std]
#![forbid(unsafe_code)]

pub mod arch_arm;
pub mod console_io;
pub mod domctl;
pub mod errno;
pub mod event_channel;
#[cfg(feature = "extension")]
pub mod extension;
pub mod features;
pub mod grant_table;
pub mod hvm;
pub mod hypercall;
pub mod hypfs;
pub mod ids;
pub mod io;
pub mod layout;
pub mod memory;
pub mod multicall;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod shared_info;
pub mod sysctl;
pub mod vcpu;
pub mod version;
