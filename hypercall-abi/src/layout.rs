//! How a structure is laid out in memory that two sides share.
//!
//! `wire!` defines a structure with the offset of each field beside it. The offsets are checked when
//! this crate is compiled, and `tests/layout.rs` compares them with the public C headers.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A structure of the ABI, as data.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name in the C headers.
    pub c_name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Each field: its name in the C headers and its offset in bytes.
    pub fields: &'static [(&'static str, usize)],
}

/// A structure whose layout is known; implemented by `wire!`.
pub trait Wire {
    /// Its layout.
    const LAYOUT: Layout;
}

/// Defines structures of the ABI: name = C name, size { offset => field: type [as C field] }.
macro_rules! wire {
    (
        $(#[$meta:meta])*
        pub struct $name:ident = $c_name:literal, $size:literal {
            $($(#[$field_meta:meta])* $offset:literal => $field:ident: $type:ty $(as $c_field:literal)?,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone,
            Copy,
            Debug,
            Eq,
            PartialEq,
            zerocopy::FromBytes,
            zerocopy::Immutable,
            zerocopy::IntoBytes,
            zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($name, $field) == $offset);)+

        impl Default for $name {
            /// All zero.
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }

        impl $crate::layout::Wire for $name {
            const LAYOUT: $crate::layout::Layout = $crate::layout::Layout {
                c_name: $c_name,
                size: $size,
                fields: &[$(($crate::layout::wire!(@c_field $field $($c_field)?), $offset),)+],
            };
        }
    };
    (@c_field $field:ident) => { stringify!($field) };
    (@c_field $field:ident $c_field:literal) => { $c_field };
}
pub(crate) use wire;

/// Reads a `T` from the start of a union's bytes.
pub(crate) fn read_payload<T: FromBytes>(bytes: &[u8; 128]) -> T {
    const { assert!(size_of::<T>() <= 128, "no member of the union is larger than it") };
    T::read_from_prefix(bytes).expect("the union has room for each of its members").0
}

/// Writes a `T` to the start of a union's bytes.
pub(crate) fn write_payload<T: Immutable + IntoBytes>(bytes: &mut [u8; 128], value: &T) {
    const { assert!(size_of::<T>() <= 128, "no member of the union is larger than it") };
    value.write_to_prefix(bytes).expect("the union has room for each of its members");
}
