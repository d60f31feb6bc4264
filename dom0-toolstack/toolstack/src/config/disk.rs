//! A disk specification of xl-disk-configuration(5): text → [`Disk`].

use super::reader::Bad;

/// One virtual disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disk {
    /// Block device or image file in the backend domain, or what `script` makes of it. Empty for an empty drive.
    pub target: String,
    /// How the image is encoded.
    pub format: Format,
    /// The name as written, `xvda`.
    pub vdev: String,
    /// What that name is as a number (xen-vbd-interface(7)).
    pub devid: u32,
    /// Whether the guest may only read.
    pub readonly: bool,
    /// Whether others may use the device at the same time: access ending in `!`.
    pub shared: bool,
    /// Whether it is a removable drive.
    pub cdrom: bool,
    /// Domain whose kernel serves the disk, by name or number; Dom0 where nothing is said.
    pub backend: Option<String>,
    /// Program that makes a block device of the target, `block-…` in `/etc/xen/scripts` or a path.
    pub script: Option<String>,
    /// Whether the guest is told that it may discard, where said.
    pub discard: Option<bool>,
    /// Whether the backend may bypass the page cache although the target is a file.
    pub direct_io_safe: bool,
    /// Whether the guest is told to trust its backend.
    pub trusted: bool,
}

/// Encodings of image files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// The bytes themselves.
    Raw,
    /// A format that needs a device model to serve it; we have none.
    NeedsDeviceModel(&'static str),
}

impl Format {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "raw" => Some(Self::Raw),
            "qcow" => Some(Self::NeedsDeviceModel("qcow")),
            "qcow2" => Some(Self::NeedsDeviceModel("qcow2")),
            "qed" => Some(Self::NeedsDeviceModel("qed")),
            "vhd" => Some(Self::NeedsDeviceModel("vhd")),
            _ => None,
        }
    }
}

/// Prefixes that once chose a backend and now mean nothing.
const IGNORED_PREFIXES: [&str; 7] =
    ["phy:", "file:", "tap:", "tap2:", "tapdisk:", "aio:", "ioemu:"];
/// Prefixes that stand for a script.
const SCRIPT_PREFIXES: [&str; 4] = ["iscsi:", "nbd:", "enbd:", "drbd:"];
/// Prefixes that stand for a format.
const FORMAT_PREFIXES: [&str; 3] = ["raw:", "qcow2:", "vhd:"];

impl Disk {
    /// Parses a specification; an error tells the bytes that are wrong.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        let mut fields = Fields::default();
        let mut position = 0;
        while let Some(rest) = text.get(position..)
            && position <= text.len()
        {
            let lead = rest.len() - rest.trim_start().len();
            let start = position + lead;
            let rest = rest.trim_start();
            if let Some(target) = rest.strip_prefix("target=") {
                // Named, the target is all the rest: the only way to have a comma in it.
                fields.target = Some((target, start + 7));
                break;
            }
            let part = rest.split(',').next().unwrap_or(rest);
            fields.take(part, start)?;
            position = start + part.len() + 1;
        }
        fields.finish(text)
    }

    /// The directory name of this disk in xenstore.
    pub fn devid_text(&self) -> String {
        self.devid.to_string()
    }
}

/// Parameters as they were written, with where each begins.
#[derive(Default)]
struct Fields<'a> {
    target: Option<(&'a str, usize)>,
    format: Option<(&'a str, usize)>,
    vdev: Option<(&'a str, usize)>,
    access: Option<(&'a str, usize)>,
    script: Option<String>,
    backend: Option<String>,
    discard: Option<bool>,
    cdrom: bool,
    direct_io_safe: bool,
    untrusted: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, part: &'a str, start: usize) -> Result<(), Bad> {
        if let Some((key, value)) = part.split_once('=') {
            return self.named(key.trim_end(), value, start, part);
        }
        match part {
            "cdrom" => self.cdrom = true,
            "discard" => self.discard = Some(true),
            "no-discard" => self.discard = Some(false),
            "direct-io-safe" => self.direct_io_safe = true,
            "trusted" => self.untrusted = false,
            "untrusted" => self.untrusted = true,
            _ => self.positional(part, start)?,
        }
        Ok(())
    }

    fn positional(&mut self, part: &'a str, start: usize) -> Result<(), Bad> {
        let slot = if self.target.is_none() {
            &mut self.target
        } else if self.format.is_none() && self.vdev.is_none() && !is_vdev(part) {
            &mut self.format
        } else if self.vdev.is_none() {
            &mut self.vdev
        } else if self.access.is_none() {
            &mut self.access
        } else if part.is_empty() {
            return Ok(());
        } else {
            return Err(Bad::new(
                format!("`{part}` is one parameter too many"),
                "expected at most target, format, vdev and access, then key=value",
                start..start + part.len(),
            ));
        };
        *slot = Some((part, start));
        Ok(())
    }

    fn named(&mut self, key: &str, value: &'a str, start: usize, part: &str) -> Result<(), Bad> {
        let at = start + part.len() - value.len();
        let bad =
            |what: String, expected: &str| Bad::new(what, expected, start..start + part.len());
        let slot = match key {
            "format" => &mut self.format,
            "vdev" => &mut self.vdev,
            "access" => &mut self.access,
            "devtype" => match value {
                "cdrom" => {
                    self.cdrom = true;
                    return Ok(());
                }
                "" | "disk" => return Ok(()),
                _ => return Err(bad(format!("unknown devtype `{value}`"), "expected cdrom")),
            },
            "backend" => {
                self.backend = Some(value.into()).filter(|_| !value.is_empty());
                return Ok(());
            }
            "script" => {
                self.script = Some(value.into());
                return Ok(());
            }
            "backendtype" => match value {
                "" | "phy" => return Ok(()),
                "qdisk" | "tap" | "standalone" => {
                    return Err(bad(
                        format!("backendtype {value} is not supported"),
                        "expected phy: disks are served by the backend domain's kernel",
                    ));
                }
                _ => return Err(bad(format!("unknown backendtype `{value}`"), "expected phy")),
            },
            "specification" => match value {
                "" | "xen" => return Ok(()),
                _ => {
                    return Err(bad(
                        format!("specification {value} is not supported"),
                        "expected xen: disks are PV disks",
                    ));
                }
            },
            _ => {
                return Err(bad(
                    format!("unknown disk parameter `{key}`"),
                    "expected target, format, vdev, access, devtype, backend, backendtype, script, \
                     specification or a flag",
                ));
            }
        };
        if slot.is_some_and(|(value, _)| !value.is_empty()) {
            return Err(bad(format!("`{key}` is given twice"), "expected it once"));
        }
        *slot = Some((value, at));
        Ok(())
    }

    fn finish(mut self, whole: &str) -> Result<Disk, Bad> {
        let (vdev, vdev_at) = self.vdev.unwrap_or(("", whole.len()));
        let (vdev, devtype) = vdev.split_once(':').unwrap_or((vdev, ""));
        if vdev.is_empty() {
            return Err(Bad::new(
                "a disk needs a name in the guest",
                "expected a vdev, as in 'phy:/dev/vg/disk,xvda,w'",
                0..whole.len(),
            ));
        }
        let span = vdev_at..vdev_at + vdev.len();
        let devid = devid(vdev).ok_or_else(|| {
            Bad::new(
                format!("`{vdev}` is not a virtual disk's name"),
                "expected xvda, xvda1, hda, sda or the like",
                span,
            )
        })?;
        self.cdrom |= devtype == "cdrom";
        let mut target = self.target.map_or("", |(target, _)| target);
        let (mut script, mut format) = (self.script, Format::Raw);
        while let Some(colon) = target.find(':')
            && let Some((prefix, rest)) = target.split_at_checked(colon + 1)
        {
            if SCRIPT_PREFIXES.contains(&prefix) {
                script = Some(format!("block-{}", prefix.trim_end_matches(':')));
            } else if FORMAT_PREFIXES.contains(&prefix) {
                format = Format::parse(prefix.trim_end_matches(':')).unwrap_or(Format::Raw);
            } else if !IGNORED_PREFIXES.contains(&prefix) {
                break;
            }
            target = rest;
        }
        if let Some((text, at)) = self.format.filter(|(text, _)| !text.is_empty()) {
            format = Format::parse(text).ok_or_else(|| {
                Bad::new(
                    format!("unknown image format `{text}`"),
                    "expected raw, qcow, qcow2, vhd or qed",
                    at..at + text.len(),
                )
            })?;
        }
        let (access, access_at) = self.access.unwrap_or(("", 0));
        let readonly = match access.trim_end_matches('!') {
            "" => self.cdrom,
            "r" | "ro" => true,
            "w" | "rw" => false,
            _ => {
                return Err(Bad::new(
                    format!("unknown access `{access}`"),
                    "expected r, ro, w or rw",
                    access_at..access_at + access.len(),
                ));
            }
        };
        let target = match target {
            "" if self.cdrom => String::new(),
            "" => {
                return Err(Bad::new(
                    "a disk needs a target",
                    "expected a block device or an image file",
                    0..whole.len(),
                ));
            }
            path if path.starts_with('/') || script.is_some() => path.into(),
            relative => format!("/dev/{relative}"),
        };
        Ok(Disk {
            target,
            format,
            vdev: vdev.into(),
            devid,
            readonly,
            shared: access.ends_with('!'),
            cdrom: self.cdrom,
            backend: self.backend,
            script,
            discard: self.discard,
            direct_io_safe: self.direct_io_safe,
            trusted: !self.untrusted,
        })
    }
}

/// Whether a second positional parameter is a name, as before formats had a place of their own.
fn is_vdev(part: &str) -> bool {
    devid(part.split(':').next().unwrap_or(part)).is_some()
}

/// The number of a virtual disk's name (xen-vbd-interface(7)).
pub fn devid(vdev: &str) -> Option<u32> {
    if let Some(disk_and_partition) = vdev.strip_prefix('d')
        && let Some((disk, partition)) = disk_and_partition.split_once('p')
        && let (Ok(disk), Ok(partition)) = (disk.parse(), partition.parse())
    {
        return xvd(disk, partition);
    }
    if vdev.starts_with(|c: char| c.is_ascii_digit()) {
        return match vdev.strip_prefix("0x") {
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
            None => vdev.parse().ok(),
        };
    }
    let named = |prefix| vdev.strip_prefix(prefix).and_then(disk_and_partition);
    if let Some((disk, partition)) = named("xvd") {
        return xvd(disk, partition);
    }
    if let Some((disk, partition)) = named("hd") {
        let major = [3_u32, 22].get(usize::try_from(disk / 2).ok()?)?;
        return (partition < 64).then_some((major << 8) | ((disk & 1) << 6) | partition);
    }
    let (disk, partition) = named("sd")?;
    (disk < 16 && partition < 16).then_some((8 << 8) | (disk << 4) | partition)
}

fn xvd(disk: u32, partition: u32) -> Option<u32> {
    if disk < 16 && partition < 16 {
        return Some((202 << 8) | (disk << 4) | partition);
    }
    (disk < 1 << 20 && partition < 256).then_some((1 << 28) | (disk << 8) | partition)
}

/// `a1` → (0, 1), `ab` → (27, 0).
fn disk_and_partition(text: &str) -> Option<(u32, u32)> {
    let digits = text.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(text.len());
    let (letters, partition) = text.split_at_checked(digits)?;
    let mut disk = 0_u32;
    for letter in letters.bytes() {
        disk = disk.checked_mul(26)?.checked_add(u32::from(letter - b'a') + 1)?;
    }
    let partition = if partition.is_empty() { 0 } else { partition.parse().ok()? };
    Some((disk.checked_sub(1)?, partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(text: &str) -> Disk {
        Disk::parse(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
    }

    #[test]
    fn the_manual_s_equivalent_forms_are_equivalent() {
        let named = disk("format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume");
        assert_eq!(named.target, "/dev/vg/guest-volume");
        assert_eq!((named.devid, named.readonly, named.cdrom), (0x300, false, false));
        for same in [
            "/dev/vg/guest-volume,,hda",
            "/dev/vg/guest-volume,raw,hda,rw",
            "raw:/dev/vg/guest-volume,hda,w",
            "phy:vg/guest-volume,hda,w",
            "tap:aio:/dev/vg/guest-volume,hda,w",
        ] {
            assert_eq!(disk(same), named, "{same}");
        }
        let image = disk("format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/image.iso");
        for same in [
            "/root/image.iso,,hdc,cdrom",
            "/root/image.iso,,hdc,,cdrom",
            "/root/image.iso,raw,hdc,devtype=cdrom",
            "raw:/root/image.iso,hdc:cdrom,ro",
        ] {
            assert_eq!(disk(same), image, "{same}");
        }
        assert_eq!(image.devid, 22 << 8);
    }

    #[test]
    fn an_empty_drive_has_no_target_and_a_disk_must_have_one() {
        assert_eq!(disk(",hdc:cdrom,r").target, "");
        assert!(Disk::parse(",,xvda").is_err());
    }

    #[test]
    fn a_named_target_takes_all_the_rest() {
        let image = disk("vdev=xvda, discard, target=/srv/a,b: c.img");
        assert_eq!(image.target, "/srv/a,b: c.img");
        assert_eq!(image.discard, Some(true));
    }

    #[test]
    fn flags_and_named_parameters_may_stand_anywhere() {
        let image =
            disk("no-discard,/srv/a.img,direct-io-safe,raw,untrusted,xvdb,r!,backend=storage");
        assert_eq!(
            (image.discard, image.direct_io_safe, image.trusted),
            (Some(false), true, false)
        );
        assert_eq!((image.readonly, image.shared), (true, true));
        assert_eq!(image.backend.as_deref(), Some("storage"));
        assert_eq!(image.vdev, "xvdb");
    }

    #[test]
    fn a_script_keeps_its_target_as_it_is() {
        assert_eq!(disk("drbd:res0,xvda,w").script.as_deref(), Some("block-drbd"));
        assert_eq!(
            disk("script=block-iscsi,vdev=xvda,target=iqn=x,portal=y").target,
            "iqn=x,portal=y"
        );
    }

    #[test]
    fn names_are_numbers() {
        for (name, number) in [
            ("xvda", 0xca00),
            ("xvda1", 0xca01),
            ("xvdp15", 0xcaff),
            ("xvdq", (1 << 28) | (16 << 8)),
            ("xvdaa", (1 << 28) | (26 << 8)),
            ("xvda16", (1 << 28) | 16),
            ("hdb2", 0x342),
            ("hdd", 0x1640),
            ("sdb3", 0x813),
            ("d0p0", 0xca00),
            ("51712", 51712),
            ("0xca10", 0xca10),
        ] {
            assert_eq!(devid(name), Some(number), "{name}");
        }
        for name in ["hde", "sdq", "xvd", "vda", "xvda256", "xvdA", ""] {
            assert_eq!(devid(name), None, "{name}");
        }
    }

    #[test]
    fn an_error_points_at_the_wrong_parameter() {
        for (text, part) in [
            ("/dev/a,raw,nonsense,w", "nonsense"),
            ("/dev/a,zip,xvda,w", "zip"),
            ("/dev/a,raw,xvda,x", "x"),
            ("/dev/a,raw,xvda,w,more", "more"),
            ("/dev/a,,xvda,colour=red", "colour=red"),
            ("/dev/a,,xvda,backendtype=qdisk", "backendtype=qdisk"),
        ] {
            let bad = Disk::parse(text).unwrap_err();
            assert_eq!(&text[bad.span.clone()], part, "{text}: {bad:?}");
        }
    }
}
