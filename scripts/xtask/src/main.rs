//! The project's commands: build, check, test, run, bench.

fn main() {}
