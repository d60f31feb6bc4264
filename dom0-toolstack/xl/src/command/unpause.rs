//! `xl unpause`

use toolstack::build;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::Outcome;

pub(super) const COMMAND: Command = Command {
    name: "unpause",
    operands: "<Domain>",
    summary: "Unpause a paused domain",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let domain = context.domain(parsed.operand(0))?;
    Ok(build::unpause(context.xen()?, domain)?)
}
