//! What the loader brought for Dom0: kernel, ramdisk, command lines.
//!
//! They come either as modules that the device tree names, as U-Boot, GRUB and QEMU's `guest-loader`
//! leave them, or as a boot bundle in place of a ramdisk. What is not what it should be is refused.

use crate::host_tree::{HostTree, ModuleKind};
use crate::region::Region;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use hv_core::boot_bundle::{self, BundleError};

/// A Linux kernel image for arm64 (`Documentation/arch/arm64/booting.rst`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kernel<'a> {
    /// The image.
    pub bytes: &'a [u8],
    /// How far from a 2 MiB boundary it wants to be.
    pub text_offset: u64,
    /// Bytes it takes up once it runs.
    pub memory_size: u64,
}

/// What there is for Dom0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootModules<'a> {
    /// Its kernel.
    pub kernel: Kernel<'a>,
    /// Its ramdisk.
    pub ramdisk: Option<&'a [u8]>,
    /// Its command line, if one came with it.
    pub dom0_command_line: Option<String>,
    /// Options for the hypervisor that came with it.
    pub command_line: String,
}

/// Why there is nothing to start as Dom0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ModuleError {
    /// There are neither modules nor a bundle.
    None,
    /// There are modules, but none is a kernel.
    NoKernel,
    /// A module is not where the loader says.
    Unreachable(Region),
    /// The bundle is broken.
    Bundle(BundleError),
    /// The kernel is no arm64 image.
    NotAnImage,
    /// The kernel is big-endian.
    BigEndian,
    /// The kernel is compressed.
    Compressed,
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(
                "the loader brought no Dom0: neither modules in the device tree nor a boot bundle",
            ),
            Self::NoKernel => f.write_str("none of the loader's modules is a kernel for Dom0"),
            Self::Unreachable(region) => {
                write!(f, "the module at {region:?} is not in free memory")
            }
            Self::Bundle(error) => error.fmt(f),
            Self::NotAnImage => f.write_str("Dom0's kernel is not an arm64 Linux image"),
            Self::BigEndian => f.write_str("Dom0's kernel is big-endian"),
            Self::Compressed => {
                f.write_str("Dom0's kernel is compressed: unpack it (gunzip) and try again")
            }
        }
    }
}

/// Returns where the modules are, so that their memory can be kept until they are used.
pub fn regions(tree: &HostTree) -> Vec<Region> {
    if tree.chosen.modules.is_empty() {
        return tree.chosen.initrd.into_iter().collect();
    }
    tree.chosen.modules.iter().map(|module| module.region).collect()
}

/// Finds what there is for Dom0; `bytes` gives the memory of one of [`regions`].
pub fn find<'a>(
    tree: &HostTree,
    bytes: impl Fn(Region) -> Option<&'a [u8]>,
) -> Result<BootModules<'a>, ModuleError> {
    let reach = |region| bytes(region).ok_or(ModuleError::Unreachable(region));
    let modules = &tree.chosen.modules;
    if modules.is_empty() {
        let region = tree.chosen.initrd.ok_or(ModuleError::None)?;
        return from_bundle(reach(region)?);
    }
    // A loader that does not say what is what names the kernel first.
    let kernel = modules
        .iter()
        .find(|module| module.kind == ModuleKind::Kernel)
        .or_else(|| modules.iter().find(|module| module.kind == ModuleKind::Unknown))
        .ok_or(ModuleError::NoKernel)?;
    let ramdisk = modules
        .iter()
        .find(|module| module.kind == ModuleKind::Ramdisk)
        .or_else(|| {
            let mut unknown = modules.iter().filter(|one| one.kind == ModuleKind::Unknown);
            unknown.find(|module| *module != kernel)
        })
        .map(|module| reach(module.region))
        .transpose()?;
    Ok(BootModules {
        kernel: Kernel::check(reach(kernel.region)?)?,
        ramdisk,
        dom0_command_line: kernel.bootargs.clone(),
        command_line: String::new(),
    })
}

fn from_bundle(archive: &[u8]) -> Result<BootModules<'_>, ModuleError> {
    let bundle = boot_bundle::read(archive).map_err(ModuleError::Bundle)?;
    Ok(BootModules {
        kernel: Kernel::check(bundle.kernel)?,
        ramdisk: bundle.ramdisk,
        dom0_command_line: Some(bundle.manifest.dom0_command_line.to_string()),
        command_line: bundle.manifest.command_line.to_string(),
    })
}

impl<'a> Kernel<'a> {
    /// Takes an image whose header is what it should be.
    pub fn check(bytes: &'a [u8]) -> Result<Self, ModuleError> {
        const MAGIC: &[u8] = b"ARM\x64";
        const MAGIC_AT: usize = 56;
        const BIG_ENDIAN: u64 = 1;
        const GZIP: &[u8] = &[0x1f, 0x8b];
        if bytes.starts_with(GZIP) {
            return Err(ModuleError::Compressed);
        }
        if bytes.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) != Some(MAGIC) {
            return Err(ModuleError::NotAnImage);
        }
        let word = |at: usize| {
            let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
            u64::from_le_bytes(word.unwrap_or_default())
        };
        let (text_offset, image_size, flags) = (word(8), word(16), word(24));
        if flags & BIG_ENDIAN != 0 {
            return Err(ModuleError::BigEndian);
        }
        Ok(Self { bytes, text_offset, memory_size: image_size.max(bytes.len() as u64) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text_offset: u64, size: u64, flags: u64) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&size.to_le_bytes());
        bytes[24..32].copy_from_slice(&flags.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn an_image_says_what_it_needs() {
        let bytes = image(0x8_0000, 0x200_0000, 0xa);
        let kernel = Kernel::check(&bytes).unwrap();
        assert_eq!((kernel.text_offset, kernel.memory_size), (0x8_0000, 0x200_0000));
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        assert_eq!(Kernel::check(&[0; 64]), Err(ModuleError::NotAnImage));
        assert_eq!(Kernel::check(&[0x1f, 0x8b, 8]), Err(ModuleError::Compressed));
        assert_eq!(Kernel::check(&image(0, 0, 1)), Err(ModuleError::BigEndian));
        assert_eq!(Kernel::check(&image(0, 0, 0)[..40]), Err(ModuleError::NotAnImage));
    }

    #[test]
    fn a_bundle_brings_both_command_lines() {
        let archive = boot_bundle::write("dom0_mem=1G", "quiet", &image(0, 0, 0), Some(b"disk"));
        let modules = from_bundle(&archive).unwrap();
        assert_eq!(modules.ramdisk, Some(&b"disk"[..]));
        assert_eq!(modules.command_line, "dom0_mem=1G");
        assert_eq!(modules.dom0_command_line.as_deref(), Some("quiet"));
    }

    const VIRT: &[u8] = include_bytes!("../tests/trees/virt-gicv3.dtb");
    const SOC: &[u8] = include_bytes!("../tests/trees/soc.dtb");

    #[test]
    fn modules_of_the_loader_are_found_by_their_kind() {
        let tree = HostTree::parse(VIRT).unwrap();
        let kernel = image(0, 0x20_0000, 0);
        let bytes = |region: Region| match region.base.raw() {
            0x4900_0000 => Some(kernel.as_slice()),
            0x5400_0000 => Some(b"disk".as_slice()),
            _ => None,
        };
        let modules = find(&tree, bytes).unwrap();
        assert_eq!(modules.kernel.memory_size, 0x20_0000);
        assert_eq!(modules.ramdisk, Some(b"disk".as_slice()));
        assert_eq!(modules.dom0_command_line.as_deref(), Some("console=hvc0 quiet"));
        assert_eq!(regions(&tree).len(), 2);
        let nowhere = find(&tree, |_| None).unwrap_err();
        assert!(matches!(nowhere, ModuleError::Unreachable(_)));
    }

    #[test]
    fn modules_that_do_not_say_what_they_are_count_in_order() {
        let mut tree = HostTree::parse(VIRT).unwrap();
        tree.chosen.modules.sort_by_key(|module| module.region);
        for module in &mut tree.chosen.modules {
            module.kind = ModuleKind::Unknown;
        }
        let kernel = image(0, 0, 0);
        let modules = find(&tree, |_| Some(kernel.as_slice())).unwrap();
        assert!(modules.ramdisk.is_some());
        assert_eq!(modules.dom0_command_line.as_deref(), Some("console=hvc0 quiet"));
        for module in &mut tree.chosen.modules {
            module.kind = ModuleKind::Other;
        }
        assert_eq!(find(&tree, |_| Some(kernel.as_slice())), Err(ModuleError::NoKernel));
    }

    #[test]
    fn without_modules_the_ramdisk_must_be_a_bundle() {
        let mut tree = HostTree::parse(SOC).unwrap();
        let archive = boot_bundle::write("", "quiet", &image(0, 0, 0), None);
        let modules = find(&tree, |_| Some(archive.as_slice())).unwrap();
        assert_eq!(modules.dom0_command_line.as_deref(), Some("quiet"));
        let error = find(&tree, |_| Some([0x1f; 200].as_slice())).unwrap_err();
        assert_eq!(error.to_string(), "the boot bundle is not a cpio archive");
        tree.chosen.initrd = None;
        assert_eq!(find(&tree, |_| Some(archive.as_slice())), Err(ModuleError::None));
    }
}
