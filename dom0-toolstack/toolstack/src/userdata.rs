//! What the toolstack remembers of a domain outside xenstore: files, one for each domain and item.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xen_sys::DomId;

use crate::error::{Error, Result};
use crate::unfinished::Unfinished;

/// The directory of the files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Userdata {
    directory: PathBuf,
    unfinished: Unfinished,
}

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

impl Default for Userdata {
    fn default() -> Self {
        Self { directory: "/var/lib/xen".into(), unfinished: Unfinished::default() }
    }
}

impl Userdata {
    /// Files in `directory`, which is made when needed.
    pub fn new(directory: &Path) -> Self {
        let unfinished = Unfinished::new(&directory.join("unfinished"));
        Self { directory: directory.into(), unfinished }
    }

    /// What was begun and not ended.
    pub const fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    /// Keeps `text`.
    pub fn write(&self, domain: DomId, uuid: Uuid, item: Item, text: &str) -> Result<()> {
        let directory = &self.directory;
        fs::create_dir_all(directory).map_err(|source| Error::file("make", directory, source))?;
        let path = self.path(domain, uuid, item);
        fs::write(&path, text).map_err(|source| Error::file("write", &path, source))
    }

    /// Adds a line to what is kept of a domain, if anything is.
    pub fn append(&self, domain: DomId, uuid: Uuid, item: Item, line: &str) -> Result<()> {
        match self.read(domain, uuid, item) {
            Some(text) => self.write(domain, uuid, item, &format!("{text}{line}\n")),
            None => Ok(()),
        }
    }

    /// What was kept, if anything was.
    pub fn read(&self, domain: DomId, uuid: Uuid, item: Item) -> Option<String> {
        fs::read_to_string(self.path(domain, uuid, item)).ok()
    }

    /// Keeps what is kept of a domain under its new UUID.
    pub fn rename(&self, domain: DomId, from: Uuid, to: Uuid) {
        for item in [Item::Config, Item::LibxlJson] {
            // What is not there need not be renamed.
            let _ = fs::rename(self.path(domain, from, item), self.path(domain, to, item));
        }
    }

    /// Forgets all that was kept of a domain.
    pub fn remove(&self, domain: DomId, uuid: Uuid) {
        let prefix = format!("userdata-d.{domain}.{uuid}.");
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // A file that is gone already is what we want.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, domain: DomId, uuid: Uuid, item: Item) -> PathBuf {
        self.directory.join(format!("userdata-d.{domain}.{uuid}.{}", item.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_renamed_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let files = Userdata::new(&directory.path().join("xen"));
        let (domain, old, new) = (DomId(3), Uuid::from_u128(1), Uuid::from_u128(2));
        files.write(domain, old, Item::Config, "name='x'").unwrap();
        files.write(DomId(30), old, Item::Config, "another's").unwrap();
        files.rename(domain, old, new);
        assert_eq!(files.read(domain, old, Item::Config), None);
        assert_eq!(files.read(domain, new, Item::Config).as_deref(), Some("name='x'"));
        files.remove(domain, new);
        assert_eq!(files.read(domain, new, Item::Config), None);
        assert!(files.read(DomId(30), old, Item::Config).is_some());
    }
}
