//! `xl claims`

use xen_sys::DomId;
use xen_sys::sysctl::Sysctl;

use super::Command;
use super::list::{Columns, table};
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "claims",
    operands: "",
    summary: "List outstanding claim information about all domains",
    details: "Lists domains as list does, with the memory in MiB that each has claimed and not \
              been given yet. A guest gets its memory at once when it is made, so that the column \
              is zero but for the moment of its making.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, _: &Parsed) -> Outcome {
    let domains = context.xen()?.domains(DomId::DOM0)?;
    print(&table(context, &domains, Columns { claims: true, ..Columns::default() })?)
}
