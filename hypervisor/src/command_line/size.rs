//! Amounts of memory, as `dom0_mem=` has them.

use alloc::string::String;

/// So many bytes and so many percent of the machine's memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Amount {
    /// The fixed part: bytes; a negative one is what others keep.
    bytes: i128,
    /// The part that depends on the machine: percent.
    percent: u8,
}

impl Amount {
    /// Returns a fixed amount.
    pub const fn bytes(bytes: u64) -> Self {
        Self { bytes: bytes as i128, percent: 0 }
    }

    /// Returns how many bytes it is on a machine with `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        let whole = if self.bytes < 0 { i128::from(total) } else { 0 };
        let share = i128::from(total) * i128::from(self.percent) / 100;
        let amount = (whole + self.bytes + share).clamp(0, i128::from(total));
        u64::try_from(amount).unwrap_or(total)
    }

    /// Takes `size`, `size+percent%` or `percent%`; a minus sign before the size: all but that.
    fn parse(text: &str) -> Result<Self, String> {
        let (fixed, percent) = match text.strip_suffix('%') {
            None => (text, 0),
            Some(text) => {
                let (fixed, percent) = text.rsplit_once('+').unwrap_or(("0", text));
                let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                (fixed, percent.ok_or("has a percentage that is none")?)
            }
        };
        let (negative, fixed) = match fixed.strip_prefix('-') {
            Some(fixed) => (true, fixed),
            None => (false, fixed),
        };
        let fixed = i128::from(bytes(fixed)?);
        Ok(Self { bytes: if negative { -fixed } else { fixed }, percent })
    }
}

/// `dom0_mem=[min:amount,][max:amount,][amount]`, in any order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dom0Memory {
    /// What Dom0 gets.
    pub size: Option<Amount>,
    /// It gets no less.
    pub min: Option<Amount>,
    /// It gets no more.
    pub max: Option<Amount>,
}

impl Dom0Memory {
    /// What Dom0 gets if nothing else is said, as with Xen on Arm.
    const DEFAULT: u64 = 512 << 20;

    /// Returns how many bytes Dom0 gets on a machine with `total` bytes.
    pub fn of(&self, total: u64) -> u64 {
        let wanted = self.size.or(self.max).unwrap_or(Amount::bytes(Self::DEFAULT)).of(total);
        let least = self.min.map_or(0, |min| min.of(total));
        let most = self.max.map_or(u64::MAX, |max| max.of(total));
        wanted.max(least).min(most)
    }

    /// Takes the option's value.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut memory = Self::default();
        for part in text.split(',') {
            if let Some(amount) = part.strip_prefix("min:") {
                memory.min = Some(Amount::parse(amount)?);
            } else if let Some(amount) = part.strip_prefix("max:") {
                memory.max = Some(Amount::parse(amount)?);
            } else {
                memory.size = Some(Amount::parse(part)?);
            }
        }
        Ok(memory)
    }
}

/// Takes a number with one of the letters B, K, M, G, T after it; without one it counts KiB.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const WRONG: &str = "needs a size, such as 512M or 2G";
    let (digits, shift) = match text.char_indices().last() {
        Some((at, letter)) if letter.is_ascii_alphabetic() && !text.starts_with("0x") => {
            let shift = match letter.to_ascii_uppercase() {
                'B' => 0,
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                _ => return Err(WRONG.into()),
            };
            (text.get(..at).unwrap_or_default(), shift)
        }
        _ => (text, 10),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse::<u64>(),
    };
    number.ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(|| WRONG.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn given(text: &str, total: u64) -> u64 {
        Dom0Memory::parse(text).unwrap().of(total)
    }

    #[test]
    fn units_are_powers_of_1024_and_kib_is_the_default() {
        assert_eq!(bytes("12"), Ok(12 << 10));
        assert_eq!(bytes("12b"), Ok(12));
        assert_eq!(bytes("3M"), Ok(3 << 20));
        assert_eq!(bytes("1t"), Ok(1 << 40));
        assert_eq!(bytes("0x400"), Ok(1 << 20));
        for wrong in ["", "M", "1.5G", "-1G", "G1", "18446744073709551615K", "é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dom0_gets_512_mib_unless_told_otherwise() {
        assert_eq!(Dom0Memory::default().of(4 * GIB), 512 << 20);
        assert_eq!(given("max:1G", 4 * GIB), GIB);
    }

    #[test]
    fn limits_hold_in_any_order() {
        assert_eq!(given("1G,max:2G", 4 * GIB), GIB);
        assert_eq!(given("max:2G,3G", 4 * GIB), 2 * GIB);
        assert_eq!(given("min:1G,25%", 2 * GIB), GIB);
        assert_eq!(given("min:1G,512M+50%", 4 * GIB), 2 * GIB + GIB / 2);
        assert_eq!(given("-1G", 4 * GIB), 3 * GIB);
        assert_eq!(given("-8G", 4 * GIB), 0);
        assert_eq!(given("8G", 4 * GIB), 4 * GIB);
    }

    #[test]
    fn a_percentage_above_100_is_none() {
        assert!(Dom0Memory::parse("101%").is_err());
        assert!(Dom0Memory::parse("1G+x%").is_err());
    }
}
