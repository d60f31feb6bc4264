//! Guest memory, reached only by copying.
//!
//! A guest may change its memory at any moment, so no Rust reference to it is ever made: a request is
//! copied in once, checked, and acted on from the copy.

use core::marker::PhantomData;
use hypercall_abi::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Memory of the calling guest, addressed as the guest addresses it.
pub trait GuestMemory {
    /// Copies guest bytes from `address` into `bytes`.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Fault>;
    /// Copies `bytes` to the guest at `address`.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault>;
}

/// The guest gave an address it may not use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault;

impl From<Fault> for Errno {
    fn from(Fault: Fault) -> Self {
        Self::EFAULT
    }
}

/// A guest's claim that a `T` stands at an address of its own virtual memory.
pub struct Handle<T> {
    address: u64,
    value: PhantomData<T>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T: FromBytes + Immutable + IntoBytes> Handle<T> {
    /// Takes the claim as it stands in a register.
    pub const fn from_register(address: u64) -> Self {
        Self { address, value: PhantomData }
    }

    /// Says whether the claim is the null pointer, which many requests use for "nothing".
    pub const fn is_null(&self) -> bool {
        self.address == 0
    }

    /// Returns the claim to element `index` of an array that starts here; wraps like an address.
    #[must_use]
    pub const fn element(&self, index: u64) -> Self {
        let offset = (size_of::<T>() as u64).wrapping_mul(index);
        Self { address: self.address.wrapping_add(offset), value: PhantomData }
    }

    /// Copies the value in.
    pub fn load(&self, memory: &impl GuestMemory) -> Result<T, Fault> {
        let mut value = T::new_zeroed();
        self.load_into(memory, &mut value)?;
        Ok(value)
    }

    /// Copies the value to where it is wanted, which a large one is spared a second copy by.
    pub fn load_into(&self, memory: &impl GuestMemory, value: &mut T) -> Result<(), Fault> {
        memory.read(self.address, value.as_mut_bytes())
    }

    /// Copies `value` out.
    pub fn store(&self, memory: &impl GuestMemory, value: &T) -> Result<(), Fault> {
        memory.write(self.address, value.as_bytes())
    }
}
