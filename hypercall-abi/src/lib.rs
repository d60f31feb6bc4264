//! Types and numbers that a guest and the hypervisor exchange.
//!
//! One module mirrors one public Xen header; nothing here has behaviour beyond decoding.
#![no_std]
#![forbid(unsafe_code)]

pub mod errno;
pub mod memory;
