//! Block devices: the front half, which uses a disk, and the back half, which is one (`public/io/blkif.h`).
//!
//! ```ignore
//! let disk = block::Disk::open(block::Disk::list()?[0], block::Options::default())?;
//! let mut sector = [0; 512];
//! disk.read(0, &mut sector)?;
//! ```

pub mod request;

#[cfg(target_os = "none")]
pub mod back;
#[cfg(target_os = "none")]
mod disk;
#[cfg(target_os = "none")]
mod front;
#[cfg(all(target_os = "none", any(feature = "embedded-sdmmc", feature = "ext4-view")))]
mod volume;

#[cfg(target_os = "none")]
pub use disk::{Disk, DiskError};
#[cfg(target_os = "none")]
pub use front::{Info, Options};
#[cfg(all(target_os = "none", feature = "ext4-view"))]
pub use volume::Bytes;

/// Bytes of a sector, which all addresses and lengths are counted in.
pub const SECTOR: usize = 512;
