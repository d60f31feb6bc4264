//! The domain's one connection, and waiting for its answers.

use super::connection::{Connection, Pumped};
use super::message::{text, texts};
use super::{StoreError, rings};
use crate::byte_ring::{Reader, Writer};
use crate::event::Channel;
use crate::hypercall::hvm;
use crate::lock::Lock;
use crate::page::{SIZE, SharedPage};
use crate::{map, time, wait};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::str::FromStr;
use core::task::Poll;
use hypercall_abi::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};
use hypercall_abi::ids::DOMID_SELF;
use hypercall_abi::io::xs_wire::{
    XS_DIRECTORY, XS_GET_PERMS, XS_READ, XS_RM, XS_SET_PERMS, XS_TRANSACTION_END,
    XS_TRANSACTION_START, XS_UNWATCH, XS_WATCH, XS_WRITE,
};

/// The connection and the channel that tells of it.
struct Store {
    connection: Connection,
    channel: Arc<Channel>,
}

static STORE: Lock<Option<Store>> = Lock::new(None);

/// Connects to the store unless that was done.
fn connect() -> Result<(), StoreError> {
    if STORE.with(|store| store.is_some()) {
        return Ok(());
    }
    let (page, channel) = places()?;
    let channel = Arc::new(channel);
    let [requests, responses] = rings(page.pages());
    let connection = Connection::new(Writer::new(requests), Reader::new(responses));
    channel.set_handler(Some(Arc::new(pump)));
    // Two processors may come here at once; the second connection is not used.
    STORE.with(|store| {
        store.get_or_insert(Store { connection, channel });
    });
    Ok(())
}

/// Finds the store's page and channel, which the toolstack made.
fn places() -> Result<(SharedPage, Channel), StoreError> {
    let parameter = |index| hvm::get_param(DOMID_SELF, index).map_err(|_| StoreError::NoStore);
    let frame = parameter(HVM_PARAM_STORE_PFN)?;
    let port = u32::try_from(parameter(HVM_PARAM_STORE_EVTCHN)?);
    let port = port.map_err(|_| StoreError::NoStore)?;
    if frame == 0 || frame == u64::MAX || port == 0 {
        return Err(StoreError::NoStore);
    }
    map::make_memory(frame * SIZE, SIZE);
    // SAFETY: the toolstack put the store's page there; nothing else of this library reaches it, but as shared.
    let page = unsafe { SharedPage::at(frame * SIZE) };
    let channel = Channel::adopt(port).map_err(|_| StoreError::NoStore)?;
    Ok((page, channel))
}

/// Connects again after this domain was suspended: the page and the port may be others, and the watches are gone.
pub fn reconnect() -> Result<(), StoreError> {
    if STORE.with(|store| store.is_none()) {
        return Ok(());
    }
    let (page, channel) = places()?;
    let channel = Arc::new(channel);
    channel.set_handler(Some(Arc::new(pump)));
    let [requests, responses] = rings(page.pages());
    let watches = STORE.with(|store| {
        let Some(store) = store else { return Vec::new() };
        store.connection.restart(Writer::new(requests), Reader::new(responses));
        store.channel = channel;
        let watches = store.connection.watches();
        watches.map(|(token, path)| (token, String::from(path))).collect()
    });
    for (token, path) in watches {
        let token = format!("{token}");
        ask(XS_WATCH, 0, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"])?;
    }
    Ok(())
}

/// Moves what can be moved and tells who waits for it.
fn pump() {
    let pumped = STORE.with(|store| {
        let store = store.as_mut()?;
        let Pumped { notify, wake } = store.connection.pump();
        Some((notify.then(|| Arc::clone(&store.channel)), wake))
    });
    let Some((notify, wake)) = pumped else { return };
    if let Some(channel) = notify {
        // A port that is gone tells nobody, and the answer will not come either.
        let _ = channel.notify();
    }
    wake.into_iter().for_each(|waker| waker.wake());
}

fn with<R>(work: impl FnOnce(&mut Connection) -> R) -> Result<R, StoreError> {
    STORE
        .with(|store| store.as_mut().map(|store| work(&mut store.connection)))
        .ok_or(StoreError::NoStore)
}

/// Asks, and waits for the answer.
fn ask(kind: u32, transaction: u32, parts: &[&[u8]]) -> Result<Vec<u8>, StoreError> {
    connect()?;
    let id = with(|connection| connection.ask(kind, transaction, parts))??;
    pump();
    let mut answer = None;
    wait::until(|| {
        // With interrupts kept out the handler cannot run, so this looks for itself.
        pump();
        answer = with(|connection| connection.answer(id)).unwrap_or_else(|error| Some(Err(error)));
        answer.is_some()
    });
    answer.unwrap_or(Err(StoreError::Lost))
}

/// In or out of a transaction: where operations happen.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    transaction: u32,
}

impl Scope {
    /// Outside of any transaction.
    pub const PLAIN: Self = Self { transaction: 0 };

    /// Reads a node as bytes.
    pub fn read_bytes(self, path: &str) -> Result<Vec<u8>, StoreError> {
        ask(XS_READ, self.transaction, &[path.as_bytes(), b"\0"])
    }

    /// Reads a node as text.
    pub fn read(self, path: &str) -> Result<String, StoreError> {
        text(&self.read_bytes(path)?)
    }

    /// Reads a node as a number or whatever else its text stands for.
    pub fn read_as<T: FromStr>(self, path: &str) -> Result<T, StoreError> {
        self.read(path)?.trim().parse().map_err(|_| StoreError::NotText)
    }

    /// Writes a node, which is made if need be.
    pub fn write(self, path: &str, value: &str) -> Result<(), StoreError> {
        ask(XS_WRITE, self.transaction, &[path.as_bytes(), b"\0", value.as_bytes()]).map(drop)
    }

    /// Returns the names of a node's children.
    pub fn directory(self, path: &str) -> Result<Vec<String>, StoreError> {
        texts(&ask(XS_DIRECTORY, self.transaction, &[path.as_bytes(), b"\0"])?)
    }

    /// Removes a node and all below it.
    pub fn remove(self, path: &str) -> Result<(), StoreError> {
        ask(XS_RM, self.transaction, &[path.as_bytes(), b"\0"]).map(drop)
    }
}

/// Reads a node as text.
pub fn read(path: &str) -> Result<String, StoreError> {
    Scope::PLAIN.read(path)
}

/// Writes a node, which is made if need be.
pub fn write(path: &str, value: &str) -> Result<(), StoreError> {
    Scope::PLAIN.write(path, value)
}

/// Returns the names of a node's children.
pub fn directory(path: &str) -> Result<Vec<String>, StoreError> {
    Scope::PLAIN.directory(path)
}

/// Removes a node and all below it.
pub fn remove(path: &str) -> Result<(), StoreError> {
    Scope::PLAIN.remove(path)
}

/// Lets another domain read a node of this domain's, which keeps all rights.
pub fn let_read(path: &str, domain: u16) -> Result<(), StoreError> {
    let owner = text(&ask(XS_GET_PERMS, 0, &[path.as_bytes(), b"\0"])?)?;
    let reader = format!("r{domain}");
    let parts = [path.as_bytes(), b"\0", owner.as_bytes(), b"\0", reader.as_bytes(), b"\0"];
    ask(XS_SET_PERMS, 0, &parts).map(drop)
}

/// Returns how often the store had something to say, modulo 2³²: answers and events of any watch.
pub fn events() -> u32 {
    STORE.with(|store| store.as_ref().map_or(0, |store| store.channel.fired()))
}

/// Does what `work` does at once or not at all; `work` is repeated while others interfere.
pub fn transaction<R>(
    mut work: impl FnMut(Scope) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    loop {
        let number = text(&ask(XS_TRANSACTION_START, 0, &[b"\0"])?)?;
        let scope = Scope { transaction: number.parse().map_err(|_| StoreError::BadMessage)? };
        let result = work(scope);
        let verdict: &[u8] = if result.is_ok() { b"T\0" } else { b"F\0" };
        match ask(XS_TRANSACTION_END, scope.transaction, &[verdict]) {
            Err(StoreError::Again) if result.is_ok() => {}
            Err(error) if result.is_ok() => return Err(error),
            _ => return result,
        }
    }
}

/// A watch: it fires once when it is made and then at each change of a node or below it.
pub struct Watch {
    token: u32,
    path: String,
}

impl Watch {
    /// Watches a path, which need not be there yet.
    pub fn new(path: &str) -> Result<Self, StoreError> {
        connect()?;
        let token = with(|connection| connection.add_watch(path))?;
        let watch = Self { token, path: path.into() };
        let token = format!("{token}");
        ask(XS_WATCH, 0, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"])?;
        Ok(watch)
    }

    /// Returns the path of a change that was not taken yet, without waiting.
    pub fn try_next(&self) -> Option<Result<String, StoreError>> {
        pump();
        with(|connection| connection.event(self.token)).unwrap_or_else(|error| Some(Err(error)))
    }

    /// Returns whether there was a change since this was last asked, and forgets it.
    pub fn has_fired(&self) -> Result<bool, StoreError> {
        let mut fired = false;
        while self.try_next().transpose()?.is_some() {
            fired = true;
        }
        Ok(fired)
    }

    /// Waits for a change; returns its path.
    pub fn next(&self) -> Result<String, StoreError> {
        let mut event = None;
        wait::until(|| {
            event = self.try_next();
            event.is_some()
        });
        event.unwrap_or(Err(StoreError::Lost))
    }

    /// Waits for a change, at most so many milliseconds.
    pub fn next_within(&self, milliseconds: u64) -> Option<Result<String, StoreError>> {
        let deadline = time::now() + time::microseconds(milliseconds * 1000);
        let mut event = None;
        wait::until_tick(deadline, || {
            event = self.try_next();
            event.is_some()
        });
        event
    }

    /// Waits for a change in an async task.
    pub async fn changed(&self) -> Result<String, StoreError> {
        poll_fn(|context| {
            // An error shows when the event is asked for.
            let _ = with(|connection| connection.set_waker(self.token, context.waker()));
            self.try_next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let token = format!("{}", self.token);
        // A store that is gone has forgotten the watch.
        let _ = ask(XS_UNWATCH, 0, &[self.path.as_bytes(), b"\0", token.as_bytes(), b"\0"]);
        let _ = with(|connection| connection.remove_watch(self.token));
    }
}
