//! A block back end's view of a front end's request.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/requests.rs"]
mod body;

fuzz_target!(|bytes: &[u8]| body::run(bytes));
