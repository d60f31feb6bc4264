//! A disk as libraries for file systems want it.

use super::{Disk, DiskError, SECTOR};
use alloc::vec::Vec;

#[cfg(feature = "embedded-sdmmc")]
impl embedded_sdmmc::BlockDevice for Disk {
    type Error = DiskError;

    fn read(
        &self,
        blocks: &mut [embedded_sdmmc::Block],
        start: embedded_sdmmc::BlockIdx,
    ) -> Result<(), DiskError> {
        let mut bytes = alloc::vec![0; blocks.len() * SECTOR];
        Self::read(self, start.0.into(), &mut bytes)?;
        for (block, bytes) in blocks.iter_mut().zip(bytes.chunks_exact(SECTOR)) {
            block.contents.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn write(
        &self,
        blocks: &[embedded_sdmmc::Block],
        start: embedded_sdmmc::BlockIdx,
    ) -> Result<(), DiskError> {
        let bytes: Vec<u8> = blocks.iter().flat_map(|block| block.contents).collect();
        Self::write(self, start.0.into(), &bytes)
    }

    fn num_blocks(&self) -> Result<embedded_sdmmc::BlockCount, DiskError> {
        // FAT has no more than 2³² sectors.
        Ok(embedded_sdmmc::BlockCount(u32::try_from(self.sectors()).unwrap_or(u32::MAX)))
    }
}

/// A disk's bytes from an offset on, such as a partition's, as `ext4-view` reads them.
#[cfg(feature = "ext4-view")]
pub struct Bytes {
    disk: alloc::sync::Arc<Disk>,
    start: u64,
}

#[cfg(feature = "ext4-view")]
impl Bytes {
    /// Names the bytes of a disk from byte `start` on.
    pub fn new(disk: alloc::sync::Arc<Disk>, start: u64) -> Self {
        Self { disk, start }
    }
}

#[cfg(feature = "ext4-view")]
impl ext4_view::Ext4Read for Bytes {
    fn read(
        &mut self,
        start: u64,
        to: &mut [u8],
    ) -> Result<(), alloc::boxed::Box<dyn core::error::Error + Send + Sync + 'static>> {
        let sector_size = SECTOR as u64;
        let start = self.start.checked_add(start).ok_or(DiskError::Range)?;
        let skip = usize::try_from(start % sector_size).unwrap_or(0);
        let len = (skip + to.len()).next_multiple_of(SECTOR);
        let mut bytes = alloc::vec![0; len];
        self.disk.read(start / sector_size, &mut bytes)?;
        let wanted = bytes.get(skip..skip + to.len()).ok_or(DiskError::Range)?;
        to.copy_from_slice(wanted);
        Ok(())
    }
}
