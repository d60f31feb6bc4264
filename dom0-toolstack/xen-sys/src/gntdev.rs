//! `/dev/xen/gntdev`: memory that other domains granted us.

use std::fs::{File, OpenOptions};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::{DomId, GrantRef, Port};
use crate::pages::SharedPages;
use crate::privcmd::errno_of;
use crate::{PAGE_SIZE, ioctl};

const GNTDEV: &str = "/dev/xen/gntdev";

/// An open `/dev/xen/gntdev`.
#[derive(Debug)]
pub struct GrantDevice {
    device: Arc<File>,
}

/// One granted page, mapped for reading and writing; given back on drop.
#[derive(Debug)]
pub struct GrantMapping {
    /// Dropped before the kernel is told to give the grant back.
    pages: Option<SharedPages>,
    device: Arc<File>,
    index: u64,
}

impl GrantDevice {
    /// Opens the device.
    pub fn open() -> Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(GNTDEV)
            .map_err(|error| Error::Open { path: GNTDEV, errno: errno_of(&error) })?;
        Ok(Self { device: Arc::new(device) })
    }

    /// Maps the page that `domain` granted as `reference`.
    pub fn map(&self, domain: DomId, reference: GrantRef) -> Result<GrantMapping> {
        /// `struct ioctl_gntdev_map_grant_ref` (`linux/xen/gntdev.h`) for one reference.
        #[repr(C)]
        struct MapGrantRef {
            count: u32,
            pad: u32,
            index: u64,
            domid: u32,
            reference: u32,
        }
        let failed = |errno| Error::Device { operation: "map a grant", errno };
        let mut request = MapGrantRef {
            count: 1,
            pad: 0,
            index: 0,
            domid: u32::from(domain.0),
            reference: reference.0,
        };
        let opcode = ioctl::number::<MapGrantRef>(b'G', 0);
        // SAFETY: the opcode takes this structure, which holds no address.
        unsafe { ioctl::issue(&*self.device, opcode, &mut request) }.map_err(failed)?;
        let mut mapping =
            GrantMapping { pages: None, device: Arc::clone(&self.device), index: request.index };
        let pages = SharedPages::map(&*self.device, request.index, PAGE_SIZE, true);
        mapping.pages = Some(pages.map_err(failed)?);
        Ok(mapping)
    }
}

impl GrantMapping {
    /// The mapped page.
    pub fn page(&self) -> &SharedPages {
        self.pages.as_ref().expect("set by `map`, taken only by drop")
    }

    /// Asks that, when this mapping goes away however it does, the byte at `offset` becomes 0 and, if
    /// given, `port` is notified: how a dead daemon is told from a slow one.
    pub fn on_unmap(&self, offset: u64, port: Option<Port>) -> Result<()> {
        /// `struct ioctl_gntdev_unmap_notify` (`linux/xen/gntdev.h`).
        #[repr(C)]
        struct UnmapNotify {
            index: u64,
            action: u32,
            event_channel_port: u32,
        }
        const CLEAR_BYTE: u32 = 1;
        const SEND_EVENT: u32 = 2;
        let action = CLEAR_BYTE | if port.is_some() { SEND_EVENT } else { 0 };
        let mut request = UnmapNotify {
            index: self.index + offset,
            action,
            event_channel_port: port.map_or(0, |port| port.0),
        };
        let opcode = ioctl::number::<UnmapNotify>(b'G', 7);
        // SAFETY: the opcode takes this structure, which holds no address.
        let answer = unsafe { ioctl::issue(&*self.device, opcode, &mut request) };
        answer
            .map(drop)
            .map_err(|errno| Error::Device { operation: "ask for a notification on unmap", errno })
    }
}

impl core::ops::Deref for GrantMapping {
    type Target = SharedPages;

    fn deref(&self) -> &SharedPages {
        self.page()
    }
}

impl Drop for GrantMapping {
    fn drop(&mut self) {
        /// `struct ioctl_gntdev_unmap_grant_ref` (`linux/xen/gntdev.h`).
        #[repr(C)]
        struct UnmapGrantRef {
            index: u64,
            count: u32,
            pad: u32,
        }
        drop(self.pages.take());
        let mut request = UnmapGrantRef { index: self.index, count: 1, pad: 0 };
        let opcode = ioctl::number::<UnmapGrantRef>(b'G', 1);
        // SAFETY: the opcode takes this structure, which holds no address; our mapping of it is gone.
        let answer = unsafe { ioctl::issue(&*self.device, opcode, &mut request) };
        debug_assert!(answer.is_ok(), "a grant of ours could not be given back");
    }
}
