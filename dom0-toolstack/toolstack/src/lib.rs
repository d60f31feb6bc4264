//! What xl does, as a library: configuration, plans, domains and devices.

pub mod config;
