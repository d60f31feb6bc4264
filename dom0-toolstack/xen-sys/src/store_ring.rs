//! The local kernel's own end of xenstore, for the daemon that serves it.
//!
//! Where xenstored runs in the same domain as the kernel, xenfs hands out the kernel's ring page and the
//! event channel it listens on (`/proc/xen/xsd_kva` and `/proc/xen/xsd_port`).

use std::fs::{OpenOptions, read_to_string};

use rustix::io::Errno;

use crate::PAGE_SIZE;
use crate::error::{Error, Result};
use crate::ids::Port;
use crate::pages::SharedPages;
use crate::privcmd::errno_of;

const PAGE: &str = "/proc/xen/xsd_kva";
const PORT: &str = "/proc/xen/xsd_port";

/// Maps the kernel's ring page.
pub fn map() -> Result<SharedPages> {
    let failed = |errno| Error::Open { path: PAGE, errno };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(PAGE)
        .map_err(|error| failed(errno_of(&error)))?;
    SharedPages::map(&file, 0, PAGE_SIZE, true).map_err(failed)
}

/// The kernel's end of the event channel.
pub fn port() -> Result<Port> {
    let text = read_to_string(PORT)
        .map_err(|error| Error::Open { path: PORT, errno: errno_of(&error) })?;
    let number = text.trim_matches(['\0', '\n', ' ']).parse();
    number.map(Port).map_err(|_not_a_number| Error::Open { path: PORT, errno: Errno::INVAL })
}
