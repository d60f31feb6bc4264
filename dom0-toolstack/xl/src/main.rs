//! The domain management command.

fn main() {}
