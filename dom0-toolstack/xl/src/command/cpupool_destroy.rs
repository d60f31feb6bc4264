//! `xl cpupool-destroy`

use toolstack::cpupool;

use super::Command;
use super::sched;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "cpupool-destroy",
    operands: "<CPU Pool>",
    summary: "Deactivates a CPU pool",
    details: "Its CPUs become free. A pool with domains in it stays.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let pool = sched::pool(context, parsed, &COMMAND, 1)?;
    let name = parsed.operand(0);
    cpupool::destroy(context.xen()?, context.store()?, pool.id).map_err(|error| {
        Failure::Failed(FAILURE, format!("Can't destroy cpupool '{name}': {error}"))
    })
}
