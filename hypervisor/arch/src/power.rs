//! Turning things on and off: processors and the machine (PSCI), and sleeping until an interrupt.

use crate::mmu::MapError;
use crate::regs::IsrEl1;
use crate::{boot, direct_map};
use core::arch::asm;
use hv_core::addr::MachineAddr;
use hv_core::ids::CpuId;
use smccc::{Smc, psci};

/// Why a processor did not start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartError {
    /// More processors than `MAX_CPUS`.
    TooMany,
    /// The firmware refused, with this PSCI error.
    Firmware(psci::Error),
    /// The place in memory that it waits at cannot be reached.
    Unreachable(MapError),
}

/// Starts the processor whose affinity is `affinity` as number `cpu`; it runs `main`, which must be
/// the same function for every processor.
pub fn start_cpu(affinity: u64, cpu: CpuId, main: fn(CpuId) -> !) -> Result<(), StartError> {
    if cpu.index() >= crate::MAX_CPUS {
        return Err(StartError::TooMany);
    }
    let entry = boot::prepare_secondary(main);
    crate::barrier::dsb_sy();
    psci::cpu_on::<Smc>(affinity, entry.raw(), u64::from(cpu.0)).map_err(StartError::Firmware)
}

/// Starts a processor that waits for an address to appear at `place`, as number `cpu`; otherwise as
/// [`start_cpu`] does.
///
/// Wait until it is up before you start the next: both would look in the same place for their number.
///
/// # Errors
///
/// If it is memory that somebody has, or `place` is none of 8 aligned bytes.
pub fn start_waiting_cpu(
    place: MachineAddr,
    cpu: CpuId,
    main: fn(CpuId) -> !,
) -> Result<(), StartError> {
    if cpu.index() >= crate::MAX_CPUS {
        return Err(StartError::TooMany);
    }
    let entry = boot::prepare_waiting(cpu, main);
    direct_map::store_release_address(place, entry).map_err(StartError::Unreachable)?;
    // SAFETY: it only wakes processors that wait for it.
    unsafe { asm!("dsb sy", "sev", options(nostack, preserves_flags)) };
    Ok(())
}

/// Turns the machine off.
pub fn system_off() -> ! {
    // The call returns only if the firmware cannot do it; then standing still is what is left.
    let _ = psci::system_off::<Smc>();
    halt()
}

/// Restarts the machine.
pub fn system_reset() -> ! {
    let _ = psci::system_reset::<Smc>();
    halt()
}

/// Stops this processor for good.
pub fn halt() -> ! {
    loop {
        wait_for_interrupt();
    }
}

/// Sleeps until an interrupt is pending; it stays pending, to be acknowledged by the caller.
#[inline]
pub fn wait_for_interrupt() {
    // SAFETY: the instruction only waits; the barrier completes what others may be waiting for.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Says whether a physical interrupt waits for this processor: long work should stop and let it in.
#[inline(always)]
pub fn interrupt_pending() -> bool {
    const IRQ_OR_FIQ: u64 = 0b11 << 6;
    IsrEl1::get() & IRQ_OR_FIQ != 0
}
