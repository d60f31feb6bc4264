//! The project's own hypercall (`hypercall_abi::extension`): fills a guest's memory without a page of it being mapped.

use super::{Arguments, Caller, Outcome};
use crate::domain::Domain;
use hv_core::addr::{Gfn, PAGE_SHIFT, PAGE_SIZE, to_index};
use hv_core::guest::GuestMemory;
use hv_core::memory::FrameMemory;
use hypercall_abi::errno::Errno;
use hypercall_abi::extension::{LONGEST, Load, Request, VERSION};

/// Bytes of a page, as the length of an array.
const PAGE: usize = to_index(PAGE_SIZE);
/// Pages to copy between two looks for interrupts.
const COPY_AT_ONCE: u64 = 4;

/// Carries out the request of x1 bytes at the address in x0, from its byte x2 on.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [address, length, done, ..] = *arguments;
    match read(caller, address, length) {
        Ok(Request::Load(request)) => match load(caller, request, done) {
            Ok(Progress::Done) => Outcome::Done(Ok(0)),
            Ok(Progress::Interrupted(done)) => Outcome::Again([address, length, done, 0, 0]),
            Err(error) => error.into(),
        },
        Err(error) => error.into(),
    }
}

fn read(caller: &Caller<'_>, address: u64, length: u64) -> Result<Request, Errno> {
    let mut room = [0; LONGEST];
    let length = usize::try_from(length).map_err(|_| Errno::E2BIG)?;
    let bytes = room.get_mut(..length).ok_or(Errno::E2BIG)?;
    caller.guest.read(address, bytes)?;
    if !caller.domain.is_privileged() {
        caller.hv.warn(caller.domain, format_args!("the extension is refused"));
        return Err(Errno::EPERM);
    }
    let (version, rest) = postcard::take_from_bytes::<u16>(bytes).map_err(|_| Errno::EINVAL)?;
    if version != VERSION {
        return Err(Errno::EACCES);
    }
    postcard::from_bytes(rest).map_err(|_| Errno::EINVAL)
}

enum Progress {
    Done,
    /// So many bytes are copied.
    Interrupted(u64),
}

/// Copies page by page: in once, to a place of ours, then to the guest while its map stands still.
fn load(caller: &Caller<'_>, request: Load, mut done: u64) -> Result<Progress, Errno> {
    let domain = caller.other(request.domain)?;
    request.to.checked_add(request.length).ok_or(Errno::EINVAL)?;
    request.from.checked_add(request.length).ok_or(Errno::EINVAL)?;
    let mut page = [0; PAGE];
    let mut pages = 0;
    while done < request.length {
        if pages == COPY_AT_ONCE && caller.hv.machine.interrupt_pending() {
            return Ok(Progress::Interrupted(done));
        }
        pages = if pages == COPY_AT_ONCE { 1 } else { pages + 1 };
        let (from, to) = (request.from + done, request.to + done);
        let count = (request.length - done).min(PAGE_SIZE - to % PAGE_SIZE);
        let bytes = page.get_mut(..to_index(count)).ok_or(Errno::EINVAL)?;
        caller.guest.read(from, bytes)?;
        store(caller, &domain, to, bytes)?;
        done += count;
    }
    Ok(Progress::Done)
}

/// Copies bytes to one page of a guest's own memory.
fn store(caller: &Caller<'_>, domain: &Domain, to: u64, bytes: &[u8]) -> Result<(), Errno> {
    let memory = caller.memory();
    let p2m = domain.p2m.lock();
    let mapping = p2m.lookup(memory, Gfn::new(to >> PAGE_SHIFT)).ok_or(Errno::EINVAL)?;
    if !mapping.kind.is_ram() || !mapping.kind.is_writable() {
        return Err(Errno::EINVAL);
    }
    let at = mapping.mfn.base().checked_add(to % PAGE_SIZE).ok_or(Errno::EINVAL)?;
    memory.write(at, bytes);
    memory.clean_and_invalidate(at, bytes.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::GuestSpace;
    use crate::testbed::{DOMAIN_FRAMES, GUEST_RAM, REQUEST, Testbed};
    use alloc::vec::Vec;
    use hypercall_abi::hypercall::EXTENSION;

    const FROM: u64 = GuestSpace::BASE + 0x400;

    fn request(bed: &Testbed, version: u16, load: Load) -> u64 {
        let bytes: Vec<u8> = postcard::to_allocvec(&(version, Request::Load(load))).unwrap();
        bed.guest.write(REQUEST, &bytes).unwrap();
        bytes.len().try_into().unwrap()
    }

    fn call(bed: &Testbed, caller: u16, load: Load) -> Outcome {
        let length = request(bed, VERSION, load);
        bed.call(caller, EXTENSION, [REQUEST, length, 0, 0, 0])
    }

    fn guest_bytes(bed: &Testbed, to: u64, bytes: &mut [u8]) {
        let domain = bed.domain(1);
        let p2m = domain.p2m.lock();
        let mapping = p2m.lookup(bed.memory(), Gfn::new(to >> PAGE_SHIFT)).unwrap();
        bed.memory().read(mapping.mfn.base().checked_add(to % PAGE_SIZE).unwrap(), bytes);
    }

    #[test]
    fn bytes_reach_a_guest_over_the_edges_of_its_pages() {
        let bed = Testbed::new();
        let to = (GUEST_RAM.number() << PAGE_SHIFT) + 0xffe;
        bed.guest.write(FROM, b"abcd").unwrap();
        let load = Load { domain: 1, to, from: FROM, length: 4 };
        assert_eq!(call(&bed, 0, load), Outcome::Done(Ok(0)));
        let (mut first, mut second) = ([0; 2], [0; 2]);
        guest_bytes(&bed, to, &mut first);
        guest_bytes(&bed, to + 2, &mut second);
        assert_eq!((&first, &second), (b"ab", b"cd"));
    }

    #[test]
    fn what_cannot_be_copied_is_refused() {
        let bed = Testbed::new();
        let to = GUEST_RAM.number() << PAGE_SHIFT;
        let good = Load { domain: 1, to, from: FROM, length: 8 };
        let end = (GUEST_RAM.number() + DOMAIN_FRAMES) << PAGE_SHIFT;
        for (load, error) in [
            (Load { domain: 77, ..good }, Errno::ESRCH),
            (Load { to: end, ..good }, Errno::EINVAL),
            (Load { to: u64::MAX, ..good }, Errno::EINVAL),
            (Load { from: u64::MAX - 2, ..good }, Errno::EINVAL),
            (Load { from: 0, ..good }, Errno::EFAULT),
        ] {
            assert_eq!(call(&bed, 0, load), error.into(), "{load:?}");
        }
        assert_eq!(call(&bed, 1, good), Errno::EPERM.into());
        let length = request(&bed, VERSION + 1, good);
        let old = bed.call(0, EXTENSION, [REQUEST, length, 0, 0, 0]);
        assert_eq!(old, Errno::EACCES.into());
        let long = bed.call(0, EXTENSION, [REQUEST, 65, 0, 0, 0]);
        assert_eq!(long, Errno::E2BIG.into());
        request(&bed, VERSION, good);
        let short = bed.call(0, EXTENSION, [REQUEST, 2, 0, 0, 0]);
        assert_eq!(short, Errno::EINVAL.into());
    }

    #[test]
    fn a_long_copy_stops_for_an_interrupt_and_goes_on() {
        let bed = Testbed::new();
        bed.interrupt(true);
        let to = GUEST_RAM.number() << PAGE_SHIFT;
        let load = Load { domain: 1, to, from: FROM, length: 6 * PAGE_SIZE };
        let length = request(&bed, VERSION, load);
        let arguments = [REQUEST, length, 4 * PAGE_SIZE, 0, 0];
        assert_eq!(bed.call(0, EXTENSION, [REQUEST, length, 0, 0, 0]), Outcome::Again(arguments));
        assert_eq!(bed.call(0, EXTENSION, arguments), Outcome::Done(Ok(0)));
    }
}
