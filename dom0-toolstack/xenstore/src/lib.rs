//! The xenstore protocol: wire format, client and server.
//!
//! [`wire`] says what travels; [`client`] asks; [`server`] decides. The server is a pure state
//! machine: the daemon `xenstored` feeds it messages and carries out what it returns.
#![forbid(unsafe_code)]

pub mod cage;
pub mod client;
pub mod complaints;
pub mod daemon;
pub mod link;
pub mod path;
pub mod permission;
pub mod quota;
pub mod record;
pub mod ring;
pub mod server;
pub mod transaction;
pub mod tree;
pub mod watch;
pub mod wire;
