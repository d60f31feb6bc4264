//! The virtual interrupt controller of a domain.
//!
//! It holds the true state of every interrupt (pending, active, enabled, priority, trigger, target) and
//! decides which of them go in a vCPU's list registers. `hv-arch` owns those registers behind
//! [`ListRegisters`]; the caller wakes or kicks whom a [`Kick`] names.

mod kick;
mod list_register;

pub use kick::{Kick, VcpuSet};
pub use list_register::{ListRegister, ListRegisters, MAX_LIST_REGISTERS, Maintenance};
