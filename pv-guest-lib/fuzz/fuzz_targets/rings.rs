//! Both halves of a request ring and of a byte ring, while somebody else writes anything anywhere in their pages.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/rings.rs"]
mod body;

fuzz_target!(|bytes: &[u8]| body::run(bytes));
