//! A back end's way through the states, with a driver that does what each step needs.

use super::protocol::{BackStep, back};
use super::{BusError, Device, XenbusState};
use crate::xenstore::{StoreError, Watch};
use alloc::format;

/// What a back end's driver does at each step.
pub trait BackDriver {
    /// Writes what the device can do into its directory.
    fn announce(&mut self, device: &Device) -> Result<(), BusError>;
    /// Maps the rings the front end named and writes what the device is.
    fn connect(&mut self, device: &Device) -> Result<(), BusError>;
    /// Lets go of the rings.
    fn close(&mut self);
}

/// A back end with its driver.
pub struct Back<D> {
    device: Device,
    watch: Watch,
    /// Of `online`, which the toolstack takes away.
    online: Watch,
    driver: D,
}

/// Where a back end stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackStatus {
    /// It waits for the front end, or is connected.
    State(XenbusState),
    /// The toolstack wants it gone, and it has let go of everything.
    Removed,
}

impl<D: BackDriver> Back<D> {
    /// Takes up a device.
    pub fn new(device: Device, driver: D) -> Result<Self, BusError> {
        let watch = device.watch_other()?;
        let online = Watch::new(&format!("{}/online", device.path()))?;
        Ok(Self { device, watch, online, driver })
    }

    /// Does as [`advance`](Self::advance), if there is news; returns where the device stands.
    pub fn poll(&mut self) -> Result<BackStatus, BusError> {
        let news = self.watch.has_fired()? | self.online.has_fired()?;
        if news { self.advance() } else { Ok(BackStatus::State(self.device.state())) }
    }

    /// Goes as far as it can go without waiting.
    ///
    /// An error of the driver closes the device and is returned; the front end may try again.
    pub fn advance(&mut self) -> Result<BackStatus, BusError> {
        let _ = self.watch.has_fired()? | self.online.has_fired()?;
        loop {
            let online = match self.device.read("online") {
                Ok(text) => text.trim() == "1",
                Err(StoreError::NoEntry) => false,
                Err(error) => return Err(error.into()),
            };
            let other = self.device.other_state()?;
            let result = match back(self.device.state(), other, online) {
                BackStep::Wait => return Ok(BackStatus::State(self.device.state())),
                BackStep::Remove => return Ok(BackStatus::Removed),
                BackStep::Announce => self
                    .device
                    .enter_after(self.driver.announce(&self.device), XenbusState::InitWait),
                BackStep::Connect => self
                    .device
                    .enter_after(self.driver.connect(&self.device), XenbusState::Connected),
                BackStep::Part => {
                    self.device.set_state(XenbusState::Closing).map_err(BusError::from)
                }
                BackStep::Close => {
                    self.driver.close();
                    self.device.set_state(XenbusState::Closed).map_err(BusError::from)
                }
            };
            if let Err(error) = result {
                self.fail(&error)?;
                return Err(error);
            }
        }
    }

    /// Closes the device because of an error, such as a front end that lied.
    pub fn fail(&mut self, error: &BusError) -> Result<(), BusError> {
        self.device.report(error);
        self.driver.close();
        Ok(self.device.set_state(XenbusState::Closed)?)
    }

    /// Returns whether the device is connected.
    pub fn is_connected(&self) -> bool {
        self.device.state() == XenbusState::Connected
    }

    /// Returns the watch of the front end's state: when it fires, [`advance`](Self::advance).
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the driver.
    pub fn driver(&mut self) -> &mut D {
        &mut self.driver
    }
}
