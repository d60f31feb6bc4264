//! `xl reboot`

use toolstack::domain::Request;

use super::{Command, power};
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::Outcome;

pub(super) const COMMAND: Command = Command {
    name: "reboot",
    operands: "[options] <-a|Domain>",
    summary: "Issue a reboot signal to a domain",
    details: "What becomes of the domain then, on_reboot says.",
    flags: &power::FLAGS,
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    power::run(context, parsed, Request::Reboot, "Rebooting")
}
