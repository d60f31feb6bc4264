//! Puts images into a guest's memory.

use std::os::fd::AsFd;

use xen_sys::memory::{Memory, Source};
use xen_sys::{DomId, Gfn, SharedPages};

use crate::error::{Error, Result};
use crate::image::Content;
use crate::layout::{PAGE, Region};

/// Frames mapped at a time: few calls, and little of Dom0's address space for foreign memory.
const BATCH: u64 = 4096;

/// Copies `content` to `place` in `domain`'s memory, which must be there and not be running.
///
/// The one place where guests are filled. Our own hypervisor copies all of it in one call; with others the guest's
/// pages are mapped, and files read by the kernel straight into them. Says whether it stands in memory, so that a guest
/// sees it whose caches are off: after mapping, what was written may stand in caches.
pub fn load_into_guest(
    xen: &impl Memory,
    domain: DomId,
    place: Region,
    content: &Content,
) -> Result<bool> {
    if copy(xen, domain, place, content)? {
        return Ok(true);
    }
    map(xen, domain, place, content)?;
    Ok(false)
}

fn copy(xen: &impl Memory, domain: DomId, place: Region, content: &Content) -> Result<bool> {
    match content {
        Content::Bytes(bytes) => Ok(xen.load(domain, place.base, Source::Bytes(bytes))?),
        Content::File { file, length } => {
            // Asked first with nothing, since bringing a file in is work, too.
            if *length == 0 || !xen.load(domain, place.base, Source::Bytes(&[]))? {
                return Ok(false);
            }
            match SharedPages::of_file(file, small(*length)) {
                Ok(pages) => {
                    Ok(xen.load(domain, place.base, Source::Pages(&pages, small(*length)))?)
                }
                // A file system without mappings: the file can still be read.
                Err(_) => Ok(false),
            }
        }
    }
}

fn map(xen: &impl Memory, domain: DomId, place: Region, content: &Content) -> Result<()> {
    let (mut done, length) = (0, content.length());
    while done < length {
        let address = place.base + done;
        let offset = address % PAGE;
        let first = address / PAGE;
        let frames = BATCH.min((offset + length - done).div_ceil(PAGE));
        let step = (frames * PAGE - offset).min(length - done);
        let list: Vec<Gfn> = (first..first + frames).map(Gfn).collect();
        let pages = xen.map_foreign(domain, &list)?;
        let (at, count) = (small(offset), small(step));
        match content {
            Content::Bytes(bytes) => {
                let part = bytes.get(small(done)..small(done + step)).unwrap_or_default();
                pages.write(at, part);
            }
            Content::File { file, .. } => {
                let read = pages.read_file(at, count, file.as_fd(), done);
                let read = read.map_err(|errno| cut_short(errno.into()))?;
                if read < count {
                    let ended = std::io::ErrorKind::UnexpectedEof;
                    return Err(cut_short(ended.into()));
                }
            }
        }
        done += step;
    }
    Ok(())
}

fn cut_short(source: std::io::Error) -> Error {
    Error::file("read", "the domain's kernel or ramdisk".as_ref(), source)
}

/// A size within one mapping.
fn small(size: u64) -> usize {
    usize::try_from(size).expect("sizes of files and mappings fit in memory")
}
