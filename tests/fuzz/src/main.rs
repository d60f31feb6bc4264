//! Feeds one target with what libFuzzer thinks of. `FUZZ_TARGET` names it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    fuzz::target(&name).expect("there is a target of this name")
});

fuzz_target!(|bytes: &[u8]| (TARGET.play)(bytes));
