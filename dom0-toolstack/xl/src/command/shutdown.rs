//! `xl shutdown`

use toolstack::domain::Request;

use super::{Command, power};
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::Outcome;

pub(super) const COMMAND: Command = Command {
    name: "shutdown",
    operands: "[options] <-a|Domain>",
    summary: "Issue a shutdown signal to a domain",
    details: "With -w it waits until each has shut down, and prints why it did.",
    flags: &power::FLAGS,
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    power::run(context, parsed, Request::Poweroff, "Shutting down")
}
