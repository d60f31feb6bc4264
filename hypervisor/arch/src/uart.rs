//! Serial ports.

mod pl011;

pub use pl011::{Emergency, Pl011};
