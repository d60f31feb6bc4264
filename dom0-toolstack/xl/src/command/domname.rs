//! `xl domname`

use xen_sys::DomId;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "domname",
    operands: "<DomainId>",
    summary: "Convert a domain id to domain name",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let text = parsed.operand(0);
    let domain: u16 = text.parse().map_err(|_not_a_number| {
        Failure::Failed(FAILURE, format!("Invalid domain id '{text}'."))
    })?;
    let name = context.name(DomId(domain))?;
    if name.is_empty() {
        let text = format!(
            "Can't get domain name of domain id '{domain}', maybe this domain does not exist."
        );
        return Err(Failure::Failed(FAILURE, text));
    }
    print(&format!("{name}\n"))
}
