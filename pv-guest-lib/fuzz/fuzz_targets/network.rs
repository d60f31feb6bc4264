//! Both halves of both rings of a network interface, while somebody else writes anything anywhere in their pages.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/network.rs"]
mod body;

fuzz_target!(|bytes: &[u8]| body::run(bytes));
