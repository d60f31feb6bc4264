//! Prepares xenstore for the toolstack; run once, when xenstored has started.

use std::process::ExitCode;

fn main() -> ExitCode {
    xl::command::run(&["init-dom0".to_owned()])
}
