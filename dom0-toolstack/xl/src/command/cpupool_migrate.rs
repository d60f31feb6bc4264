//! `xl cpupool-migrate`

use toolstack::cpupool;

use super::Command;
use super::sched;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "cpupool-migrate",
    operands: "<Domain> <CPU Pool>",
    summary: "Moves a domain into a CPU pool",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let name = parsed.operand(0);
    let unknown = |_| Failure::Failed(FAILURE, format!("unknown domain '{name}'"));
    let domain = context.domain(name).map_err(unknown)?;
    let pool = sched::named(context, parsed.operand(1))?;
    Ok(cpupool::migrate(context.xen()?, domain, pool.id)?)
}
