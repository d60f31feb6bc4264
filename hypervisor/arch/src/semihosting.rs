//! The emulator's way out, for tests: it carries an exit status to the host.

use core::arch::asm;

/// Ends the emulator with `status`, by the semihosting call `SYS_EXIT`.
///
/// Needs an emulator started with semihosting enabled; elsewhere the instruction is undefined.
pub fn exit(status: u64) -> ! {
    const SYS_EXIT: u64 = 0x18;
    const APPLICATION_EXIT: u64 = 0x2_0026;
    let block = [APPLICATION_EXIT, status];
    // SAFETY: `block` is the two-word parameter block the call reads, and lives until it returns.
    unsafe { asm!("hlt #0xf000", in("x0") SYS_EXIT, in("x1") block.as_ptr(), options(nostack)) };
    crate::power::halt()
}
