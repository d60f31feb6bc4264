//! One end of a device: its directory in the store, the other end's, and their states.

use super::{XenbusState, parse_state};
use crate::grant::GrantError;
use crate::hypercall::HypercallError;
use crate::ring::RingError;
use crate::xenstore::{self, Scope, StoreError, Watch};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// Why a device could not be set up, or is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// The store.
    Store(StoreError),
    /// Granting, mapping or copying.
    Grant(GrantError),
    /// Another hypercall, such as binding an event channel.
    Hypercall(HypercallError),
    /// The other end's ring indices make no sense.
    Ring(RingError),
    /// The other end sent something no honest one sends; it says what.
    Lied(&'static str),
    /// The other end does not offer what is needed, or asks for what is not offered.
    Unsupported(&'static str),
    /// The device is not connected.
    Closed,
    /// The other end did not do its part in time.
    Timeout,
}

impl From<StoreError> for BusError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<GrantError> for BusError {
    fn from(error: GrantError) -> Self {
        Self::Grant(error)
    }
}

impl From<HypercallError> for BusError {
    fn from(error: HypercallError) -> Self {
        Self::Hypercall(error)
    }
}

impl From<RingError> for BusError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(formatter, "the store: {error}"),
            Self::Grant(error) => write!(formatter, "a grant: {error:?}"),
            Self::Hypercall(error) => write!(formatter, "a hypercall: {error:?}"),
            Self::Ring(error) => error.fmt(formatter),
            Self::Lied(what) => write!(formatter, "the other end lied: {what}"),
            Self::Unsupported(what) => write!(formatter, "not supported: {what}"),
            Self::Closed => formatter.write_str("the device is not connected"),
            Self::Timeout => formatter.write_str("the other end did not do its part in time"),
        }
    }
}

impl core::error::Error for BusError {}

/// Lists what is below a path that need not be there.
fn names_below(path: &str) -> Result<Vec<String>, StoreError> {
    match xenstore::directory(path) {
        Err(StoreError::NoEntry) => Ok(Vec::new()),
        names => names,
    }
}

/// One end of a device.
pub struct Device {
    own: String,
    other: String,
    peer: u16,
    state: XenbusState,
}

impl Device {
    /// Returns the numbers of this domain's front ends of a kind, such as `vbd`, `vif`, `9pfs`.
    pub fn fronts(kind: &str) -> Result<Vec<u32>, StoreError> {
        let names = names_below(&format!("device/{kind}"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Finds a front end of this domain's.
    pub fn front(kind: &str, number: u32) -> Result<Self, BusError> {
        Self::find(format!("device/{kind}/{number}"), "backend")
    }

    /// Returns the front ends' domains and numbers for which this domain is to be the back end.
    pub fn backs(kind: &str) -> Result<Vec<(u16, u32)>, StoreError> {
        let mut found = Vec::new();
        for domain in names_below(&format!("backend/{kind}"))? {
            let Ok(number) = domain.parse() else { continue };
            for device in names_below(&format!("backend/{kind}/{domain}"))? {
                found.extend(device.parse().ok().map(|device| (number, device)));
            }
        }
        Ok(found)
    }

    /// Finds a back end of this domain's, for front end `number` of `domain`.
    pub fn back(kind: &str, domain: u16, number: u32) -> Result<Self, BusError> {
        Self::find(format!("backend/{kind}/{domain}/{number}"), "frontend")
    }

    fn find(own: String, link: &str) -> Result<Self, BusError> {
        let other = xenstore::read(&format!("{own}/{link}"))?;
        let peer = Scope::PLAIN.read_as(&format!("{own}/{link}-id"))?;
        let state = read_state(&own)?;
        Ok(Self { own, other, peer, state })
    }

    /// Returns the other end's domain.
    pub fn peer(&self) -> u16 {
        self.peer
    }

    /// Returns this end's directory.
    pub fn path(&self) -> &str {
        &self.own
    }

    /// Returns the other end's directory.
    pub fn other_path(&self) -> &str {
        &self.other
    }

    /// Returns this end's state: the one that was last written here, or one that came of it.
    pub fn state(&self) -> XenbusState {
        self.state
    }

    /// Reads the other end's state.
    pub fn other_state(&self) -> Result<XenbusState, StoreError> {
        read_state(&self.other)
    }

    /// Enters `next` if what the driver had to do for it is done.
    pub(super) fn enter_after(
        &mut self,
        done: Result<(), BusError>,
        next: XenbusState,
    ) -> Result<(), BusError> {
        self.enter_showing(done, next, next)
    }

    /// The same, with another state than `next` for the other end to see.
    pub(super) fn enter_showing(
        &mut self,
        done: Result<(), BusError>,
        next: XenbusState,
        shown: XenbusState,
    ) -> Result<(), BusError> {
        done?;
        self.set_state(shown)?;
        self.state = next;
        Ok(())
    }

    /// Moves this end to a state.
    pub fn set_state(&mut self, state: XenbusState) -> Result<(), StoreError> {
        let value = state.number().to_string();
        xenstore::write(&format!("{}/state", self.own), &value)?;
        self.state = state;
        Ok(())
    }

    /// Writes values into this end's directory, all of them at once.
    pub fn write(&self, values: &[(&str, &str)]) -> Result<(), StoreError> {
        xenstore::transaction(|store| {
            for (key, value) in values {
                store.write(&format!("{}/{key}", self.own), value)?;
            }
            Ok(())
        })
    }

    /// Reads text from this end's directory.
    pub fn read(&self, key: &str) -> Result<String, StoreError> {
        xenstore::read(&format!("{}/{key}", self.own))
    }

    /// Reads text from the other end's directory.
    pub fn read_other(&self, key: &str) -> Result<String, StoreError> {
        xenstore::read(&format!("{}/{key}", self.other))
    }

    /// Reads a number, or whatever else a text stands for, from the other end's directory.
    pub fn other<T: FromStr>(&self, key: &str) -> Result<T, StoreError> {
        Scope::PLAIN.read_as(&format!("{}/{key}", self.other))
    }

    /// The same, with a value for a key that is not there; what does not parse is an error.
    pub fn other_or<T: FromStr>(&self, key: &str, missing: T) -> Result<T, StoreError> {
        match self.other(key) {
            Err(StoreError::NoEntry) => Ok(missing),
            value => value,
        }
    }

    /// Returns whether the other end says that it has a feature.
    pub fn other_has(&self, feature: &str) -> Result<bool, StoreError> {
        Ok(self.other_or(feature, 0u32)? != 0)
    }

    /// Watches the other end's state.
    pub fn watch_other(&self) -> Result<Watch, StoreError> {
        Watch::new(&format!("{}/state", self.other))
    }

    /// Says in the store why this end gives up.
    pub fn report(&self, error: &BusError) {
        log::warn!("{}: {error}", self.own);
        // Only for whoever reads it; the toolstack decides whether it may be written.
        let _ = xenstore::write(&format!("error/{}/error", self.own), &format!("{error}"));
    }
}

fn read_state(path: &str) -> Result<XenbusState, StoreError> {
    match xenstore::read(&format!("{path}/state")) {
        Ok(text) => Ok(parse_state(&text)),
        Err(StoreError::NoEntry | StoreError::Denied) => Ok(XenbusState::Unknown),
        Err(error) => Err(error),
    }
}
