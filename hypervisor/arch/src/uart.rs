//! Serial ports.

mod pl011;

pub use pl011::Pl011;
