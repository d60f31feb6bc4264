//! `xl dump-core`

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "dump-core",
    operands: "<Domain> <filename>",
    summary: "Core dump a domain",
    details: "Refused: this xl writes no core dumps yet.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let text = format!(
        "xl: domain {domain} cannot be dumped: this xl writes no core dumps yet\ncore dump failed (rc=-3)"
    );
    Err(Failure::Failed(FAILURE, text))
}
