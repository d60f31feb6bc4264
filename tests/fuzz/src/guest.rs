//! What a guest made with `pv-guest-lib` shares with others.

pub mod folder;
pub mod network;
pub mod requests;
pub mod rings;
pub mod store;
