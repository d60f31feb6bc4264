//! States of a device's two ends (`public/io/xenbus.h`).

/// Where one end of a device stands, as a decimal number in its `state` node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u32)]
pub enum XenbusState {
    /// Not known; also what a missing node means.
    Unknown = 0,
    /// Starting.
    Initialising = 1,
    /// Waiting for the other end's information.
    InitWait = 2,
    /// Published its information, waiting to be connected.
    Initialised = 3,
    /// Working.
    Connected = 4,
    /// Going away.
    Closing = 5,
    /// Gone.
    Closed = 6,
    /// Changing its configuration.
    Reconfiguring = 7,
    /// Done with that.
    Reconfigured = 8,
}

impl XenbusState {
    /// Returns the state with that number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Unknown,
            1 => Self::Initialising,
            2 => Self::InitWait,
            3 => Self::Initialised,
            4 => Self::Connected,
            5 => Self::Closing,
            6 => Self::Closed,
            7 => Self::Reconfiguring,
            8 => Self::Reconfigured,
            _ => return None,
        })
    }

    /// Returns the state's number.
    pub const fn number(self) -> u32 {
        self as u32
    }
}
