//! The hypervisor, assembled: traps and hypercalls routed to the state in `hv-core`.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod command_line;
