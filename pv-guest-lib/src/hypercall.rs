//! The `HVC` instruction, once, and calls by public header in the modules below.
//!
//! A typed call is safe: its arguments cannot make the hypervisor write memory that Rust believes in.

pub mod console_io;
pub mod domctl;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod memory;
pub mod sched;
pub mod sysctl;
pub mod vcpu;
pub mod version;

use core::arch::asm;
use core::fmt;
use hypercall_abi::errno::Errno;
use hypercall_abi::hypercall::HVC_TAG;

/// What a hypercall answered when it failed: a negated error number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HypercallError(pub i64);

impl HypercallError {
    /// Returns whether it is this error.
    pub fn is(self, errno: Errno) -> bool {
        self.0 == errno.to_register()
    }
}

impl From<Errno> for HypercallError {
    fn from(errno: Errno) -> Self {
        Self(errno.to_register())
    }
}

impl fmt::Debug for HypercallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error {}", self.0)
    }
}

/// Makes hypercall `number` and returns x0.
///
/// # Safety
///
/// Whatever the call writes to, by address or frame number, must be memory that nothing else relies on.
pub unsafe fn raw(number: u64, arguments: [u64; 5]) -> i64 {
    let [mut x0, x1, x2, x3, x4] = arguments;
    // SAFETY: the call clobbers its argument registers and memory only as the caller vouched for.
    unsafe {
        asm!("hvc {tag}", tag = const HVC_TAG, inout("x0") x0, inout("x1") x1 => _,
            inout("x2") x2 => _, inout("x3") x3 => _, inout("x4") x4 => _,
            inout("x16") number => _, options(nostack))
    };
    x0.cast_signed()
}

/// Turns x0 into a result.
pub fn result(x0: i64) -> Result<u64, HypercallError> {
    u64::try_from(x0).map_err(|_| HypercallError(x0))
}

/// Returns the virtual address of `item`, as a hypercall's argument.
pub(crate) fn address_of<T: ?Sized>(item: *mut T) -> u64 {
    item.cast::<()>().expose_provenance() as u64
}

/// Makes a call of the form (operation, structure), in which the structure holds no address the hypervisor writes to.
fn with<T>(number: u64, operation: u32, argument: &mut T) -> Result<u64, HypercallError> {
    let arguments = [u64::from(operation), address_of(argument), 0, 0, 0];
    // SAFETY: the call reads and writes the structure, which is borrowed for it.
    result(unsafe { raw(number, arguments) })
}
