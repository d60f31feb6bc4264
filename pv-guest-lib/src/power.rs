//! PSCI calls, other SMC calls, and the end.

use crate::hypercall::sched;
use core::arch::asm;

/// `PSCI_VERSION`
pub const PSCI_VERSION: u64 = 0x8400_0000;
/// `CPU_SUSPEND`, 64-bit
pub const CPU_SUSPEND: u64 = 0xc400_0001;
/// `CPU_OFF`
pub const CPU_OFF: u64 = 0x8400_0002;
/// `CPU_ON`, 64-bit
pub const CPU_ON: u64 = 0xc400_0003;
/// `AFFINITY_INFO`, 64-bit
pub const AFFINITY_INFO: u64 = 0xc400_0004;
/// `MIGRATE_INFO_TYPE`
pub const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
/// `SYSTEM_OFF`
pub const SYSTEM_OFF: u64 = 0x8400_0008;
/// `SYSTEM_RESET`
pub const SYSTEM_RESET: u64 = 0x8400_0009;
/// `PSCI_FEATURES`
pub const PSCI_FEATURES: u64 = 0x8400_000a;
/// `SMCCC_VERSION`
pub const SMCCC_VERSION: u64 = 0x8000_0000;
/// `SMCCC_ARCH_FEATURES`
pub const SMCCC_ARCH_FEATURES: u64 = 0x8000_0001;

/// Makes a call by `HVC #0` (Arm DEN0028); returns x0 to x3.
///
/// # Safety
///
/// The function called must not change memory of the guest.
pub unsafe fn call(function: u64, arguments: [u64; 3]) -> [u64; 4] {
    let [mut x1, mut x2, mut x3] = arguments;
    let mut x0 = function;
    // SAFETY: the calling convention keeps everything but x0 to x17; the caller answers for the rest.
    unsafe {
        asm!("hvc #0", inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _, options(nostack))
    };
    [x0, x1, x2, x3]
}

/// Makes a call by `SMC #0`, as [`call`].
///
/// # Safety
///
/// The function called must not change memory of the guest.
pub unsafe fn call_by_smc(function: u64, arguments: [u64; 3]) -> [u64; 4] {
    let [mut x1, mut x2, mut x3] = arguments;
    let mut x0 = function;
    // SAFETY: as for `call`.
    unsafe {
        asm!("smc #0", inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _, options(nostack))
    };
    [x0, x1, x2, x3]
}

/// Asks whether a processor is on: 0 on, 1 off, 2 about to be on, negative for an error.
pub fn affinity_info(affinity: u64, level: u64) -> i64 {
    // SAFETY: the call only asks.
    let [answer, ..] = unsafe { call(AFFINITY_INFO, [affinity, level, 0]) };
    answer.cast_signed()
}

/// Turns this processor off; returns only the error of a call that failed.
pub fn cpu_off() -> i64 {
    // SAFETY: the processor stops here, or goes on as it was.
    let [answer, ..] = unsafe { call(CPU_OFF, [0; 3]) };
    answer.cast_signed()
}

/// Shuts the domain down for `reason`, one of `SHUTDOWN_`; Dom0 takes the machine along.
pub fn shutdown(reason: u32) -> ! {
    crate::console::drain();
    let _ = sched::shutdown(reason);
    // SAFETY: the call ends the machine or changes nothing.
    unsafe { call(SYSTEM_OFF, [0; 3]) };
    loop {
        crate::cpu::wait_for_interrupt();
    }
}
