//! The domain management command: what is typed, carried out by [`toolstack`], printed as scripts expect it.

pub mod args;
pub mod command;
pub mod completion;
pub mod context;
pub mod manual;
pub mod monitor;
pub mod outcome;
pub mod terminal;
