//! Hypercalls and device nodes of a Xen Dom0, as safe calls.
//!
//! The toolstack's only unsafe code lives here. Three device nodes are wrapped ([`privcmd`], [`evtchn`],
//! [`gntdev`]); on top of the first, one module per public header offers typed calls as a trait
//! ([`domctl`], [`sysctl`], [`memory`], [`version`], [`event_channel`], [`hvm`]). [`Xen`] is all of
//! them together: [`privcmd::Privcmd`] implements it for a real hypervisor and [`fake`] in memory.

pub mod domctl;
mod error;
pub mod event_channel;
pub mod evtchn;
pub mod fake;
pub mod gntdev;
pub mod hvm;
mod hypfs;
mod ids;
mod ioctl;
pub mod loopdev;
pub mod memory;
pub mod netdev;
mod pages;
pub mod privcmd;
pub mod store_ring;
pub mod sysctl;
pub mod version;

pub use error::{Error, Result, errno_name};
pub use ids::{DomId, Gfn, GrantRef, Port};
pub use pages::SharedPages;
pub use rustix::io::Errno;

/// Size of a page in the hypercall interface, whatever the kernel's page size.
pub const PAGE_SIZE: usize = 4096;

/// Everything a toolstack asks of the hypervisor.
pub trait Xen:
    domctl::Domctl
    + sysctl::Sysctl
    + memory::Memory
    + version::Version
    + event_channel::EventChannel
    + hvm::Hvm
{
}

impl<T> Xen for T where
    T: domctl::Domctl
        + sysctl::Sysctl
        + memory::Memory
        + version::Version
        + event_channel::EventChannel
        + hvm::Hvm
{
}
