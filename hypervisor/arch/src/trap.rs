//! The hypervisor's own exceptions: always a defect, reported with registers before the machine stops.

use crate::percpu::CpuBlock;
use crate::power;
use crate::regs::{ELR_EL2, ESR_EL2, FAR_EL2, Readable, SPSR_EL2};
use core::arch::global_asm;
use core::fmt;
use core::mem::offset_of;

/// The registers at the moment the hypervisor faulted. `fault.S` knows the layout.
#[repr(C)]
struct FaultFrame {
    general: [u64; 31],
    stack_pointer: u64,
}

impl fmt::Display for FaultFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, registers) in self.general.chunks(4).enumerate() {
            for (column, value) in registers.iter().enumerate() {
                write!(f, "x{:<2} {value:016x}  ", row * 4 + column)?;
            }
            writeln!(f)?;
        }
        write!(f, "sp  {:016x}", self.stack_pointer)
    }
}

/// Panics with what is known about an exception the hypervisor itself caused.
///
/// The backtrace starts from the frame pointer that `fault.S` leaves in x29.
extern "C" fn report_fault(kind: u64, frame: &FaultFrame) -> ! {
    let what = match kind % 4 {
        0 => "synchronous exception",
        1 => "interrupt",
        2 => "fast interrupt",
        _ => "SError",
    };
    panic!(
        "{what} in the hypervisor (vector {kind}): esr {:#x} far {:#x} pc {:#x} spsr {:#x}\n{frame}",
        ESR_EL2.get(),
        FAR_EL2.get(),
        ELR_EL2.get(),
        SPSR_EL2.get(),
    );
}

/// Stops a processor that faulted while it reported a fault.
extern "C" fn give_up() -> ! {
    power::halt()
}

global_asm!(
    include_str!("fault.S"),
    EMERGENCY_STACK = const offset_of!(CpuBlock, emergency_stack),
    FAULTS = const offset_of!(CpuBlock, faults),
    SIZE = const size_of::<FaultFrame>(),
    report_fault = sym report_fault,
    give_up = sym give_up,
);

/// The return addresses of the functions that are running on this stack, innermost first.
#[derive(Debug)]
pub struct Backtrace {
    frame: u64,
}

/// Starts a backtrace at the caller.
#[inline(always)]
pub fn backtrace() -> Backtrace {
    let frame;
    // SAFETY: copying the frame pointer changes nothing.
    unsafe {
        core::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags));
    }
    Backtrace { frame }
}

impl Iterator for Backtrace {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if !crate::boot::is_stack(self.frame, 16) || !self.frame.is_multiple_of(16) {
            return None;
        }
        let record =
            core::ptr::with_exposed_provenance::<[u64; 2]>(hv_core::addr::to_index(self.frame));
        // SAFETY: the 16 bytes lie in mapped stack memory, as just checked, where any bits are a value.
        let [next, address] = unsafe { record.read_volatile() };
        // Frames go up, except from the emergency stack to the ordinary one, which lies above it too.
        if next != 0 && next <= self.frame {
            return None;
        }
        self.frame = next;
        (address != 0).then_some(address)
    }
}
