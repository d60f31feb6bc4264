//! `xl rename`

use toolstack::domain;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::Outcome;

pub(super) const COMMAND: Command = Command {
    name: "rename",
    operands: "<Domain> <NewDomainName>",
    summary: "Rename a domain",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let _alone = context.lock()?;
    let domain = context.domain(parsed.operand(0))?;
    Ok(domain::rename(context.xen()?, context.store()?, domain, parsed.operand(1))?)
}
