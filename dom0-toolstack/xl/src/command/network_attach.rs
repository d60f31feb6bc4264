//! `xl network-attach`

use toolstack::build;
use toolstack::config::vif::Vif;
use toolstack::domain;
use toolstack::userdata::Item;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "network-attach",
    operands: "<Domain> [vif-spec-component(s)]...",
    summary: "Create a new virtual network device",
    details: "Settings are those of vif= in xl.cfg(5). The domain has the interface also when it is made anew.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let domain = context.domain(parsed.operand(0))?;
    let text = parsed.operands.get(1..).unwrap_or_default().join(",");
    let vif = Vif::parse(&text)
        .map_err(|bad| Failure::Usage(format!("{}: {}", bad.what, bad.expected)))?;
    build::attach_vif(context.xen()?, context.store()?, domain, &vif)?;
    // A domain that is made anew has it, too.
    let line = format!("vif += [ '{}' ]", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let uuid = domain::uuid(&context.info(domain)?);
    Ok(context.files.append(domain, uuid, Item::Config, &line)?)
}
