//! The bodies of the fuzz targets on bytes from a seed, for as many rounds as take a second or two.
//!
//! `PV_FUZZ_SEED` and `PV_FUZZ_ROUNDS` choose others; a failure prints the seed it came from.
#![cfg(not(target_os = "none"))]

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[path = "../fuzz/bodies/folder.rs"]
mod folder;
#[path = "../fuzz/bodies/network.rs"]
mod network;
#[path = "../fuzz/bodies/requests.rs"]
mod requests;
#[path = "../fuzz/bodies/rings.rs"]
mod rings;
#[path = "../fuzz/bodies/store.rs"]
mod store;

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

/// Gives `body` so many lots of bytes, each from the seed and its number.
fn rounds(count: u64, mut make: impl FnMut(&mut Bytes) -> Vec<u8>, body: fn(&[u8])) {
    let seed = number("PV_FUZZ_SEED", SEED);
    // The interpreter that looks for undefined behaviour is a thousand times slower.
    let count = number("PV_FUZZ_ROUNDS", if cfg!(miri) { count.div_ceil(1000) } else { count });
    for round in 0..count {
        let bytes = make(&mut Bytes(seed.wrapping_add(round)));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&bytes))) {
            let seed = seed.wrapping_add(round);
            println!("PV_FUZZ_SEED={seed} PV_FUZZ_ROUNDS=1 fails with {bytes:02x?}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn rings_whose_pages_anybody_writes() {
    rounds(8_000, |bytes| bytes.many(120), rings::run);
}

#[test]
fn a_network_interface_whose_pages_anybody_writes() {
    rounds(2_000, |bytes| bytes.many(120), network::run);
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
    rounds(20_000, make, requests::run);
}

#[test]
fn a_store_that_sends_anything() {
    rounds(3_000, |bytes| bytes.many(100), store::run);
    rounds(3_000, messages, store::run);
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
    rounds(10_000, |bytes| bytes.many(200), folder::run);
}
