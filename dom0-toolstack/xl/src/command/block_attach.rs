//! `xl block-attach`

use toolstack::build;
use toolstack::config::disk::Disk;
use toolstack::domain;
use toolstack::userdata::Item;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "block-attach",
    operands: "<Domain> <disk-spec-component(s)>...",
    summary: "Create a new virtual block device",
    details: "The disk is given as in disk= of xl.cfg(5), its parts as separate words where that is easier. The domain \
              has the disk also when it is made anew.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let text = parsed.operands.get(1..).unwrap_or_default().join(",");
    let disk = Disk::parse(&text)
        .map_err(|bad| Failure::Usage(format!("{}: {}", bad.what, bad.expected)))?;
    build::attach_disk(context.xen()?, context.store()?, domain, &disk)?;
    // A domain that is made anew has it, too.
    let line = format!("disk += [ '{}' ]", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let uuid = domain::uuid(&context.info(domain)?);
    Ok(context.files.append(domain, uuid, Item::Config, &line)?)
}
