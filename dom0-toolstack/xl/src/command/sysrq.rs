//! `xl sysrq`

use xenstore::client::Store;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "sysrq",
    operands: "<Domain> <letter>",
    summary: "Send a sysrq to a domain",
    details: "Nothing happens in a guest that has its sysrq key turned off.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let letter = parsed.operand(1);
    if letter.chars().count() != 1 {
        return Err(Failure::Misuse("Invalid sysrq.".into()));
    }
    let path = format!("/local/domain/{domain}/control/sysrq");
    Ok(context.store()?.write(&path, letter)?)
}
