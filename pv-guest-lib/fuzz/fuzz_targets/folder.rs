//! A shared folder's front end, while its server answers anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/folder.rs"]
mod body;

fuzz_target!(|bytes: &[u8]| body::run(bytes));
