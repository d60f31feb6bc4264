//! What every command works with: global options, and the hypervisor and the store, opened when needed.

use std::cell::OnceCell;
use std::fs::{File, create_dir_all};
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use toolstack::userdata::Userdata;
use toolstack::{domain, plain, unfinished};
use xen_sys::DomId;
use xen_sys::domctl::{DomainInfo, Domctl};
use xen_sys::privcmd::Privcmd;
use xenstore::client::Client;

use crate::outcome::{FAILURE, Failure, Outcome};

/// Held while a domain is made, renamed, destroyed or made anew: no two get the same name, and nobody destroys
/// what is only half there or about to come back.
const LOCK: &str = "/run/lock/xl";
const LOCK_DIRECTORY: &str = "/run/lock";
/// How long [`Context::lock_or_go_on`] waits before it says so, and then.
const UNTOLD_WAIT: Duration = Duration::from_secs(3);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

fn open_lock() -> io::Result<File> {
    let open = || File::create(LOCK);
    // A fresh /run has no directory for locks.
    open().or_else(|_| create_dir_all(LOCK_DIRECTORY).and_then(|()| open()))
}

/// What every command works with.
#[derive(Debug, Default)]
pub struct Context {
    /// How much is said about what goes on.
    pub verbosity: u8,
    /// Whether nothing is to be done, only shown.
    pub dry_run: bool,
    /// What the toolstack remembers of domains.
    pub files: Userdata,
    xen: OnceCell<Privcmd>,
    store: OnceCell<Client>,
}

impl Context {
    /// The hypervisor.
    pub fn xen(&self) -> Outcome<&Privcmd> {
        if let Some(xen) = self.xen.get() {
            return Ok(xen);
        }
        let opened = Privcmd::open()?;
        Ok(self.xen.get_or_init(|| opened))
    }

    /// The store.
    pub fn store(&self) -> Outcome<&Client> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let opened = Client::connect()?;
        Ok(self.store.get_or_init(|| opened))
    }

    /// Keeps other commands from making, renaming or destroying domains, until dropped; takes back what killed ones
    /// left.
    pub fn lock(&self) -> Outcome<File> {
        let failed = |error: io::Error| {
            Failure::Failed(FAILURE, format!("xl: cannot lock {LOCK}: {}", plain(&error)))
        };
        let file = open_lock().map_err(failed)?;
        file.lock().map_err(failed)?;
        if !self.dry_run {
            unfinished::recover(self.xen()?, self.store()?, &self.files)?;
        }
        Ok(file)
    }

    /// Like [`Context::lock`], for what must be possible in the end whatever another command waits for:
    /// goes on without after half a minute.
    pub fn lock_or_go_on(&self) -> Option<File> {
        let file = open_lock().ok()?;
        let (sender, locked) = mpsc::channel();
        // Only who waits in the kernel gets a lock that others take again as soon as they gave it back.
        thread::spawn(move || {
            let locked = file.lock().map(|()| file);
            // Nobody listens where it took too long; the lock ends with the file then.
            let _ = sender.send(locked.ok());
        });
        locked
            .recv_timeout(UNTOLD_WAIT)
            .or_else(|_| {
                eprintln!("xl: waiting for another command that is at work on a domain");
                locked.recv_timeout(LONGEST_WAIT)
            })
            .unwrap_or_else(|_| {
                eprintln!("xl: it is still at work: going on");
                None
            })
    }

    /// Takes back what killed commands left, unless another command is at work on domains.
    ///
    /// It never stands in the way of the command that was typed.
    pub fn take_back_unfinished(&self) {
        if self.dry_run || self.files.unfinished().found().is_empty() {
            return;
        }
        let Ok(lock) = open_lock() else { return };
        if lock.try_lock().is_err() {
            return;
        }
        let (Ok(xen), Ok(store)) = (self.xen(), self.store()) else { return };
        match unfinished::recover(xen, store, &self.files) {
            Ok(removed) => {
                for domain in removed {
                    eprintln!("xl: removed domain {domain}, left half made by a killed command");
                }
            }
            Err(error) => eprintln!("xl: what a killed command left cannot be removed: {error}"),
        }
    }

    /// The domain that `text` names or numbers.
    pub fn domain(&self, text: &str) -> Outcome<DomId> {
        Ok(domain::find(self.xen()?, self.store()?, text)?)
    }

    /// A domain's state.
    pub fn info(&self, domain: DomId) -> Outcome<DomainInfo> {
        Ok(self.xen()?.domain_info(domain)?)
    }

    /// A domain's name, empty where it has none.
    pub fn name(&self, domain: DomId) -> Outcome<String> {
        Ok(domain::name(self.store()?, domain)?.unwrap_or_default())
    }
}
