//! The emergency console.

use super::raw;
use hypercall_abi::console_io::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use hypercall_abi::hypercall::CONSOLE_IO;

/// Writes bytes; where they go, and whether at all, is the hypervisor's business.
pub fn write(bytes: &[u8]) {
    let address = bytes.as_ptr().expose_provenance() as u64;
    let arguments = [u64::from(CONSOLEIO_WRITE), bytes.len() as u64, address, 0, 0];
    // SAFETY: the call only reads the bytes.
    unsafe { raw(CONSOLE_IO, arguments) };
}

/// Reads what was typed, without waiting; returns how many bytes, or a negated error number.
pub fn read(buffer: &mut [u8]) -> i64 {
    let address = super::address_of(buffer);
    let arguments = [u64::from(CONSOLEIO_READ), buffer.len() as u64, address, 0, 0];
    // SAFETY: the call writes to the buffer, which is borrowed for it.
    unsafe { raw(CONSOLE_IO, arguments) }
}
