//! Virtual devices: their nodes in xenstore, and the handshake with the backend that serves them.
//!
//! A device is a directory of the guest's (the front end), a directory of the backend's domain, and a
//! copy of the latter among the toolstack's own notes, which is what it is removed by.

mod bridge;
pub mod console;
pub mod p9;
pub mod vbd;
pub mod vif;

use std::time::Duration;
use std::{fmt, thread};

use xen_sys::DomId;
use xen_sys::domctl::{DomainInfo, Domctl};
use xenstore::client::{Client, Store, Transaction};

use crate::error::{Error, Result};
use crate::store::{self, domain_path, notes_path};

/// How long a backend may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a guest is looked at that is to do something about a device.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many times in a row it must have had nothing to do. It waits for xenstored in between, too, on a busy host for some time.
const QUIET: u32 = 10;
/// How many times it is looked at in all: some guests always have something to do.
const LOOKS: u32 = 100;

/// States of either end (`public/io/xenbus.h`, XenbusState).
pub mod state {
    /// Nodes are there, nobody looked at them.
    pub const INITIALISING: &str = "1";
    /// The backend has said what it offers.
    pub const INIT_WAIT: &str = "2";
    /// Both ends work.
    pub const CONNECTED: &str = "4";
    /// It shall end.
    pub const CLOSING: &str = "5";
    /// It has ended.
    pub const CLOSED: &str = "6";
}

/// Kinds of devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A disk.
    Vbd,
    /// A network interface.
    Vif,
    /// A shared folder, served by xen-9pfsd.
    P9,
    /// A console, served by xenconsoled.
    Console,
    /// An emulated UART, served by xenconsoled, too.
    Vuart,
}

impl Kind {
    /// The directory's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vbd => "vbd",
            Self::Vif => "vif",
            Self::P9 => "9pfs",
            Self::Console => "console",
            Self::Vuart => "vuart",
        }
    }

    /// The directory's name on the backend's side, which tells who serves it.
    const fn backend_name(self) -> &'static str {
        match self {
            Self::P9 => "xen_9pfs",
            other => other.name(),
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Vbd, Self::Vif, Self::P9, Self::Console, Self::Vuart]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Where to look when nobody serves it.
    const fn hint(self) -> &'static str {
        match self {
            Self::Vbd => "is the module xen-blkback loaded?",
            Self::Vif => "is the module xen-netback loaded?",
            Self::P9 => {
                "does xen-9pfsd hang? `pkill -KILL xen-9pfsd` ends it; the next folder starts another"
            }
            Self::Console | Self::Vuart => "does xenconsoled run?",
        }
    }

    /// Whether xenconsoled serves it, which knows no states.
    const fn is_console(self) -> bool {
        matches!(self, Self::Console | Self::Vuart)
    }
}

/// One device of a domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Device {
    /// Whose it is.
    pub domain: DomId,
    /// What it is.
    pub kind: Kind,
    /// Its number.
    pub devid: u32,
    /// Who serves it.
    pub backend: DomId,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.devid)
    }
}

impl Device {
    /// The guest's directory.
    pub fn frontend_path(&self) -> String {
        let domain = domain_path(self.domain);
        match self.kind {
            Kind::Console if self.devid == 0 => format!("{domain}/console"),
            Kind::Vuart => format!("{domain}/vuart/{}", self.devid),
            kind => format!("{domain}/device/{}/{}", kind.name(), self.devid),
        }
    }

    /// The backend's directory.
    pub fn backend_path(&self) -> String {
        let (backend, kind) = (domain_path(self.backend), self.kind.backend_name());
        format!("{backend}/backend/{kind}/{}/{}", self.domain, self.devid)
    }

    fn notes_path(&self) -> String {
        format!("{}/device/{}/{}", notes_path(self.domain), self.kind.name(), self.devid)
    }

    /// Makes both ends, in one transaction. `front` and `back` are added to what every device has.
    pub fn publish(
        &self,
        store: &Client,
        front: &[(&str, String)],
        back: &[(&str, String)],
    ) -> Result<()> {
        let common = [
            ("frontend", self.frontend_path()),
            ("frontend-id", self.domain.to_string()),
            ("online", "1".into()),
            ("state", state::INITIALISING.into()),
        ];
        store.transaction(|transaction| {
            let frontend = self.frontend_path();
            if !self.kind.is_console() {
                let permissions = store::owned_by(self.domain, self.backend);
                store::directory(transaction, &frontend, &permissions)?;
                let own = [
                    ("backend", self.backend_path()),
                    ("backend-id", self.backend.to_string()),
                    ("state", state::INITIALISING.into()),
                ];
                store::entries(transaction, &frontend, &own)?;
                store::entries(transaction, &frontend, front)?;
            }
            let backend = self.backend_path();
            store::directory(transaction, &backend, &store::owned_by(self.backend, self.domain))?;
            for path in [&backend, &self.notes_path()] {
                store::entries(transaction, path, &common)?;
                store::entries(transaction, path, back)?;
            }
            let notes = self.notes_path();
            let ends = [("frontend", frontend), ("backend", backend)];
            store::entries(transaction, &notes, &ends)
        })
    }

    /// Waits until the backend has taken the device.
    pub fn wait_taken(&self, store: &Client) -> Result<()> {
        if self.taken_within(store, TIMEOUT)? { Ok(()) } else { Err(self.not_taken()) }
    }

    /// Waits a while for the backend to take the device, or to refuse it, which is an error; says whether it has.
    pub fn taken_within(&self, store: &Client, timeout: Duration) -> Result<bool> {
        let path = format!("{}/state", self.backend_path());
        let now = store::wait_for(store, &path, timeout, || {
            Ok(store.read_optional(&path)?.filter(|now| now.as_str() != state::INITIALISING))
        })?;
        match now.as_deref() {
            None => Ok(false),
            Some(state::INIT_WAIT | "3" | "4") => Ok(true),
            Some(_) => Err(self.not_taken()),
        }
    }

    /// The error of a device that no backend took in time.
    pub fn not_taken(&self) -> Error {
        Error::NoBackend {
            device: self.to_string(),
            seconds: TIMEOUT.as_secs(),
            hint: self.kind.hint(),
        }
    }

    /// Removes the device whatever the guest says, and what was set up for it on the host.
    ///
    /// Goes on after a failure, so that nothing more than it must is left; the first failure is returned.
    pub fn remove(&self, store: &Client) -> Result<()> {
        let closed = self.close(store);
        let disconnected = match self.kind {
            Kind::Vbd => vbd::disconnect(store, self),
            Kind::Vif => vif::disconnect(store, self),
            Kind::P9 | Kind::Console | Kind::Vuart => Ok(()),
        };
        let forgotten = self.forget(store);
        closed.and(disconnected).and(forgotten)
    }

    /// Removes the device if the guest lets go of it.
    ///
    /// A guest that is just connecting it is left to finish: Linux's driver of disks ends with an error, and serves no
    /// disk any more, when it is asked to close in between (`BUG_ON` in `negotiate_mq`). And it is left to see that
    /// the device is gone, which it has no way to say: where the nodes are there again as it looks, Linux keeps the
    /// device it had and never connects the new one. A guest with nothing to do has done both.
    pub fn detach(&self, xen: &impl Domctl, store: &Client) -> Result<()> {
        let look = || {
            thread::sleep(LOOK_EVERY);
            Look::at(xen.domain_info(self.domain).ok().as_ref())
        };
        until_quiet(|| if self.is_connected(store) { Look::Done } else { look() });
        store.transaction(|transaction| self.ask_to_close(transaction))?;
        if self.has_closed(store)? {
            self.remove(store)?;
            until_quiet(look);
            return Ok(());
        }
        Err(Error::TimedOut {
            domain: self.domain,
            what: "let go of the device",
            seconds: TIMEOUT.as_secs(),
        })
    }

    /// Says whether the guest has connected it.
    fn is_connected(&self, store: &Client) -> bool {
        let state = store.read_optional(&format!("{}/state", self.frontend_path()));
        state.is_ok_and(|state| state.as_deref() == Some(state::CONNECTED))
    }

    /// Tells the backend to let go, and waits until it has.
    fn close(&self, store: &Client) -> Result<()> {
        store.transaction(|transaction| {
            if transaction.exists(&self.frontend_path())? {
                transaction.rm(&self.frontend_path())?;
            }
            self.ask_to_close(transaction)?;
            // A folder's daemon says that it has closed when the guest's nodes go, even if it had before. That has to be waited
            // for: said when its own nodes are gone, it would make them again.
            let state = format!("{}/state", self.backend_path());
            if self.kind == Kind::P9 && transaction.exists(&state)? {
                transaction.write(&state, state::CLOSING)?;
            }
            Ok::<_, Error>(())
        })?;
        if !self.kind.is_console() {
            self.has_closed(store)?;
        }
        Ok(())
    }

    /// Tells the backend that the device will not be opened again and is to be closed, if it is not.
    fn ask_to_close(&self, transaction: &Transaction<'_>) -> Result<()> {
        let backend = self.backend_path();
        let path = format!("{backend}/state");
        let now = transaction.read_optional(&path)?;
        if now.is_some() {
            transaction.write(&format!("{backend}/online"), "0")?;
        }
        if is_open(now.as_deref()) {
            transaction.write(&path, state::CLOSING)?;
        }
        Ok(())
    }

    /// Waits until the backend has closed the device or is gone; says no when it takes too long.
    fn has_closed(&self, store: &Client) -> Result<bool> {
        let path = format!("{}/state", self.backend_path());
        let closed = store::wait_for(store, &path, TIMEOUT, || {
            let now = store.read_optional(&path)?;
            if is_reopened(now.as_deref()) {
                store.transaction(|transaction| self.ask_to_close(transaction))?;
            }
            Ok((!is_open(now.as_deref())).then_some(()))
        })?;
        Ok(closed.is_some())
    }

    /// Removes all nodes.
    fn forget(&self, store: &Client) -> Result<()> {
        store.transaction(|transaction| {
            let backend_root = domain_path(self.backend);
            store::remove_up_to(transaction, &self.backend_path(), &backend_root)?;
            let frontend_root = domain_path(self.domain);
            store::remove_up_to(transaction, &self.frontend_path(), &frontend_root)?;
            store::remove_up_to(transaction, &self.notes_path(), &notes_path(self.domain))
        })
    }
}

/// Says whether a backend whose state is `now` has something left to close.
///
/// One that is closed must not be told to close: Linux's never says again that it has.
fn is_open(now: Option<&str>) -> bool {
    now.is_some_and(|now| now != state::CLOSED)
}

/// All devices of `domain`, from the toolstack's notes.
pub fn list(store: &impl Store, domain: DomId) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    let root = format!("{}/device", notes_path(domain));
    for name in store.directory_or_empty(&root)? {
        let Some(kind) = Kind::from_name(&name) else { continue };
        for devid in store.directory_or_empty(&format!("{root}/{name}"))? {
            let Ok(number) = devid.parse() else { continue };
            let backend = store.read_optional(&format!("{root}/{name}/{devid}/backend"))?;
            let backend = backend.as_deref().and_then(|path| path.split('/').nth(3)?.parse().ok());
            let backend = DomId(backend.unwrap_or(0));
            devices.push(Device { domain, kind, devid: number, backend });
        }
    }
    Ok(devices)
}

/// What a guest was doing when it was looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Look {
    Busy,
    Waiting,
    /// It has done what is waited for, or does not run and will see for itself when it does.
    Done,
}

impl Look {
    fn at(info: Option<&DomainInfo>) -> Self {
        match info {
            Some(info) if info.paused || info.dying || info.shutdown.is_some() => Self::Done,
            Some(info) if info.blocked => Self::Waiting,
            Some(_) => Self::Busy,
            None => Self::Done,
        }
    }
}

/// Looks at a guest until it has had nothing to do for a while, or for long enough; returns how often.
fn until_quiet(mut look: impl FnMut() -> Look) -> u32 {
    let mut quiet = 0;
    for number in 1..=LOOKS {
        quiet = match look() {
            Look::Busy => 0,
            Look::Waiting => quiet + 1,
            Look::Done => return number,
        };
        if quiet == QUIET {
            return number;
        }
    }
    LOOKS
}

/// Says whether a backend that was told to close has gone on all the same.
///
/// It does when the guest was just connecting: Linux's answers the front end that it is connected, over the state that
/// we wrote. Told again, both close. libxl waits ten seconds and gives up.
fn is_reopened(now: Option<&str>) -> bool {
    is_open(now) && now != Some(state::CLOSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_looked_at_until_it_waits_for_a_while() {
        let play = |looks: &[Look]| {
            let mut looks = looks.iter().copied();
            until_quiet(|| looks.next().unwrap_or(Look::Busy))
        };
        let interrupted = [&[Look::Waiting, Look::Busy], &[Look::Waiting; 20][..]].concat();
        assert_eq!(play(&[Look::Waiting; 20]), QUIET);
        assert_eq!(play(&interrupted), QUIET + 2);
        assert_eq!(play(&[Look::Busy, Look::Done]), 2);
        assert_eq!(play(&[]), LOOKS);
    }

    #[test]
    fn a_backend_that_connects_though_it_was_told_to_close_is_told_again() {
        assert!(is_reopened(Some(state::INIT_WAIT)) && is_reopened(Some(state::CONNECTED)));
        assert!(!is_reopened(Some(state::CLOSING)) && !is_reopened(Some(state::CLOSED)));
        assert!(!is_reopened(None));
    }

    #[test]
    fn only_a_backend_that_is_there_and_not_closed_is_told_to_close() {
        let open = [state::INITIALISING, state::INIT_WAIT, state::CONNECTED, state::CLOSING];
        assert!(open.iter().all(|now| is_open(Some(now))));
        assert!(!is_open(Some(state::CLOSED)) && !is_open(None));
    }
}
