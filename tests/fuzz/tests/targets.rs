//! Each target on what is kept of earlier campaigns, and on bytes from a seed for a second or two.
//!
//! `FUZZ_SEED` and `FUZZ_ROUNDS` choose others; a failure prints the seed it came from.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// The seed where none is given: the same bytes on every machine.
const SEED: u64 = 0x5eed;

/// Vigna's splitmix64.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> usize {
        usize::try_from(self.next() % limit).unwrap_or_default()
    }

    /// Words of eight bytes: any, small ones, and all ones, so that checks are passed now and then.
    fn many(&mut self, most: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.below(most) {
            let word = self.next();
            let word = match word % 4 {
                0 => self.next() & 0x0303_0707_1f0f_ff0f,
                1 => self.next() | 0xff00_ffff_0000_0000,
                _ => self.next(),
            };
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let text = env::var(name).ok();
    text.map_or(otherwise, |text| text.parse().expect("it is a number"))
}

/// Gives a target so many lots of bytes, each from the seed and its number.
fn rounds(name: &str, count: u64, mut make: impl FnMut(&mut Bytes) -> Vec<u8>) {
    let target = fuzz::target(name).expect("there is such a target");
    let seed = number("FUZZ_SEED", SEED);
    // The interpreter that looks for undefined behaviour is a thousand times slower.
    let count = number("FUZZ_ROUNDS", if cfg!(miri) { count.div_ceil(1000) } else { count });
    for round in 0..count {
        let seed = seed.wrapping_add(round);
        let bytes = make(&mut Bytes(seed));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.play)(&bytes))) {
            println!("FUZZ_SEED={seed} FUZZ_ROUNDS=1 fails in {name} with {bytes:02x?}");
            resume_unwind(panic);
        }
    }
}

/// Plays what is kept for the targets whose names begin so; miri has no time for it.
fn kept(prefix: &str) {
    if cfg!(miri) {
        return;
    }
    for target in fuzz::TARGETS.iter().filter(|target| target.name.starts_with(prefix)) {
        for file in inputs(target.name) {
            let bytes = fs::read(&file).unwrap();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.play)(&bytes))) {
                println!("{} fails", file.display());
                resume_unwind(panic);
            }
        }
    }
}

fn inputs(name: &str) -> Vec<std::path::PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn each_target_has_inputs_and_each_input_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let kept: BTreeSet<String> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let targets = fuzz::TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(kept, targets);
    for target in fuzz::TARGETS {
        assert!(!inputs(target.name).is_empty(), "{}", target.name);
    }
}

#[test]
fn what_was_kept_for_the_hypervisor_passes() {
    kept("hypervisor");
}

#[test]
fn what_was_kept_for_daemons_and_readers_passes() {
    for name in ["xenstored", "console", "configuration", "device-tree", "boot-bundle", "command"] {
        kept(name);
    }
}

#[test]
fn what_was_kept_for_guests_passes() {
    kept("guest-");
}

#[test]
fn a_hypervisor_whose_guests_ask_anything() {
    let make = |bytes: &mut Bytes| {
        let count = bytes.below(50);
        (0..count * 16).map(|_| bytes.next().to_le_bytes()[0]).collect()
    };
    rounds("hypervisor", 40, make);
}

#[test]
fn daemons_whose_guests_write_anything() {
    rounds("xenstored", 200, |bytes| bytes.many(200));
    rounds("console", 1_000, |bytes| bytes.many(100));
}

#[test]
fn rings_whose_pages_anybody_writes() {
    rounds("guest-rings", 8_000, |bytes| bytes.many(120));
}

#[test]
fn a_network_interface_whose_pages_anybody_writes() {
    rounds("guest-network", 2_000, |bytes| bytes.many(120));
}

#[test]
fn a_block_request_of_anything() {
    let make = |bytes: &mut Bytes| {
        let mut all = bytes.many(120);
        // The kinds of requests, and few segments: most others are refused at once.
        if let Some([kind, segments, ..]) = all.get_mut(..2) {
            (*kind, *segments) = (*kind % 8, *segments % 16);
        }
        all
    };
    rounds("guest-requests", 20_000, make);
}

#[test]
fn a_store_that_sends_anything() {
    rounds("guest-store", 3_000, |bytes| bytes.many(100));
    rounds("guest-store", 3_000, messages);
}

/// Messages as a store may send them, to requests of which some are waited for.
fn messages(bytes: &mut Bytes) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..bytes.below(30) {
        let (kind, id, rest) = (bytes.below(20), bytes.below(12), bytes.many(9));
        let said = if bytes.below(8) == 0 { bytes.below(8000) } else { rest.len() };
        for word in [kind, id, 0, said] {
            all.extend(u32::try_from(word).unwrap_or(u32::MAX).to_le_bytes());
        }
        all.extend(rest);
    }
    all
}

#[test]
fn a_folder_s_server_that_answers_anything() {
    rounds("guest-folder", 10_000, |bytes| bytes.many(200));
}
