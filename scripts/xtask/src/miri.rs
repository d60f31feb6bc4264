//! The library's logic under miri, which finds undefined behaviour. Miri comes with nightly compilers only; nothing else here needs one.

use anyhow::Result;
use std::process::Command;

use crate::process::{root, run, say};

/// Cases of each property, where it has no number of its own: miri is some thousand times slower than a processor.
const CASES: &str = "2";
/// Pages that were shared are never freed, and their addresses are numbers on the way to a frame's; properties read their number of cases from
/// the environment. Words of shared pages are also written as bytes, which miri's model of weak memory cannot follow and ends by; how the two
/// sides of a ring tell each other is loom's to explore (`ring/handshake.rs`).
const FLAGS: &str = "-Zmiri-ignore-leaks -Zmiri-permissive-provenance -Zmiri-disable-isolation -Zmiri-disable-weak-memory-emulation";

/// Runs the library's tests on this machine under miri, which is installed first where it is missing.
pub(crate) fn miri() -> Result<()> {
    let there = rustup(&["run", "nightly", "cargo", "miri", "--version"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        say("installing a nightly compiler with miri");
        run(&mut rustup(&[
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "miri",
            "--component",
            "rust-src",
            "--allow-downgrade",
            "--no-self-update",
        ]))?;
    }
    say("the library's tests under miri");
    let mut command =
        rustup(&["run", "nightly", "cargo", "miri", "test", "--package", "pv-guest-lib"]);
    command.args(["--lib", "--tests"]);
    run(command.env("MIRIFLAGS", FLAGS).env("PROPTEST_CASES", CASES))?;
    // Those of the fuzzer's targets that are the library's.
    let mut command = rustup(&["run", "nightly", "cargo", "miri", "test", "--package", "fuzz"]);
    command.args(["--test", "targets", "--", "ring", "network", "block", "store", "folder"]);
    run(command.env("MIRIFLAGS", FLAGS))
}

fn rustup(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    // Of the compiler this program was started with.
    command.current_dir(root()).args(arguments).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}
