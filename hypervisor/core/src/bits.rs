//! The bits of a word, as a set of small numbers.

/// Returns the numbers of the bits set in `word`, lowest first.
pub fn ones(word: impl Into<u64>) -> impl Iterator<Item = u32> {
    let mut rest = word.into();
    core::iter::from_fn(move || {
        let first = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (first < u64::BITS).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_come_lowest_first_and_each_once() {
        assert_eq!(ones(0x8000_0011_u32).collect::<Vec<_>>(), [0, 4, 31]);
        assert_eq!(ones(1_u64 << 63).collect::<Vec<_>>(), [63]);
        assert_eq!(ones(u64::MAX).count(), 64);
        assert_eq!(ones(0_u64).next(), None);
    }
}
