//! The console daemon: guests' console rings to terminals and logs.

fn main() {}
