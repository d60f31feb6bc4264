//! Domains' memory (`public/memory.h`).

use hypercall_abi::extension::{LONGEST, Load, Request, VERSION};
use hypercall_abi::hypercall::{EXTENSION, MEMORY_OP};
use hypercall_abi::memory as abi;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::ids::{DomId, Gfn};
use crate::pages::SharedPages;
use crate::privcmd::{ForeignMapping, Privcmd, Resource};

/// Domains' memory.
pub trait Memory {
    /// Gives `domain` memory at `extents`, each the first of `1 << order` frames.
    ///
    /// Returns how many extents it got, from the first on: fewer than asked where memory ran out.
    fn populate(&self, domain: DomId, order: u32, extents: &[Gfn]) -> Result<usize>;
    /// Maps frames of `domain` next to each other.
    fn map_foreign(&self, domain: DomId, frames: &[Gfn]) -> Result<ForeignMapping>;
    /// Maps a frame of `domain`'s grant table.
    fn map_grant_table(&self, domain: DomId, frame: u32) -> Result<ForeignMapping>;
    /// Copies bytes to `to`, a guest physical address, in `domain`'s memory, and writes them back to memory.
    ///
    /// Says whether it did: only our own hypervisor can, and only from memory that is there.
    fn load(&self, domain: DomId, to: u64, from: Source<'_>) -> Result<bool>;
    /// Pages saved by sharing, and pages so shared; 0 where there is no sharing.
    fn sharing(&self) -> Result<(u32, u32)>;
    /// Sets the target of a domain that was given less than its maximum, in pages.
    fn set_target(&self, domain: DomId, pages: u64) -> Result<()>;
}

/// Bytes to be copied to a guest.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// These.
    Bytes(&'a [u8]),
    /// So many at the start of these pages.
    Pages(&'a SharedPages, usize),
}

impl Source<'_> {
    fn address(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.as_ptr().expose_provenance() as u64,
            Self::Pages(pages, _) => pages.address(),
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Pages(pages, length) => length.min(pages.len()),
        }
    }
}

impl Memory for Privcmd {
    fn populate(&self, domain: DomId, order: u32, extents: &[Gfn]) -> Result<usize> {
        let list = self.buffer(extents.len() * 8)?;
        for (index, gfn) in extents.iter().enumerate() {
            list.store_u64(index * 8, gfn.0);
        }
        let mut argument = abi::MemoryReservation {
            extent_start: list.address(),
            nr_extents: extents.len() as u64,
            extent_order: order,
            domid: domain.0,
            ..abi::MemoryReservation::default()
        };
        let registers = [abi::POPULATE_PHYSMAP, 0, 0, 0, 0];
        // SAFETY: the one address is that of a list as long as said.
        let answer = unsafe { self.call_with(MEMORY_OP, registers, 1, &mut argument) };
        let call = "XENMEM_populate_physmap";
        answer.map(|count| count as usize).map_err(|errno| Error::Domain { call, domain, errno })
    }

    fn map_foreign(&self, domain: DomId, frames: &[Gfn]) -> Result<ForeignMapping> {
        Self::map_foreign(self, domain, frames)
    }

    fn map_grant_table(&self, domain: DomId, frame: u32) -> Result<ForeignMapping> {
        self.map_resource(domain, Resource::GrantTable, frame, 1)
    }

    fn load(&self, domain: DomId, to: u64, from: Source<'_>) -> Result<bool> {
        const CALL: &str = "extension: load";
        let length = from.length() as u64;
        let load = Load { domain: domain.0, to, from: from.address(), length };
        let mut encoded = [0; LONGEST];
        let encoded = postcard::to_slice(&(VERSION, Request::Load(load)), &mut encoded)
            .map_err(|_| Error::Nonsense { call: CALL })?;
        let request = self.buffer(encoded.len())?;
        request.write(0, encoded);
        let registers = [request.address(), encoded.len() as u64, 0, 0, 0];
        // SAFETY: the hypervisor reads the request, and as many bytes as `from` has at its address; both are
        // borrowed over the call.
        match unsafe { self.hypercall(EXTENSION, registers) } {
            Ok(_) => Ok(true),
            // Xen has no such call; what is not in memory at the moment must be brought in first.
            Err(Errno::NOSYS | Errno::ACCESS | Errno::FAULT) => Ok(false),
            Err(errno) => Err(Error::Domain { call: CALL, domain, errno }),
        }
    }

    fn sharing(&self) -> Result<(u32, u32)> {
        let ask = |call: &'static str, operation| {
            // SAFETY: these operations take no argument.
            match unsafe { self.hypercall(MEMORY_OP, [operation, 0, 0, 0, 0]) } {
                Err(Errno::NOSYS) => Ok(0),
                answer => answer.map_err(|errno| Error::Call { call, errno }),
            }
        };
        Ok((
            ask("XENMEM_get_sharing_freed_pages", abi::GET_SHARING_FREED_PAGES)?,
            ask("XENMEM_get_sharing_shared_pages", abi::GET_SHARING_SHARED_PAGES)?,
        ))
    }

    fn set_target(&self, domain: DomId, pages: u64) -> Result<()> {
        let mut argument =
            abi::PodTarget { target_pages: pages, domid: domain.0, ..abi::PodTarget::default() };
        let registers = [abi::SET_POD_TARGET, 0, 0, 0, 0];
        // SAFETY: `struct xen_pod_target` holds no address.
        match unsafe { self.call_with(MEMORY_OP, registers, 1, &mut argument) } {
            // Xen on Arm has no such operation; the guest's own balloon is what works.
            Ok(_) | Err(Errno::NOSYS) => Ok(()),
            Err(errno) => Err(Error::Domain { call: "XENMEM_set_pod_target", domain, errno }),
        }
    }
}
