//! Which device frames a domain may have mapped (`XEN_DOMCTL_iomem_permission`).

use alloc::vec::Vec;
use core::ops::Range;

/// A set of machine frames that are devices', as ranges in ascending order with gaps between them.
#[derive(Clone, Debug, Default)]
pub struct Devices(Vec<Range<u64>>);

impl Devices {
    /// Adds frames.
    pub fn allow(&mut self, frames: Range<u64>) {
        let mut joined = frames;
        self.0.retain(|range| {
            let touches = range.start <= joined.end && joined.start <= range.end;
            if touches {
                joined = range.start.min(joined.start)..range.end.max(joined.end);
            }
            !touches
        });
        let place = self.0.partition_point(|range| range.start < joined.start);
        self.0.insert(place, joined);
    }

    /// Takes frames out.
    pub fn deny(&mut self, frames: Range<u64>) {
        let keep = |range: Range<u64>| {
            let before = range.start..range.end.min(frames.start);
            let after = range.start.max(frames.end)..range.end;
            [before, after].into_iter().filter(|part| !part.is_empty())
        };
        self.0 = self.0.drain(..).flat_map(keep).collect();
    }

    /// Says whether all of `frames` are in it.
    pub fn allows(&self, frames: Range<u64>) -> bool {
        frames.is_empty()
            || self.0.iter().any(|range| range.start <= frames.start && frames.end <= range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_in_pieces_is_allowed_as_a_whole() {
        let mut devices = Devices::default();
        devices.allow(10..12);
        devices.allow(14..16);
        devices.allow(12..14);
        assert!(devices.allows(10..16));
        assert!(!devices.allows(9..11));
    }

    #[test]
    fn what_is_taken_out_of_the_middle_leaves_both_ends() {
        let mut devices = Devices::default();
        devices.allow(0..10);
        devices.deny(4..6);
        assert!(devices.allows(0..4) && devices.allows(6..10));
        assert!(!devices.allows(3..5));
    }
}
