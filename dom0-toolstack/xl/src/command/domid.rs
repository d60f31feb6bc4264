//! `xl domid`

use toolstack::domain;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "domid",
    operands: "<DomainName>",
    summary: "Convert a domain name to domain id",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let name = parsed.operand(0);
    match domain::find_named(context.xen()?, context.store()?, name)? {
        Some(domain) => print(&format!("{domain}\n")),
        None => Err(Failure::Failed(
            FAILURE,
            format!("Can't get domid of domain name '{name}', maybe this domain does not exist."),
        )),
    }
}
