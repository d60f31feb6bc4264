//! Access to device registers by single loads and stores, the kind a hypervisor can always decode.
//!
//! A compiler may pick addressing forms that come without a syndrome when they trap; these never do.

use core::arch::asm;

/// Registers at a place in the address space.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: u64,
    len: u64,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $load:literal, $store:literal, $form:literal) => {
        #[doc = concat!("Reads a `", stringify!($type), "`; `offset` must be inside and aligned.")]
        pub fn $read(self, offset: u64) -> $type {
            let address = self.at::<$type>(offset);
            let value: $type;
            // SAFETY: whoever made this vouched for the registers there, and `at` for the offset.
            unsafe {
                asm!(concat!($load, $form, ", [{}]"), out(reg) value, in(reg) address, options(nostack))
            };
            value
        }

        #[doc = concat!("Writes a `", stringify!($type), "`; `offset` must be inside and aligned.")]
        pub fn $write(self, offset: u64, value: $type) {
            let address = self.at::<$type>(offset);
            // SAFETY: whoever made this vouched for the registers there, and `at` for the offset.
            unsafe {
                asm!(concat!($store, $form, ", [{}]"), in(reg) value, in(reg) address, options(nostack))
            };
        }
    };
}

impl Mmio {
    /// Names the registers at `base`.
    ///
    /// # Safety
    ///
    /// The range must be mapped as device registers, and writing them must not change memory.
    pub const unsafe fn new(base: u64, len: u64) -> Self {
        Self { base, len }
    }

    /// Returns the address of the first register.
    pub fn base(self) -> u64 {
        self.base
    }

    /// Returns how many bytes of registers there are.
    pub fn size(self) -> u64 {
        self.len
    }

    access!(read8, write8, u8, "ldrb ", "strb ", "{:w}");
    access!(read16, write16, u16, "ldrh ", "strh ", "{:w}");
    access!(read32, write32, u32, "ldr ", "str ", "{:w}");
    access!(read64, write64, u64, "ldr ", "str ", "{:x}");

    fn at<T>(self, offset: u64) -> u64 {
        let size = size_of::<T>() as u64;
        assert!(
            offset.is_multiple_of(size) && offset + size <= self.len,
            "no register at {offset:#x}"
        );
        self.base + offset
    }
}
