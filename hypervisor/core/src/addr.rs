//! Address and frame-number types, one per address space.

use core::fmt;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Binary logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

const _: () = assert!(usize::BITS == u64::BITS);

/// Returns `value` as an index.
#[expect(clippy::cast_possible_truncation, reason = "`usize` has 64 bits, as asserted above")]
pub const fn to_index(value: u64) -> usize {
    value as usize
}

macro_rules! frame_number {
    ($(#[$doc:meta])* $frame:ident, $address:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(transparent)]
        pub struct $frame(u64);

        impl $frame {
            /// Wraps a raw frame number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the raw frame number.
            pub const fn number(self) -> u64 {
                self.0
            }

            /// Returns the address of the frame's first byte; a number too large for one wraps.
            pub const fn base(self) -> $address {
                $address(self.0 << PAGE_SHIFT)
            }

            /// Returns the frame `count` further on, or nothing past the end of the numbers.
            pub const fn checked_add(self, count: u64) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $frame {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($frame), " {:#x}"), self.0)
            }
        }

        #[doc = concat!("A byte address in the space of [`", stringify!($frame), "`].")]
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(transparent)]
        pub struct $address(u64);

        impl $address {
            /// Wraps a raw address.
            pub const fn new(address: u64) -> Self {
                Self(address)
            }

            /// Returns the raw address.
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// Returns the address `bytes` further on, or nothing past the end of the space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(address) => Some(Self(address)),
                    None => None,
                }
            }

            /// Returns how far into its frame this address is, in bytes.
            pub const fn offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }

            /// Returns the frame that holds this address.
            pub const fn frame(self) -> $frame {
                $frame(self.0 >> PAGE_SHIFT)
            }
        }
    };
}

frame_number! {
    /// A machine frame: a page of real memory.
    Mfn, MachineAddr
}
frame_number! {
    /// A guest frame: a page as one domain numbers it (an intermediate physical page).
    Gfn, GuestAddr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_and_the_addresses_in_it_agree() {
        let address = MachineAddr::new(0x4000_1234);
        assert_eq!(address.frame(), Mfn::new(0x4_0001));
        assert_eq!(address.offset(), 0x234);
        assert_eq!(Mfn::new(0x4_0001).base(), MachineAddr::new(0x4000_1000));
    }

    #[test]
    fn sums_past_the_end_are_nothing() {
        assert_eq!(Gfn::new(u64::MAX).checked_add(1), None);
        assert_eq!(GuestAddr::new(u64::MAX).checked_add(1), None);
    }
}
