//! A network interface's specification of xl-network-configuration(5): text → [`Vif`].

use std::fmt;

use super::reader::{Bad, parts};

/// One virtual network interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Vif {
    /// Address of the guest's side; one in Xen's range is picked where nothing is said.
    pub mac: Option<Mac>,
    /// Bridge that the backend's side joins.
    pub bridge: Option<String>,
    /// Interface that a routing script routes through.
    pub gateway: Option<String>,
    /// Name of the backend's side, instead of `vifDOMID.DEVID`.
    pub name: Option<String>,
    /// Program that sets the backend's side up.
    pub script: Option<String>,
    /// Address for the script's rules.
    pub ip: Option<String>,
    /// Domain whose kernel serves the interface.
    pub backend: Option<String>,
    /// Limit of what the guest sends.
    pub rate: Option<Rate>,
    /// Index, instead of the place in the list.
    pub devid: Option<u32>,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// Whether the guest is told not to trust its backend.
    pub untrusted: bool,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mac(pub [u8; 6]);

/// A rate limit, as the backend takes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Credit given each interval, in bytes.
    pub bytes: u64,
    /// Length of the interval in microseconds.
    pub interval: u32,
}

impl Vif {
    /// Parses a specification; an error tells the bytes that are wrong.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        let mut vif = Self::default();
        for (part, span) in parts(text) {
            let bad = |what: String, expected: &str| Bad::new(what, expected, span.clone());
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
            match key.trim() {
                "" | "type" | "model" | "accel" if value.is_empty() || key.trim() != "" => {}
                "trusted" => vif.untrusted = value == "0",
                "untrusted" => vif.untrusted = true,
                "bridge" => vif.bridge = text(),
                "gatewaydev" | "netdev" => vif.gateway = text(),
                "vifname" => vif.name = text(),
                "script" => vif.script = text(),
                "ip" => vif.ip = text(),
                "backend" => vif.backend = text(),
                "mac" => {
                    vif.mac = Some(Mac::parse(value).ok_or_else(|| {
                        bad(format!("`{value}` is not a MAC address"), "expected 00:16:3e:xx:xx:xx")
                    })?);
                }
                "rate" => {
                    vif.rate = Some(Rate::parse(value).ok_or_else(|| {
                        bad(
                            format!("`{value}` is not a rate"),
                            "expected a rate as in 10Mb/s or 1MB/s@20ms",
                        )
                    })?);
                }
                key @ ("devid" | "mtu") => {
                    let number = value.parse().map_err(|_not_a_number| {
                        bad(format!("`{value}` is not a number"), "expected a number")
                    })?;
                    *(if key == "mtu" { &mut vif.mtu } else { &mut vif.devid }) = Some(number);
                }
                key => {
                    return Err(bad(
                        format!("unknown vif parameter `{key}`"),
                        "expected mac, bridge, gatewaydev, vifname, script, ip, backend, rate, devid, \
                         mtu, type, model, trusted or untrusted",
                    ));
                }
            }
        }
        Ok(vif)
    }
}

impl Mac {
    /// Parses six hexadecimal bytes with colons between.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }

    /// An address in Xen's own range, told apart by `random`.
    pub const fn in_xen_range(random: [u8; 3]) -> Self {
        let [a, b, c] = random;
        Self([0x00, 0x16, 0x3e, a & 0x7f, b, c])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Rate {
    /// What the credit is for where no interval is given.
    const DEFAULT_INTERVAL: u32 = 50_000;

    fn parse(text: &str) -> Option<Self> {
        let (rate, interval) = match text.split_once('@') {
            Some((rate, interval)) => (rate, microseconds(interval)?),
            None => (text, Self::DEFAULT_INTERVAL),
        };
        let rate = rate.strip_suffix("/s")?;
        let (number, unit) = rate.split_at_checked(rate.find(|c: char| !c.is_ascii_digit())?)?;
        let number: u64 = number.parse().ok()?;
        let scale: u64 = match unit.trim_end_matches(['b', 'B']) {
            "" => 1,
            "K" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            _ => return None,
        };
        let per_second = match unit.chars().last()? {
            'B' => number.checked_mul(scale)?,
            'b' => number.checked_mul(scale)? / 8,
            _ => return None,
        };
        let bytes = per_second.checked_mul(u64::from(interval))? / 1_000_000;
        (interval > 0).then_some(Self { bytes, interval })
    }
}

fn microseconds(text: &str) -> Option<u32> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let scale = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_understood_and_none_is_needed() {
        assert_eq!(Vif::parse("").unwrap(), Vif::default());
        let vif = Vif::parse(
            "mac=00:16:3E:74:3d:76, bridge=br0 ,script=/s,ip=10.0.0.2,vifname=web,backend=net,\
             rate=1MB/s@20ms,type=vif,model=e1000,devid=3,mtu=9000,gatewaydev=eth0,untrusted",
        )
        .unwrap();
        assert_eq!(vif.mac.unwrap().to_string(), "00:16:3e:74:3d:76");
        assert_eq!(vif.bridge.as_deref(), Some("br0"));
        assert_eq!(vif.rate, Some(Rate { bytes: 20_000, interval: 20_000 }));
        assert_eq!((vif.devid, vif.mtu, vif.untrusted), (Some(3), Some(9000), true));
        assert_eq!((vif.name.as_deref(), vif.gateway.as_deref()), (Some("web"), Some("eth0")));
    }

    #[test]
    fn the_manual_s_rates_are_what_the_manual_says() {
        assert_eq!(Rate::parse("10Mb/s"), Some(Rate { bytes: 62_500, interval: 50_000 }));
        assert_eq!(Rate::parse("250KB/s"), Some(Rate { bytes: 12_500, interval: 50_000 }));
        for wrong in ["", "10", "10Mb", "Mb/s", "10MB/s@5", "10Mx/s", "1GB/s@0s"] {
            assert_eq!(Rate::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_error_points_at_the_wrong_parameter() {
        for (text, part) in
            [("mac=00:16:3e, bridge=b", "mac=00:16:3e"), ("bridge=b,  colour=red", "colour=red")]
        {
            assert_eq!(&text[Vif::parse(text).unwrap_err().span], part);
        }
        assert!(Vif::parse("mtu=big").is_err());
    }
}
