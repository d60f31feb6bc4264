//! `xl pause`

use xen_sys::domctl::Domctl;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::Outcome;

pub(super) const COMMAND: Command = Command {
    name: "pause",
    operands: "<Domain>",
    summary: "Pause execution of a domain",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let domain = context.domain(parsed.operand(0))?;
    Ok(context.xen()?.pause_domain(domain)?)
}
