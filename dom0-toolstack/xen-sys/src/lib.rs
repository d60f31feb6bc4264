//! Hypercalls and device nodes of a Xen Dom0, as safe calls.
//!
//! The toolstack's only unsafe code lives here: [`privcmd`], [`evtchn`] and [`gntdev`] each wrap one device node.

mod error;
pub mod evtchn;
pub mod gntdev;
mod ids;
mod ioctl;
mod pages;
pub mod privcmd;

pub use error::{Error, Result, errno_name};
pub use ids::{DomId, Gfn, GrantRef, Port};
pub use pages::SharedPages;
pub use rustix::io::Errno;

/// Size of a page in the hypercall interface, whatever the kernel's page size.
pub const PAGE_SIZE: usize = 4096;
