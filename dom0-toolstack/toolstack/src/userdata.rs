//! What the toolstack remembers of a domain outside xenstore, in files below `/var/lib/xen`.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xen_sys::DomId;

use crate::error::{Error, Result};

/// Where the files are.
const DIRECTORY: &str = "/var/lib/xen";

/// What a file holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Item {
    /// The configuration's text, from which the domain is made anew.
    Config,
    /// The configuration as libxl's tools read it.
    LibxlJson,
}

impl Item {
    const fn name(self) -> &'static str {
        match self {
            Self::Config => "xl",
            Self::LibxlJson => "libxl-json",
        }
    }
}

fn path(domain: DomId, uuid: Uuid, item: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("userdata-d.{domain}.{uuid}.{item}"))
}

/// Keeps `text`.
pub fn write(domain: DomId, uuid: Uuid, item: Item, text: &str) -> Result<()> {
    let path = path(domain, uuid, item.name());
    let directory = Path::new(DIRECTORY);
    fs::create_dir_all(directory).map_err(|source| Error::file("make", directory, source))?;
    fs::write(&path, text).map_err(|source| Error::file("write", &path, source))
}

/// What was kept, if anything was.
pub fn read(domain: DomId, uuid: Uuid, item: Item) -> Option<String> {
    fs::read_to_string(path(domain, uuid, item.name())).ok()
}

/// Keeps what is kept of a domain under its new UUID.
pub fn rename(domain: DomId, from: Uuid, to: Uuid) {
    for item in [Item::Config, Item::LibxlJson] {
        // What is not there need not be renamed.
        let _ = fs::rename(path(domain, from, item.name()), path(domain, to, item.name()));
    }
}

/// Forgets all that was kept of a domain.
pub fn remove(domain: DomId, uuid: Uuid) {
    let prefix = format!("userdata-d.{domain}.{uuid}.");
    for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // A file that is gone already is what we want.
            let _ = fs::remove_file(entry.path());
        }
    }
}
