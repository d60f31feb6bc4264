//! `/dev/xen/privcmd`: hypercalls from user space, and mappings of other domains' memory.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::sync::Mutex;

use hypercall_abi::memory::{RESOURCE_GRANT_TABLE, RESOURCE_GRANT_TABLE_SHARED};
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::{Error, Result};
use crate::ids::{DomId, Gfn};
use crate::pages::SharedPages;
use crate::{PAGE_SIZE, ioctl};

const PRIVCMD: &str = "/dev/xen/privcmd";
const HYPERCALL: &str = "/dev/xen/hypercall";

/// Kept free buffers: enough for one call with its argument and three arrays.
const KEPT_BUFFERS: usize = 4;

/// An open `/dev/xen/privcmd`: the way to the hypervisor.
#[derive(Debug)]
pub struct Privcmd {
    device: File,
    /// Gives memory that the kernel never moves or takes away; kernels before 4.18 lack it.
    locked_memory: Option<File>,
    free: Mutex<Vec<SharedPages>>,
}

impl Privcmd {
    /// Opens the device; fails where the kernel does not run on Xen or `xen-privcmd` is not loaded.
    pub fn open() -> Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(PRIVCMD)
            .map_err(|error| Error::Open { path: PRIVCMD, errno: errno_of(&error) })?;
        let locked_memory = OpenOptions::new().read(true).write(true).open(HYPERCALL).ok();
        Ok(Self { device, locked_memory, free: Mutex::new(Vec::new()) })
    }

    /// A zeroed buffer of at least `length` bytes that a hypercall may read and write.
    pub fn buffer(&self, length: usize) -> Result<Buffer<'_>> {
        if length <= PAGE_SIZE
            && let Ok(mut free) = self.free.lock()
            && let Some(pages) = free.pop()
        {
            pages.fill(0, 0, length);
            return Ok(Buffer { pages: Some(pages), owner: self });
        }
        let rounded = length.max(1).next_multiple_of(PAGE_SIZE);
        let pages = match &self.locked_memory {
            Some(device) => SharedPages::map(device, 0, rounded, true),
            None => SharedPages::anonymous(rounded),
        };
        let pages = pages
            .map_err(|errno| Error::Device { operation: "allocate hypercall buffer", errno })?;
        // Linux maps a page read-only until it is first written, and the hypervisor does not fault it in.
        pages.fill(0, 0, rounded);
        Ok(Buffer { pages: Some(pages), owner: self })
    }

    /// Issues hypercall `number` and returns its non-negative result.
    ///
    /// # Safety
    /// Every argument that the operation takes as an address points to memory that is valid for what the
    /// hypervisor does with it, for as long as the call runs.
    pub unsafe fn hypercall(
        &self,
        number: u64,
        arguments: [u64; 5],
    ) -> core::result::Result<u32, Errno> {
        /// `struct privcmd_hypercall` (`linux/xen/privcmd.h`).
        #[repr(C)]
        struct Hypercall {
            op: u64,
            arg: [u64; 5],
        }
        let opcode = ioctl::number::<Hypercall>(b'P', 0);
        let mut call = Hypercall { op: number, arg: arguments };
        // SAFETY: the opcode takes this structure; the caller vouches for addresses in `arguments`.
        let answer = unsafe { ioctl::issue(&self.device, opcode, &mut call) }?;
        u32::try_from(answer).map_err(|_negative| Errno::OVERFLOW)
    }

    /// Issues a hypercall that takes the address of `argument` in register `position`; the structure is
    /// copied in, and back out when the call succeeds.
    ///
    /// # Safety
    /// Every address inside `argument`, and in `registers`, is that of a [`Buffer`] which is held over
    /// the call and large enough for what the operation does with it.
    pub unsafe fn call_with<T>(
        &self,
        number: u64,
        mut registers: [u64; 5],
        position: usize,
        argument: &mut T,
    ) -> core::result::Result<u32, Errno>
    where
        T: IntoBytes + FromBytes + Immutable,
    {
        let buffer = self.buffer(size_of::<T>()).map_err(|e| e.errno().unwrap_or(Errno::NOMEM))?;
        buffer.write(0, argument.as_bytes());
        if let Some(register) = registers.get_mut(position) {
            *register = buffer.address();
        }
        // SAFETY: this address is that of a resident buffer as large as the structure; the caller vouches
        // for all others.
        let answer = unsafe { self.hypercall(number, registers) }?;
        buffer.read(0, argument.as_mut_bytes());
        Ok(answer)
    }

    /// Maps `frames` of `domain` next to each other, in one batch.
    ///
    /// Fails, with nothing mapped, if any one of them cannot be.
    pub fn map_foreign(&self, domain: DomId, frames: &[Gfn]) -> Result<ForeignMapping> {
        /// `struct privcmd_mmapbatch_v2` (`linux/xen/privcmd.h`).
        #[repr(C)]
        struct MmapBatch {
            num: u32,
            dom: u16,
            addr: u64,
            arr: u64,
            err: u64,
        }
        const OPERATION: &str = "map foreign memory";
        let failed = |errno| Error::Device { operation: OPERATION, errno };
        let num = u32::try_from(frames.len()).map_err(|_too_many| failed(Errno::TOOBIG))?;
        let pages = SharedPages::map(&self.device, 0, frames.len() * PAGE_SIZE, true)
            .map_err(|errno| Error::Device { operation: OPERATION, errno })?;
        let numbers: Vec<u64> = frames.iter().map(|gfn| gfn.0).collect();
        let mut errors = vec![0_i32; frames.len()];
        let mut batch = MmapBatch {
            num,
            dom: domain.0,
            addr: pages.address(),
            arr: numbers.as_ptr().expose_provenance() as u64,
            err: errors.as_mut_ptr().expose_provenance() as u64,
        };
        let opcode = ioctl::number::<MmapBatch>(b'P', 4);
        // SAFETY: the opcode takes this structure; both arrays have `num` elements and outlive the call, and
        // the mapping has room for `num` pages.
        unsafe { ioctl::issue(&self.device, opcode, &mut batch) }.map_err(failed)?;
        match errors.iter().find(|error| **error != 0) {
            None => Ok(pages),
            Some(error) => {
                Err(Error::Device { operation: OPERATION, errno: Errno::from_raw_os_error(-error) })
            }
        }
    }

    /// Maps `count` frames, from frame `first`, of a resource that the hypervisor keeps for `domain`.
    pub fn map_resource(
        &self,
        domain: DomId,
        resource: Resource,
        first: u32,
        count: usize,
    ) -> Result<ForeignMapping> {
        /// `struct privcmd_mmap_resource` (`linux/xen/privcmd.h`).
        #[repr(C)]
        struct MmapResource {
            dom: u16,
            kind: u32,
            id: u32,
            idx: u32,
            num: u64,
            addr: u64,
        }
        let failed = |errno| Error::Device { operation: "map a domain's resource", errno };
        let pages = SharedPages::map(&self.device, 0, count * PAGE_SIZE, true).map_err(failed)?;
        let (kind, id) = match resource {
            Resource::GrantTable => (u32::from(RESOURCE_GRANT_TABLE), RESOURCE_GRANT_TABLE_SHARED),
        };
        let mut request = MmapResource {
            dom: domain.0,
            kind,
            id,
            idx: first,
            num: count as u64,
            addr: pages.address(),
        };
        let opcode = ioctl::number::<MmapResource>(b'P', 7);
        // SAFETY: the opcode takes this structure, and the mapping has room for `num` pages.
        unsafe { ioctl::issue(&self.device, opcode, &mut request) }.map_err(failed)?;
        Ok(pages)
    }
}

/// Memory of another domain, mapped here. It holds references on that domain's pages: drop it early.
pub type ForeignMapping = SharedPages;

/// What can be mapped without being the guest's own memory (`public/memory.h`, acquire_resource).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// The shared frames of the grant table.
    GrantTable,
}

/// Memory that a hypercall may use; goes back to its [`Privcmd`] on drop.
#[derive(Debug)]
pub struct Buffer<'a> {
    /// Taken only by `drop`.
    pages: Option<SharedPages>,
    owner: &'a Privcmd,
}

impl core::ops::Deref for Buffer<'_> {
    type Target = SharedPages;

    fn deref(&self) -> &SharedPages {
        self.pages.as_ref().expect("taken only by drop")
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take()
            && pages.len() == PAGE_SIZE
            && let Ok(mut free) = self.owner.free.lock()
            && free.len() < KEPT_BUFFERS
        {
            free.push(pages);
        }
    }
}

impl AsFd for Privcmd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.device.as_fd()
    }
}

pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
