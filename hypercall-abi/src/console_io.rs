//! The emergency console (`public/xen.h`, `HYPERVISOR_console_io`).
//!
//! Arguments: the command, a count of bytes, the buffer.

/// Write; returns 0.
pub const CONSOLEIO_WRITE: u32 = 0;
/// Read without waiting; returns the bytes read.
pub const CONSOLEIO_READ: u32 = 1;
