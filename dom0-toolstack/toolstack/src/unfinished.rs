//! Domains whose making was begun and not ended: what a killed command leaves is found here and taken back.
//!
//! Before a domain is made its UUID becomes the name of a file; the file goes when the domain is
//! complete, or taken back. All of it happens under the lock that lets one command at a time make
//! domains: whoever holds that lock and finds a file knows that nobody works on that domain any more.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xen_sys::{DomId, Xen};
use xenstore::client::{Client, Store};

use crate::error::{Error, Result};
use crate::userdata::Userdata;
use crate::{domain, store};

/// The directory of the marks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unfinished {
    directory: PathBuf,
}

impl Default for Unfinished {
    fn default() -> Self {
        // Gone with the next boot, as the domains are.
        Self::new(Path::new("/run/xen/unfinished"))
    }
}

impl Unfinished {
    /// Marks in `directory`, which is made when needed.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.into() }
    }

    /// Begins work on the domain with that UUID, which no domain may have yet.
    pub fn begin(&self, uuid: Uuid) -> Result<()> {
        let path = self.path(uuid);
        let write = || fs::write(&path, "");
        write()
            .or_else(|_| fs::create_dir_all(&self.directory).and_then(|()| write()))
            .map_err(|source| Error::file("write", &path, source))
    }

    /// The work is done, or taken back.
    pub fn end(&self, uuid: Uuid) -> Result<()> {
        let path = self.path(uuid);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::file("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// The marks that are there.
    pub fn found(&self) -> Vec<Uuid> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut found: Vec<Uuid> = entries
            .filter_map(|entry| Uuid::parse_str(&entry.file_name().to_string_lossy()).ok())
            .collect();
        found.sort();
        found
    }

    fn path(&self, uuid: Uuid) -> PathBuf {
        self.directory.join(uuid.to_string())
    }
}

/// Takes back what killed commands left; the caller holds the lock. Returns the domains removed.
///
/// A mark stays where its domain could not be removed, so that the next command tries again.
pub fn recover(xen: &impl Xen, store: &Client, files: &Userdata) -> Result<Vec<DomId>> {
    let mut removed = Vec::new();
    for uuid in files.unfinished().found() {
        for info in xen.domains(DomId(1))? {
            if domain::uuid(&info) == uuid && !info.dying {
                domain::destroy(xen, store, files, info.domain)?;
                removed.push(info.domain);
            }
        }
        forget_nodes(store, files, uuid)?;
        files.unfinished().end(uuid)?;
    }
    Ok(removed)
}

/// Removes the nodes of a domain that the hypervisor no longer has, or never had.
fn forget_nodes(client: &Client, files: &Userdata, uuid: Uuid) -> Result<()> {
    let vm = format!("/vm/{uuid}");
    for name in client.directory_or_empty("/local/domain")? {
        let Ok(number) = name.parse() else { continue };
        let path = store::domain_path(DomId(number));
        if client.read_optional(&format!("{path}/vm"))?.as_deref() == Some(&vm) {
            domain::forget(client, files, DomId(number), uuid)?;
        }
    }
    client.transaction(|transaction| {
        if transaction.exists(&vm)? {
            transaction.rm(&vm)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_there_until_the_work_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let unfinished = Unfinished::new(&directory.path().join("unfinished"));
        assert!(unfinished.found().is_empty());
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        unfinished.begin(one).unwrap();
        unfinished.begin(other).unwrap();
        assert_eq!(unfinished.found(), [one, other]);
        unfinished.end(one).unwrap();
        assert_eq!(unfinished.found(), [other]);
        unfinished.end(one).unwrap();
    }
}
