//! A library for paravirtual guests: from the loader's jump to events, grants and every processor.
//!
//! A guest is an arm64 `Image`, started at EL1 with the device tree's address in x0, as Dom0 or as another
//! domain of any hypervisor with Xen's interface. [`entry!`] names its first function:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! pv_guest_lib::entry!(main);
//!
//! fn main() {
//!     log::info!("hello from vCPU {}", pv_guest_lib::cpu::number());
//! }
//! ```
//!
//! The guest is linked by this crate's `image.ld`. When its first function returns, the machine (for Dom0) or
//! the domain is shut down. Off the machine only what needs no machine
//! is there, for its tests.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(target_os = "none"),
    expect(rustdoc::broken_intra_doc_links, reason = "they lead to what is there on the machine")
)]

extern crate alloc;

#[cfg(target_os = "none")]
pub mod balloon;
pub mod block;
pub mod byte_ring;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod control;
#[cfg(target_os = "none")]
mod copy;
#[cfg(not(target_os = "none"))]
#[path = "host/copy.rs"]
mod copy;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(not(target_os = "none"))]
#[path = "host/cpu.rs"]
mod cpu;
#[cfg(target_os = "none")]
pub mod event;
#[cfg(target_os = "none")]
pub mod exception;
#[cfg(all(target_os = "none", feature = "embassy"))]
pub mod executor;
#[cfg(target_os = "none")]
pub mod gic;
pub mod grant;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
pub mod hypercall;
#[cfg(all(target_os = "none", feature = "embedded-io"))]
mod io;
pub mod lock;
#[cfg(target_os = "none")]
pub mod map;
#[cfg(not(target_os = "none"))]
#[path = "host/map.rs"]
mod map;
#[cfg(target_os = "none")]
pub mod mmio;
pub mod net;
pub mod p9;
pub mod page;
#[cfg(target_os = "none")]
pub mod pipe;
#[cfg(target_os = "none")]
pub mod power;
#[cfg(target_os = "none")]
pub mod probe;
pub mod range;
pub mod ring;
#[cfg(target_os = "none")]
pub mod shared_info;
pub mod slots;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod suspend;
#[cfg(target_os = "none")]
pub mod task;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
pub mod tree;
#[cfg(target_os = "none")]
pub mod wait;
pub mod xenbus;
pub mod xenstore;
