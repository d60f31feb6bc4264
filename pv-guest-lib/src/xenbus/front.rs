//! A front end's way through the states, with a driver that does what each step needs.

use super::protocol::{FrontStep, front, shown};
use super::{BusError, Device, XenbusState};
use crate::time;
use crate::xenstore::Watch;

/// What a front end's driver does at each step.
pub trait FrontDriver {
    /// The back end waits for Connected and not for Initialised ([`shown`]).
    const EARLY: bool = false;

    /// Makes rings and channels and writes where they are into the device's directory.
    fn publish(&mut self, device: &Device) -> Result<(), BusError>;
    /// Reads what the back end says of the device and starts to use it.
    fn connect(&mut self, device: &Device) -> Result<(), BusError>;
    /// Stops and lets go of rings and channels; what was asked and not answered is to be asked again after the next `connect`.
    fn close(&mut self);
}

/// A front end with its driver.
pub struct Front<D> {
    device: Device,
    watch: Watch,
    wanted: bool,
    driver: D,
}

impl<D: FrontDriver> Front<D> {
    /// Takes up a device, from whatever state an earlier user left it in.
    pub fn new(device: Device, driver: D) -> Result<Self, BusError> {
        let watch = device.watch_other()?;
        let mut front = Self { device, watch, wanted: true, driver };
        if front.device.state() != XenbusState::Initialising {
            front.device.set_state(XenbusState::Initialising)?;
        }
        Ok(front)
    }

    /// Goes as far as it can go without waiting; returns the state it came to.
    ///
    /// An error of the driver closes the device and is returned; it is connected again if the back end starts anew.
    pub fn advance(&mut self) -> Result<XenbusState, BusError> {
        self.watch.has_fired()?;
        loop {
            let other = self.device.other_state()?;
            let result = match front(self.device.state(), other, self.wanted) {
                FrontStep::Wait => return Ok(self.device.state()),
                FrontStep::Publish => {
                    let done = self.driver.publish(&self.device);
                    let next = XenbusState::Initialised;
                    self.device.enter_showing(done, next, shown(next, D::EARLY))
                }
                FrontStep::Connect => self
                    .device
                    .enter_after(self.driver.connect(&self.device), XenbusState::Connected),
                FrontStep::Close => {
                    self.driver.close();
                    self.device.set_state(XenbusState::Closed).map_err(BusError::from)
                }
                FrontStep::Restart => {
                    self.device.set_state(XenbusState::Initialising).map_err(BusError::from)
                }
            };
            if let Err(error) = result {
                self.fail(&error)?;
                return Err(error);
            }
        }
    }

    /// Closes the device because of an error.
    pub fn fail(&mut self, error: &BusError) -> Result<(), BusError> {
        self.device.report(error);
        self.driver.close();
        Ok(self.device.set_state(XenbusState::Closed)?)
    }

    /// Waits until the device is connected, at most so many milliseconds.
    pub fn wait_connected(&mut self, milliseconds: u64) -> Result<(), BusError> {
        let deadline = in_milliseconds(milliseconds);
        self.wait_until(deadline, |front| Ok(front.advance()? == XenbusState::Connected))
    }

    /// Looks whether it is so, now and at each change of the back end's state.
    fn wait_until(
        &mut self,
        deadline: u64,
        mut is_so: impl FnMut(&mut Self) -> Result<bool, BusError>,
    ) -> Result<(), BusError> {
        while !is_so(self)? {
            let left = deadline.saturating_sub(time::now()) / time::microseconds(1000).max(1);
            match self.watch.next_within(left) {
                Some(event) => drop(event?),
                None => return Err(BusError::Timeout),
            }
        }
        Ok(())
    }

    /// Returns whether the device is connected, as far as is known without asking the store.
    pub fn is_connected(&self) -> bool {
        self.device.state() == XenbusState::Connected
    }

    /// Returns the watch of the back end's state: when it fires, [`advance`](Self::advance).
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

    /// Ends the device and waits until the back end has let go, at most so many milliseconds.
    pub fn close(&mut self, milliseconds: u64) -> Result<(), BusError> {
        self.wanted = false;
        let deadline = in_milliseconds(milliseconds);
        self.advance()?;
        self.wait_until(deadline, |front| {
            let other = front.device.other_state()?;
            Ok(matches!(other, XenbusState::Closed | XenbusState::Unknown | XenbusState::InitWait))
        })
    }
}

/// Returns the time that comes after so many milliseconds, in ticks.
fn in_milliseconds(milliseconds: u64) -> u64 {
    time::now() + time::microseconds(milliseconds * 1000)
}
