//! A domain's memory, as far as it is not `memory_op`'s: limits, device frames, caches.

use super::Request;
use crate::domain::Domain;
use crate::domain::memory::Tables;
use crate::hypercall::Outcome;
use core::ops::Range;
use hv_core::addr::{Gfn, Mfn, PAGE_SHIFT, PAGE_SIZE, to_index};
use hv_core::memory::FrameMemory;
use hv_core::p2m::Kind;
use hypercall_abi::domctl::{
    CacheFlush, DPCI_ADD_MAPPING, DPCI_REMOVE_MAPPING, IomemPermission, MaxMem, MemoryMapping,
    PagingMempool,
};
use hypercall_abi::errno::Errno;

/// Device frames that one request may map; libxc asks again for the rest.
const MOST_DEVICE_FRAMES: u64 = 64;
/// Ranges of device frames that a domain's permissions may come to.
const MOST_DEVICE_RANGES: usize = 1024;
/// Bytes of the heap that a change of so many takes at most: the old list and the new, while both are
/// there, and what the new one grows by.
const RANGES_ROOM: usize = 4 * MOST_DEVICE_RANGES * size_of::<Range<u64>>();
/// Frames whose caches one request may clean (`XEN_DOMCTL_cacheflush`).
const MOST_CACHED_FRAMES: u64 = 1 << 18;
/// Tables Xen sets aside for a new domain on Arm.
const FIRST_TABLES: u64 = 16;
/// Frames to clean between two looks for interrupts.
const CLEAN_AT_ONCE: u64 = 64;

pub(super) fn max(request: &Request<'_>) -> Result<(), Errno> {
    let MaxMem { max_memkb } = request.domctl.payload();
    let frames = max_memkb >> (PAGE_SHIFT - 10);
    request.caller.hv.frames.lock().set_limit(request.domain.id, frames)?;
    Ok(())
}

pub(super) fn iomem_permission(request: &Request<'_>) -> Result<(), Errno> {
    let permission: IomemPermission = request.domctl.payload();
    let end = permission.first_mfn.checked_add(permission.nr_mfns).ok_or(Errno::EINVAL)?;
    if permission.nr_mfns == 0 || end > 1 << (u64::BITS - PAGE_SHIFT) {
        return Err(Errno::EINVAL);
    }
    let frames = permission.first_mfn..end;
    // Nobody gives what it has not itself: RAM and the hypervisor's own devices are not Dom0's.
    if !request.caller.domain.devices.lock().contains(frames.clone()) {
        return Err(Errno::EPERM);
    }
    let change = || {
        let mut devices = request.domain.devices.lock();
        if devices.iter().count() >= MOST_DEVICE_RANGES {
            return Err(Errno::ENOMEM);
        }
        match permission.allow_access {
            0 => devices.remove(frames),
            _ => devices.insert(frames),
        }
        Ok(())
    };
    request.caller.hv.with_room(RANGES_ROOM, change)?
}

pub(super) fn map_device(request: &Request<'_>) -> Result<(), Errno> {
    let mapping: MemoryMapping = request.domctl.payload();
    let end = mapping.first_mfn.checked_add(mapping.nr_mfns).ok_or(Errno::EINVAL)?;
    if mapping.first_gfn.checked_add(mapping.nr_mfns).is_none() {
        return Err(Errno::EINVAL);
    }
    if mapping.nr_mfns > MOST_DEVICE_FRAMES {
        return Err(Errno::E2BIG);
    }
    let may = |domain: &Domain| domain.devices.lock().contains(mapping.first_mfn..end);
    if !may(request.caller.domain) || !may(request.domain) {
        return Err(Errno::EPERM);
    }
    let (hv, domain) = (request.caller.hv, request.domain);
    let gfn = Gfn::new(mapping.first_gfn);
    let mut done = 0;
    while done < mapping.nr_mfns {
        let left = mapping.nr_mfns - done;
        let first = Gfn::new(gfn.number() + done);
        let memory = hv.machine.memory();
        let mut p2m = domain.p2m.lock();
        let mut tables = Tables::of(hv, domain);
        let step = match mapping.add_mapping {
            DPCI_ADD_MAPPING => {
                let mfn = Mfn::new(mapping.first_mfn + done);
                p2m.map_range(memory, &mut tables, first, mfn, left, Kind::Device, u32::MAX)
            }
            DPCI_REMOVE_MAPPING => p2m.unmap_range(memory, &mut tables, first, left, u32::MAX),
            _ => return Err(Errno::EINVAL),
        }?;
        done += step.done.max(1);
        let released = hv.flush(domain, &p2m, step.flush);
        drop(p2m);
        hv.let_go(domain, released);
    }
    Ok(())
}

pub(super) fn get_pool(request: &mut Request<'_>) -> Result<(), Errno> {
    let limit = request.domain.p2m.lock().table_limit();
    // Without a limit what Xen starts a domain with is told, which is what its own test looks for.
    let tables = if limit == u32::MAX { FIRST_TABLES } else { u64::from(limit) };
    request.domctl.set_payload(&PagingMempool { size: tables * PAGE_SIZE });
    request.reply()
}

/// Sets memory aside for the domain's tables; its size is their limit.
pub(super) fn set_pool(request: &Request<'_>) -> Result<(), Errno> {
    let PagingMempool { size } = request.domctl.payload();
    if !size.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let tables = u32::try_from(size / PAGE_SIZE).unwrap_or(u32::MAX - 1);
    let mut p2m = request.domain.p2m.lock();
    if tables < p2m.tables() {
        return Err(Errno::ENOMEM);
    }
    request.caller.hv.frames.lock().set_pool(request.domain.id, tables.into())?;
    p2m.set_table_limit(tables);
    Ok(())
}

pub(super) fn cache_flush(request: &mut Request<'_>) -> Outcome {
    let CacheFlush { mut start_pfn, mut nr_pfns } = request.domctl.payload();
    if start_pfn.checked_add(nr_pfns).is_none() {
        return Errno::EINVAL.into();
    }
    if nr_pfns > MOST_CACHED_FRAMES {
        return Errno::EINVAL.into();
    }
    let (hv, domain) = (request.caller.hv, request.domain);
    while nr_pfns > 0 {
        let end = start_pfn + nr_pfns.min(CLEAN_AT_ONCE);
        {
            let p2m = domain.p2m.lock();
            let mut pfn = start_pfn;
            while pfn < end {
                let (mapping, rest) = p2m.entry(hv.machine.memory(), Gfn::new(pfn));
                let count = rest.min(end - pfn).max(1);
                if let Some(mapping) = mapping.filter(|mapping| mapping.kind.is_ram()) {
                    let len = to_index(count * PAGE_SIZE);
                    hv.machine.memory().clean_and_invalidate(mapping.mfn.base(), len);
                }
                pfn += count;
            }
        }
        nr_pfns -= end - start_pfn;
        start_pfn = end;
        if nr_pfns > 0 && hv.machine.interrupt_pending() {
            request.domctl.set_payload(&CacheFlush { start_pfn, nr_pfns });
            return match request.reply() {
                Ok(()) => request.again(),
                Err(error) => error.into(),
            };
        }
    }
    Outcome::Done(Ok(0))
}
