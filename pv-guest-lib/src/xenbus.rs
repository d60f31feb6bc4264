//! Devices in two halves and how they find each other: states in the store (`public/io/xenbus.h`).
//!
//! [`protocol`] decides, from the two ends' states, what an end does next. [`Device`] is one end's place in the store. [`front`] and
//! [`back`] join them with a driver: they carry a device from nothing to connected, again after the other end was restarted, and to its end.

pub mod protocol;

#[cfg(target_os = "none")]
pub mod back;
#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
pub mod front;

#[cfg(target_os = "none")]
pub use device::{BusError, Device};
pub use hypercall_abi::io::xenbus::XenbusState;

/// Reads a state as it stands in the store; what makes no sense is [`XenbusState::Unknown`].
pub fn parse_state(text: &str) -> XenbusState {
    text.trim().parse().ok().and_then(XenbusState::from_number).unwrap_or(XenbusState::Unknown)
}
