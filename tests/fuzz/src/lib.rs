//! Everything that reads what others write, fed with anything.
//!
//! A target takes bytes, does with them what hostile neighbours could, and panics if something is not as
//! it must be. `cargo xtask fuzz` looks for bytes that reach what none has reached before; `tests/corpus.rs`
//! plays those that were kept, and some from a seed, with every run of the tests.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

pub mod console;
pub mod guest;
pub mod hypervisor;
pub mod readers;
pub mod xenstored;

/// What can be fed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory below `corpus`.
    pub name: &'static str,
    /// Plays one input.
    pub play: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "hypervisor", play: hypervisor::run },
    Target { name: "xenstored", play: xenstored::run },
    Target { name: "console", play: console::run },
    Target { name: "configuration", play: readers::configuration },
    Target { name: "device-tree", play: readers::device_tree },
    Target { name: "boot-bundle", play: readers::boot_bundle },
    Target { name: "command-line", play: readers::command_line },
    Target { name: "guest-folder", play: guest::folder::run },
    Target { name: "guest-network", play: guest::network::run },
    Target { name: "guest-requests", play: guest::requests::run },
    Target { name: "guest-rings", play: guest::rings::run },
    Target { name: "guest-store", play: guest::store::run },
];

/// Returns the target called `name`.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}
