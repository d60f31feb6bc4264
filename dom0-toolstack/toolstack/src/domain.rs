//! Domains that are there: finding, stopping and removing them.

use std::time::Duration;

use uuid::Uuid;
use xen_sys::domctl::{DomainInfo, Domctl};
use xen_sys::sysctl::Sysctl;
use xen_sys::{DomId, Errno, Xen};
use xenstore::client::{Client, Store};

use crate::devices;
use crate::error::{Error, Result};
use crate::store::{self, domain_path, notes_path};
use crate::userdata::Userdata;

/// How long a guest may take to say that it has read a request.
const ACKNOWLEDGE: Duration = Duration::from_secs(60);

/// What a guest is asked to do (`control/shutdown`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    /// Shut down and power off.
    Poweroff,
    /// Shut down and start anew.
    Reboot,
}

impl Request {
    const fn word(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
        }
    }
}

/// A domain's name, if it has one.
pub fn name(store: &impl Store, domain: DomId) -> Result<Option<String>> {
    Ok(store.read_optional(&format!("{}/name", domain_path(domain)))?)
}

/// The domain that `text` names or numbers.
pub fn find(xen: &impl Xen, store: &impl Store, text: &str) -> Result<DomId> {
    let missing = || Error::NoSuchDomain { name: text.into() };
    if let Ok(number) = text.parse::<u16>() {
        return match xen.domain_info(DomId(number)) {
            Ok(_) => Ok(DomId(number)),
            Err(error) if error.is(Errno::SRCH) => Err(missing()),
            Err(error) => Err(error.into()),
        };
    }
    find_named(xen, store, text)?.ok_or_else(missing)
}

/// The domain that is called `wanted`.
pub fn find_named(xen: &impl Xen, store: &impl Store, wanted: &str) -> Result<Option<DomId>> {
    for info in xen.domains(DomId::DOM0)? {
        if name(store, info.domain)?.as_deref() == Some(wanted) {
            return Ok(Some(info.domain));
        }
    }
    Ok(None)
}

/// The UUID of a domain.
pub fn uuid(info: &DomainInfo) -> Uuid {
    Uuid::from_bytes(info.handle)
}

/// Gives a domain another name.
pub fn rename(xen: &impl Xen, store: &Client, domain: DomId, name: &str) -> Result<()> {
    if let Some(other) = find_named(xen, store, name)?
        && other != domain
    {
        return Err(Error::NameTaken { name: name.into(), domain: other });
    }
    let vm = store.read_optional(&format!("{}/vm", domain_path(domain)))?;
    store.transaction(|transaction| {
        transaction.write(&format!("{}/name", domain_path(domain)), name)?;
        if let Some(vm) = &vm {
            transaction.write(&format!("{vm}/name"), name)?;
        }
        Ok(())
    })
}

/// Keeps a domain that stopped under another name and UUID, so that its own can be used again.
pub fn preserve(
    xen: &impl Xen,
    store: &Client,
    files: &Userdata,
    info: &DomainInfo,
    name: &str,
    new: Uuid,
) -> Result<()> {
    let (domain, old) = (info.domain, uuid(info));
    rename(xen, store, domain, name)?;
    store.transaction(|transaction| {
        let (from, to) = (format!("/vm/{old}"), format!("/vm/{new}"));
        store::directory(transaction, &to, &store::readable_by(domain))?;
        for key in transaction.directory_or_empty(&from)? {
            let value = transaction.read_string(&format!("{from}/{key}"))?;
            let value = if key == "uuid" { new.to_string() } else { value };
            transaction.write(&format!("{to}/{key}"), &value)?;
        }
        transaction.write(&format!("{}/vm", domain_path(domain)), &to)?;
        Ok::<_, Error>(transaction.rm(&from)?)
    })?;
    files.rename(domain, old, new);
    Ok(xen.set_handle(domain, *new.as_bytes())?)
}

/// Asks a guest to shut down or restart, and waits until it has read that.
pub fn request(xen: &impl Xen, store: &Client, domain: DomId, request: Request) -> Result<()> {
    if domain == DomId::DOM0 {
        let why = "shut the host down from within, with poweroff or reboot";
        return Err(Error::Refused { domain, why: why.into() });
    }
    xen.domain_info(domain)?;
    let path = format!("{}/control/shutdown", domain_path(domain));
    store.write(&path, request.word())?;
    let read = store::wait_for(store, &path, ACKNOWLEDGE, || {
        let now = store.read_optional(&path)?;
        if now.is_none_or(|now| now.is_empty()) {
            return Ok(Some(()));
        }
        // A guest that shut down by itself will not read anything any more.
        let info = xen.domain_info(domain);
        Ok(info.map_or(true, |info| info.shutdown.is_some() || info.dying).then_some(()))
    })?;
    if read.is_some() {
        return Ok(());
    }
    store.write(&path, "")?;
    Err(Error::TimedOut { domain, what: "acknowledge the request", seconds: ACKNOWLEDGE.as_secs() })
}

/// Removes a domain with all that belongs to it: devices, nodes, loop devices, files, memory.
///
/// Goes on after a failure, so that nothing more than it must is left; the first failure is returned.
pub fn destroy(xen: &impl Xen, store: &Client, files: &Userdata, domain: DomId) -> Result<()> {
    if domain == DomId::DOM0 {
        return Err(Error::Refused { domain, why: "Dom0 cannot be destroyed".into() });
    }
    let info = xen.domain_info(domain)?;
    take_back(xen, store, files, domain, uuid(&info))
}

/// Like [`destroy`], for a domain that may be gone from the hypervisor already while others still have
/// something of it: one whose making failed since somebody else destroyed it meanwhile.
pub fn take_back(
    xen: &impl Xen,
    store: &Client,
    files: &Userdata,
    domain: DomId,
    uuid: Uuid,
) -> Result<()> {
    let paused = match xen.pause_domain(domain) {
        // It is dying already: nothing of it runs.
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::SRCH) => Ok(()),
        answer => answer.map_err(Error::from),
    };
    let forgotten = forget(store, files, domain, uuid);
    let destroyed = match xen.destroy_domain(domain) {
        // Somebody else was quicker.
        Err(error) if error.is(Errno::SRCH) => Ok(()),
        answer => answer.map_err(Error::from),
    };
    paused.and(forgotten).and(destroyed)
}

/// Removes what a domain has outside the hypervisor.
pub fn forget(store: &Client, files: &Userdata, domain: DomId, uuid: Uuid) -> Result<()> {
    let mut first = Ok(());
    for device in devices::list(store, domain)? {
        first = first.and(device.remove(store));
    }
    let vm = store.read_optional(&format!("{}/vm", domain_path(domain)))?;
    let nodes = store.transaction(|transaction| {
        let paths = [Some(notes_path(domain)), Some(domain_path(domain)), vm.clone()];
        for path in paths.into_iter().flatten() {
            if transaction.exists(&path)? {
                transaction.rm(&path)?;
            }
        }
        Ok(())
    });
    files.remove(domain, uuid);
    first.and(nodes)
}

/// How a domain ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// It shut down, and is still there.
    ShutDown(DomainInfo),
    /// Somebody destroyed it.
    Destroyed,
}

/// How `domain` has ended, if it has; one of that number with another UUID is not it.
pub fn end(xen: &impl Domctl, domain: DomId, uuid: Uuid) -> Result<Option<End>> {
    match xen.domain_info(domain) {
        Ok(info) if info.dying || Uuid::from_bytes(info.handle) != uuid => Ok(Some(End::Destroyed)),
        Ok(info) if info.shutdown.is_some() => Ok(Some(End::ShutDown(info))),
        Ok(_) => Ok(None),
        Err(error) if error.is(Errno::SRCH) => Ok(Some(End::Destroyed)),
        Err(error) => Err(error.into()),
    }
}

/// Waits until `domain` shuts down or goes away.
pub fn wait_for_end(
    xen: &(impl Domctl + Sysctl),
    store: &Client,
    domain: DomId,
    uuid: Uuid,
) -> Result<End> {
    /// Should an event be missed, this is how late we notice.
    const LONGEST: Duration = Duration::from_secs(600);
    loop {
        let ended = store::wait_for(store, "@releaseDomain", LONGEST, || end(xen, domain, uuid))?;
        if let Some(end) = ended {
            return Ok(end);
        }
    }
}
