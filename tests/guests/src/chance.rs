//! Numbers by chance, the same every time: from the command line's `seed=`, or from a seed of their own.

use pv_guest_lib::tree;

/// Where chance starts and how many calls are made, unless the command line says `seed=` or `calls=`.
const SEED: u64 = 0x5eed_0001_2026_1122;
const CALLS: u64 = 2000;

/// Xorshift: the same numbers every time.
pub(crate) struct Chance(u64);

/// Returns where chance starts.
pub(crate) fn seed() -> u64 {
    setting("seed=", SEED)
}

/// Returns how many calls a test by chance makes.
pub(crate) fn calls() -> u64 {
    setting("calls=", CALLS)
}

/// Reads a number from the command line.
pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    word(name).and_then(|word| word.parse().ok()).unwrap_or(otherwise)
}

/// Reads a word from the command line.
pub(crate) fn word(name: &str) -> Option<&'static str> {
    tree::get().command_line.split_whitespace().find_map(|word| word.strip_prefix(name))
}

impl Chance {
    /// Starts a sequence, another for each `number`.
    pub(crate) fn start(number: u64) -> Self {
        Self((seed() ^ number << 32).max(1))
    }

    /// Returns any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns one of `choices`.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let index = self.below((choices.len() as u64).max(1));
        let index = usize::try_from(index).unwrap_or_default();
        choices.get(index).copied()
    }
}
