//! The hypervisor, assembled: traps and hypercalls routed to the state in `hv-core`.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod board;
pub mod boot_modules;
pub mod command_line;
pub mod console;
pub mod domain;
#[cfg(test)]
mod fixture;
pub mod host_tree;
pub mod hypercall;
pub mod interface;
#[cfg(target_os = "none")]
pub mod irq;
pub mod keys;
pub mod lock;
pub mod machine;
#[cfg(test)]
mod model;
pub mod pages;
#[cfg(target_os = "none")]
pub mod panic;
pub mod perform;
pub mod range_set;
pub mod region;
pub mod room;
#[cfg(target_os = "none")]
pub mod start;
pub mod state;
pub mod switch;
#[cfg(not(target_os = "none"))]
pub mod testbed;
pub mod timer;
pub mod trap;
#[cfg(target_os = "none")]
pub mod vcpu;
