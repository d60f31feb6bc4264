//! `xl cpupool-cpu-remove`

use xen_sys::sysctl::{PoolChange, Sysctl};

use super::Command;
use super::{cpupool_cpu_add, sched};
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::Outcome;

pub(super) const COMMAND: Command = Command {
    name: "cpupool-cpu-remove",
    operands: "<CPU Pool> <CPU nr>|node:<node nr>",
    summary: "Removes a CPU from a CPU pool",
    details: "CPUs are given as in cpus= of xl.cfg(5). The last CPU of a pool with domains stays.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let name = parsed.operand(0);
    let cpus = cpupool_cpu_add::cpus(context, parsed.operand(1))?;
    let pool = sched::named(context, name)?;
    let xen = context.xen()?;
    for cpu in cpus {
        if let Err(error) = xen.change_pool(PoolChange::RemoveCpu(pool.id, cpu)) {
            // As in Xen's xl this is no failure.
            eprintln!(
                "Some cpus may have not or only partially been removed from '{name}': CPU {cpu}: {error}"
            );
        }
    }
    Ok(())
}
