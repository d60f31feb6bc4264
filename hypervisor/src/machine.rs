//! The machine, as everything else in this crate sees it.
//!
//! On the machine these names stand for `hv-arch`; on the host for stand-ins that remember what was
//! asked of them, so that handlers and decisions run under `cargo test`. Both offer the same functions.

#[cfg(not(target_os = "none"))]
mod fake;
#[cfg(target_os = "none")]
mod real;

#[cfg(not(target_os = "none"))]
pub use fake::{Asked, GuestSpace, Lists, Machine, Memory, Relax, VcpuContext, VirtualTimer, step};
#[cfg(target_os = "none")]
pub use real::{
    GuestSpace, KICK, Lists, Machine, Memory, PowerSwitch, Relax, VcpuContext, VirtualTimer, step,
};
