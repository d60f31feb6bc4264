//! The guest's side of the store, while the other side sends anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/store.rs"]
mod body;

fuzz_target!(|bytes: &[u8]| body::run(bytes));
