//! Last words: what went wrong, where, and how it came to that; then the machine stops.
//!
//! A panic is a defect of the hypervisor's own. Its output must come out whatever state the rest is
//! in, so it takes no lock: the serial port is written directly.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether a processor panics already; a second one only stops.
static PANICKING: AtomicBool = AtomicBool::new(false);

/// Reports a panic on the serial port and stops this processor, and with it what it ran.
///
/// The addresses are those of the image: `addr2line` on the file with symbols beside it
/// (`target/dist/qemu-virt.elf`) turns them into lines.
pub fn report(info: &PanicInfo<'_>) -> ! {
    if !PANICKING.swap(true, Ordering::SeqCst) {
        let mut port = hv_arch::uart::Emergency;
        // Nothing can be done about a serial port that does not work.
        let _ = writeln!(port, "\n(Domus) panic on {:?}: {info}", hv_arch::this_cpu());
        let _ = writeln!(port, "(Domus) called from:");
        for address in hv_arch::trap::backtrace().take(32) {
            let _ = writeln!(port, "(Domus)   {address:#018x}");
        }
        let _ = writeln!(port, "(Domus) the machine stops here; reset it to go on");
    }
    hv_arch::power::halt()
}
