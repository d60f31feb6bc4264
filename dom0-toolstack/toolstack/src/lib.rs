//! What xl does, as a library: configuration, plans, domains and devices.
//!
//! A text becomes a [`config::domain::DomainConfig`]; with the host's state that becomes a
//! [`plan::BuildPlan`]; [`build`] carries it out. [`domain`] deals with domains that are there.

pub mod build;
pub mod config;
pub mod cpupool;
pub mod device_tree;
pub mod devices;
pub mod dom0;
pub mod domain;
mod error;
pub mod hotplug;
pub mod image;
pub mod json;
pub mod layout;
pub mod load;
pub mod plan;
pub mod store;
pub mod unfinished;
pub mod userdata;

pub use error::{Error, Result, plain};
