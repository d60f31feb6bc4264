//! A shared folder of Dom0's: the protocol 9P2000.u, which Xen's `xen-9pfsd` and QEMU speak, over Xen's transport (`public/io/9pfs.h`).
//!
//! [`message`] is what travels, [`client`] asks; both run on the host, where a model of a server answers. `Share` joins them with the bus.
//! The server is not believed: a message of another size, kind or number than asked for is an error, after which the device is closed.

pub mod client;
#[cfg(target_os = "none")]
mod front;
pub mod message;

#[cfg(target_os = "none")]
pub use front::{Bus, Share};
#[cfg(test)]
mod tests;
