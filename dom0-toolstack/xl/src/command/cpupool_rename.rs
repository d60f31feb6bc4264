//! `xl cpupool-rename`

use toolstack::cpupool;

use super::Command;
use super::sched;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "cpupool-rename",
    operands: "<CPU Pool> <new name>",
    summary: "Renames a CPU pool",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let pool = sched::pool(context, parsed, &COMMAND, 2)?;
    let name = parsed.operand(0);
    let new = parsed.operand(1);
    cpupool::rename(context.xen()?, context.store()?, pool.id, new).map_err(|error| {
        Failure::Failed(FAILURE, format!("Can't rename cpupool '{name}': {error}"))
    })
}
