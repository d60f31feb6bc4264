//! The boot bundle: Dom0's kernel, ramdisk and command lines in one file, for loaders that know only
//! how to pass a ramdisk (`qemu -initrd`, the Raspberry Pi's firmware).
//!
//! It is a cpio archive in the "newc" format, whose first member is a [`Manifest`] encoded by
//! `postcard` behind a version number. Any cpio program can list or unpack it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Name of the member that holds the manifest.
pub const MANIFEST_NAME: &str = "domus/manifest";
/// Version of the manifest's encoding, in its first byte.
const VERSION: u8 = 1;

const MAGIC: &[u8] = b"070701";
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
/// Where the size of the data and the length of the name stand in a header, as eight hex digits.
const SIZE_AT: usize = 54;
const NAME_LEN_AT: usize = 94;

/// What is in the bundle and how it is to be used.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Manifest {
    /// Options for the hypervisor, before those the loader passes.
    pub command_line: String,
    /// Dom0's command line.
    pub dom0_command_line: String,
    /// Name of the member that is Dom0's kernel.
    pub kernel: String,
    /// Name of the member that is Dom0's ramdisk.
    pub ramdisk: Option<String>,
}

/// A bundle that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle<'a> {
    /// Its manifest.
    pub manifest: Manifest,
    /// Dom0's kernel.
    pub kernel: &'a [u8],
    /// Dom0's ramdisk.
    pub ramdisk: Option<&'a [u8]>,
}

/// Why a bundle cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BundleError {
    /// It is no newc archive, or a member's header is broken.
    NotAnArchive,
    /// It ends before a member does.
    Truncated,
    /// It does not start with a manifest: it is some other ramdisk.
    NoManifest,
    /// The manifest is of a version that is not known here.
    Version(u8),
    /// The manifest cannot be decoded.
    BadManifest,
    /// A member that the manifest names is not there.
    MissingMember,
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnArchive => f.write_str("the boot bundle is not a cpio archive"),
            Self::Truncated => f.write_str("the boot bundle is cut short"),
            Self::NoManifest => f.write_str("the ramdisk is not a boot bundle: it has no manifest"),
            Self::Version(version) => {
                write!(f, "the boot bundle's manifest has version {version}, not {VERSION}")
            }
            Self::BadManifest => f.write_str("the boot bundle's manifest is broken"),
            Self::MissingMember => {
                f.write_str("the boot bundle lacks a file that its manifest names")
            }
        }
    }
}

/// Reads the bundle in `archive`; bytes after the archive's end do no harm.
pub fn read(archive: &[u8]) -> Result<Bundle<'_>, BundleError> {
    let mut members = Members { rest: archive };
    let (name, bytes) = members.next_member()?.ok_or(BundleError::NoManifest)?;
    if name != MANIFEST_NAME.as_bytes() {
        return Err(BundleError::NoManifest);
    }
    let (version, encoded) = bytes.split_first().ok_or(BundleError::BadManifest)?;
    if *version != VERSION {
        return Err(BundleError::Version(*version));
    }
    let manifest: Manifest = postcard::from_bytes(encoded).map_err(|_| BundleError::BadManifest)?;
    let (mut kernel, mut ramdisk) = (None, None);
    while let Some((name, bytes)) = members.next_member()? {
        if name == manifest.kernel.as_bytes() {
            kernel = Some(bytes);
        }
        if manifest.ramdisk.as_ref().is_some_and(|wanted| name == wanted.as_bytes()) {
            ramdisk = Some(bytes);
        }
    }
    let kernel = kernel.ok_or(BundleError::MissingMember)?;
    if manifest.ramdisk.is_some() && ramdisk.is_none() {
        return Err(BundleError::MissingMember);
    }
    Ok(Bundle { manifest, kernel, ramdisk })
}

/// Writes a bundle.
pub fn write(
    command_line: &str,
    dom0_command_line: &str,
    kernel: &[u8],
    ramdisk: Option<&[u8]>,
) -> Vec<u8> {
    const KERNEL: &str = "kernel";
    const RAMDISK: &str = "ramdisk";
    let manifest = Manifest {
        command_line: command_line.into(),
        dom0_command_line: dom0_command_line.into(),
        kernel: KERNEL.into(),
        ramdisk: ramdisk.map(|_| RAMDISK.into()),
    };
    let mut encoded = alloc::vec![VERSION];
    encoded.extend(postcard::to_allocvec(&manifest).expect("strings can always be encoded"));
    let mut archive = Vec::new();
    append(&mut archive, MANIFEST_NAME, &encoded);
    append(&mut archive, KERNEL, kernel);
    if let Some(ramdisk) = ramdisk {
        append(&mut archive, RAMDISK, ramdisk);
    }
    append(&mut archive, TRAILER, &[]);
    archive
}

/// A member's name and data.
type Member<'a> = (&'a [u8], &'a [u8]);

/// The members of an archive, in order.
struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    /// Returns the next member's name and data; nothing at the end.
    fn next_member(&mut self) -> Result<Option<Member<'a>>, BundleError> {
        let header = self.rest.get(..HEADER).ok_or(BundleError::Truncated)?;
        if !header.starts_with(MAGIC) {
            return Err(BundleError::NotAnArchive);
        }
        let name_len = field(header, NAME_LEN_AT)?;
        let size = field(header, SIZE_AT)?;
        let name_end = HEADER.checked_add(name_len).ok_or(BundleError::Truncated)?;
        let name = self.rest.get(HEADER..name_end).ok_or(BundleError::Truncated)?;
        let start = name_end.next_multiple_of(4);
        let end = start.checked_add(size).ok_or(BundleError::Truncated)?;
        let data = self.rest.get(start..end).ok_or(BundleError::Truncated)?;
        // The padding behind the last member may be missing.
        self.rest = self.rest.get(end.next_multiple_of(4)..).unwrap_or_default();
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        Ok((name != TRAILER.as_bytes()).then_some((name, data)))
    }
}

fn field(header: &[u8], at: usize) -> Result<usize, BundleError> {
    let digits = header.get(at..at + 8).ok_or(BundleError::NotAnArchive)?;
    digits.iter().try_fold(0_usize, |value, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(BundleError::NotAnArchive)?;
        Ok(value << 4 | digit as usize)
    })
}

fn append(archive: &mut Vec<u8>, name: &str, data: &[u8]) {
    use core::fmt::Write;
    const REGULAR_FILE: u32 = 0o10_0644;
    let mut header = String::from("070701");
    let name_len = name.len() + 1;
    // inode, mode, uid, gid, links, time, size, device (2), special device (2), name length, check
    let inode = archive.len();
    for value in [inode, REGULAR_FILE as usize, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name_len, 0] {
        // Writing to a string cannot fail.
        let _ = write!(header, "{value:08x}");
    }
    archive.extend(header.as_bytes());
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let archive = write("dom0_mem=1G", "console=hvc0", b"a kernel", Some(b"a ramdisk!"));
        let bundle = read(&archive).unwrap();
        assert_eq!(bundle.kernel, b"a kernel");
        assert_eq!(bundle.ramdisk, Some(&b"a ramdisk!"[..]));
        assert_eq!(bundle.manifest.command_line, "dom0_mem=1G");
        assert_eq!(bundle.manifest.dom0_command_line, "console=hvc0");
        assert_eq!(read(&write("", "", b"k", None)).unwrap().ramdisk, None);
    }

    #[test]
    fn an_archive_cut_anywhere_is_refused() {
        let archive = write("", "", b"a kernel of some length", Some(b"a ramdisk"));
        for len in 0..archive.len() - 4 {
            assert!(read(&archive[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn another_ramdisk_is_told_from_a_bundle() {
        let mut archive = Vec::new();
        append(&mut archive, "init", b"#!/bin/sh");
        append(&mut archive, TRAILER, &[]);
        assert_eq!(read(&archive), Err(BundleError::NoManifest));
        assert_eq!(read(&[0x1f; 200]), Err(BundleError::NotAnArchive));
    }

    #[test]
    fn a_later_version_is_named() {
        let mut archive = write("", "", b"k", None);
        let at = archive.windows(MANIFEST_NAME.len()).position(|at| at == MANIFEST_NAME.as_bytes());
        let data = (at.unwrap() + MANIFEST_NAME.len() + 1).next_multiple_of(4);
        archive[data] = 9;
        assert_eq!(read(&archive), Err(BundleError::Version(9)));
    }

    #[test]
    fn a_changed_byte_does_no_harm() {
        let original = write("", "", b"k", Some(b"r"));
        let mut refused = 0;
        for at in 0..original.len() {
            for value in [0, b'0', b'f', 0xff] {
                let mut archive = original.clone();
                archive[at] = value;
                refused += u32::from(read(&archive).is_err());
            }
        }
        assert!(refused > 0);
    }
}
