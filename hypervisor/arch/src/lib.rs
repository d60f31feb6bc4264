//! The machine: registers, tables, vectors and devices, each behind a safe function.
//!
//! The only crate of the hypervisor that may hold `unsafe`. It acts and does not decide: what a guest
//! may do, which interrupt it gets and who runs next is settled in `hv-core`. It is empty off the
//! machine. EL2 runs with interrupts masked throughout, so nothing here is re-entrant.
#![no_std]
#![cfg(target_os = "none")]

extern crate alloc;

pub mod barrier;
pub mod boot;
pub mod cache;
pub mod cpu;
pub mod direct_map;
pub mod gic;
pub mod guest_copy;
pub mod heap;
pub mod lock;
pub mod mmu;
pub mod percpu;
pub mod power;
mod regs;
pub mod semihosting;
pub mod stage2;
pub mod timer;
pub mod trap;
pub mod uart;
pub mod vcpu;
pub mod watchdog;

pub use boot::BootInfo;
pub use direct_map::DirectMap;
pub use lock::Lock;
pub use percpu::{MAX_CPUS, PerCpu, this_cpu};
pub use vcpu::{ExitReason, VcpuContext};
