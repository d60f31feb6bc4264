//! Grants: letting another domain use a page and taking that back, using another's, and copying.
//!
//! [`Granted`] is memory of this domain's that another may use; it is taken back when it is dropped, and if the other domain still uses it
//! then, it is kept aside until it no longer does. [`Mapping`] is memory of another domain's, mapped until it is dropped.

pub mod space;
#[cfg(target_os = "none")]
mod table;

#[cfg(target_os = "none")]
pub(crate) use active::resume;
#[cfg(target_os = "none")]
pub use active::{Copy, Grant, GrantError, Granted, Mapping, Side, copy, limits, map_status};
#[cfg(target_os = "none")]
pub use table::{Access, GrantTable};

#[cfg(target_os = "none")]
mod active;
