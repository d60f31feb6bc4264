//! Where things stand in xenstore, and waiting for them.

use std::time::{Duration, Instant};

use xen_sys::DomId;
use xenstore::client::{Client, Store};
use xenstore::permission::{Access, Permission};

use crate::error::Result;

/// `/local/domain/N`.
pub fn domain_path(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}

/// `/libxl/N`: the toolstack's own notes, which the guest cannot touch.
pub fn notes_path(domain: DomId) -> String {
    format!("/libxl/{domain}")
}

/// Only Dom0 writes, `domain` reads.
pub fn readable_by(domain: DomId) -> [Permission; 2] {
    [Permission::new(0, Access::NONE), Permission::new(domain.0, Access::READ)]
}

/// `owner` does what it wants, `reader` reads.
pub fn owned_by(owner: DomId, reader: DomId) -> [Permission; 2] {
    [Permission::new(owner.0, Access::NONE), Permission::new(reader.0, Access::READ)]
}

/// Nobody else has access.
pub fn private_to(owner: DomId) -> [Permission; 1] {
    [Permission::new(owner.0, Access::NONE)]
}

/// Makes a directory with permissions that what is written below it inherits.
pub fn directory(store: &impl Store, path: &str, permissions: &[Permission]) -> Result<()> {
    store.mkdir(path)?;
    Ok(store.set_perms(path, permissions)?)
}

/// Writes `entries` below `path`.
pub fn entries(store: &impl Store, path: &str, entries: &[(&str, String)]) -> Result<()> {
    for (name, value) in entries {
        store.write(&format!("{path}/{name}"), value)?;
    }
    Ok(())
}

/// Removes `path` and all below it, and parents that are empty then, up to and without `root`.
pub fn remove_up_to(store: &impl Store, path: &str, root: &str) -> Result<()> {
    let mut path = path;
    loop {
        if store.exists(path)? {
            store.rm(path)?;
        }
        match path.rfind('/').and_then(|slash| path.get(..slash)) {
            Some(parent)
                if parent.len() > root.len()
                    && parent.starts_with(root)
                    && store.directory_or_empty(parent)?.is_empty() =>
            {
                path = parent;
            }
            _ => return Ok(()),
        }
    }
}

/// Waits until `check` finds something, trying anew whenever `path` or what is below it changes.
///
/// Nothing when the time is up.
pub fn wait_for<T>(
    store: &Client,
    path: &str,
    timeout: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let deadline = Instant::now() + timeout;
    let token = format!("wait-{path}");
    store.watch(path, &token)?;
    let answer = loop {
        match check() {
            Ok(None) => {}
            Ok(found) => break Ok(found),
            Err(error) => break Err(error),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match store.next_event(Some(left)) {
            Ok(Some(_)) => {}
            Ok(None) => break check(),
            Err(error) => break Err(error.into()),
        }
    };
    store.unwatch(path, &token)?;
    answer
}
