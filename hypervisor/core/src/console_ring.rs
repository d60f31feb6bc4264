//! The hypervisor's message buffer, which `xl dmesg` reads (`XEN_SYSCTL_readconsole`).

use alloc::vec::Vec;

/// The last `size` bytes of what was written; positions count all bytes ever written.
#[derive(Clone, Debug)]
pub struct ConsoleRing {
    bytes: Vec<u8>,
    /// Position of the next byte.
    end: u64,
    /// Position before which everything was cleared.
    start: u64,
}

impl ConsoleRing {
    /// Creates an empty ring of `size` bytes, a power of two.
    pub fn new(size: usize) -> Self {
        assert!(size.is_power_of_two(), "a ring's size is a power of two");
        Self { bytes: alloc::vec![0; size], end: 0, start: 0 }
    }

    /// Appends `text`; the oldest bytes make room.
    pub fn write(&mut self, text: &[u8]) {
        let size = self.bytes.len();
        for byte in text {
            let place = crate::addr::to_index(self.end) & (size - 1);
            if let Some(slot) = self.bytes.get_mut(place) {
                *slot = *byte;
            }
            self.end += 1;
        }
        self.start = self.start.max(self.end.saturating_sub(size as u64));
    }

    /// Forgets everything written so far.
    pub fn clear(&mut self) {
        self.start = self.end;
    }

    /// Returns the position of the oldest byte still there.
    pub const fn oldest(&self) -> u64 {
        self.start
    }

    /// Returns the position after the newest byte.
    pub const fn newest(&self) -> u64 {
        self.end
    }

    /// Copies bytes from `position` on; returns how many, and the position they really start at.
    pub fn read(&self, position: u64, out: &mut [u8]) -> (usize, u64) {
        let from = position.clamp(self.start, self.end);
        let mut count = 0;
        for (slot, at) in out.iter_mut().zip(from..self.end) {
            let place = crate::addr::to_index(at) & (self.bytes.len() - 1);
            *slot = self.bytes.get(place).copied().unwrap_or(b' ');
            count += 1;
        }
        (count, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_stay_and_the_oldest_go() {
        let mut ring = ConsoleRing::new(8);
        ring.write(b"0123456789");
        let mut out = [0; 16];
        assert_eq!(ring.read(0, &mut out), (8, 2));
        assert_eq!(&out[..8], b"23456789");
        assert_eq!(ring.read(9, &mut out), (1, 9));
        assert_eq!(ring.read(99, &mut out), (0, 10));
    }

    #[test]
    fn clearing_leaves_only_what_comes_after() {
        let mut ring = ConsoleRing::new(8);
        ring.write(b"abc");
        ring.clear();
        ring.write(b"d");
        let mut out = [0; 8];
        assert_eq!(ring.read(0, &mut out), (1, 3));
        assert_eq!(out[0], b'd');
    }
}
