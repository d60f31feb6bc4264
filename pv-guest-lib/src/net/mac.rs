//! Ethernet addresses as the store has them.

use core::fmt;
use core::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

/// The text is no Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMac;

impl FromStr for Mac {
    type Err = NoMac;

    /// Reads `00:16:3e:01:02:03`.
    fn from_str(text: &str) -> Result<Self, NoMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(NoMac)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoMac)?;
        }
        if parts.next().is_some() { Err(NoMac) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        let mac: Mac = "00:16:3e:Ab:cd:0f".parse().unwrap();
        assert_eq!(mac, Mac([0, 0x16, 0x3e, 0xab, 0xcd, 0x0f]));
        assert_eq!(mac.to_string(), "00:16:3e:ab:cd:0f");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "00",
            "00:16:3e:01:02",
            "00:16:3e:01:02:03:04",
            "0:16:3e:1:2:3",
            "00:16:3e:01:02:zz",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NoMac), "{text}");
        }
    }
}
