//! Single accesses that may fault, to find out what is where and how the hypervisor answers.

use crate::exception::{Fault, catch};
use core::arch::asm;

/// Reads a system register that may not exist: `Err` holds the exception.
#[macro_export]
macro_rules! try_system_register {
    ($name:literal) => {
        $crate::exception::catch(|| {
            let mut value: u64 = 0;
            // SAFETY: reading a system register changes nothing that Rust knows of; if it faults it is skipped.
            unsafe {
                core::arch::asm!(concat!("mrs {}, ", $name), inout(reg) value, options(nostack))
            };
            value
        })
    };
}

/// Writes a system register that may not exist: `Err` holds the exception. Needs an unsafe block.
///
/// The caller answers for what the register does.
#[macro_export]
macro_rules! try_write_system_register {
    ($name:literal, $value:expr) => {
        $crate::exception::catch(|| {
            let value: u64 = $value;
            core::arch::asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack))
        })
    };
}

macro_rules! load {
    ($name:ident, $type:ty, $instruction:literal) => {
        #[doc = concat!("Reads a `", stringify!($type), "` at a virtual address.")]
        pub fn $name(address: u64) -> Result<$type, Fault> {
            catch(|| {
                let mut value: $type = 0;
                // SAFETY: the value is not believed to mean anything; if the access faults it is skipped.
                unsafe {
                    asm!($instruction, inout(reg) value, in(reg) address, options(nostack))
                };
                value
            })
        }
    };
}

load!(load8, u8, "ldrb {:w}, [{}]");
load!(load16, u16, "ldrh {:w}, [{}]");
load!(load32, u32, "ldr {:w}, [{}]");
load!(load64, u64, "ldr {:x}, [{}]");

/// Writes a `u64` at a virtual address.
///
/// # Safety
///
/// Nothing may rely on what was there.
pub unsafe fn store64(address: u64, value: u64) -> Result<(), Fault> {
    catch(|| {
        // SAFETY: the caller vouches for the place; if the access faults it is skipped.
        unsafe { asm!("str {}, [{}]", in(reg) value, in(reg) address, options(nostack)) };
    })
}

/// Calls a virtual address.
///
/// # Safety
///
/// There must be a function there that clobbers only what the C convention lets it, or nothing at all.
pub unsafe fn execute(address: u64) -> Result<(), Fault> {
    catch(|| {
        // SAFETY: the caller vouches for what is called; if nothing is there, it returns at once.
        unsafe { asm!("blr {}", in(reg) address, clobber_abi("C"), options(nostack)) };
    })
}

/// Executes an instruction word that is expected to be undefined or trapped, such as `udf`.
#[macro_export]
macro_rules! try_instruction {
    ($($text:tt)*) => {
        $crate::exception::catch(|| {
            // The caller answers for what the instruction does if it does not fault.
            core::arch::asm!($($text)*, options(nostack))
        })
    };
}
