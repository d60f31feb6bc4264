//! `xl getenforce`

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "getenforce",
    operands: "",
    summary: "Returns the current enforcing mode of the Flask Xen security module",
    details: "The hypervisor has no such module: the answer is always that, with exit status 255.",
    flags: &[],
    listed: true,
    run,
};

/// Xen's -1.
const DISABLED: u8 = 255;

fn run(_: &Context, _: &Parsed) -> Outcome {
    print("Flask XSM Disabled\n")?;
    Err(Failure::Silent(DISABLED))
}
