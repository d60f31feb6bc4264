//! `xl cpupool-cpu-add`

use std::collections::BTreeSet;

use toolstack::build;
use toolstack::config::CpuList;
use xen_sys::sysctl::{PoolChange, Sysctl};

use super::Command;
use super::sched;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "cpupool-cpu-add",
    operands: "<CPU Pool> <CPU nr>|node:<node nr>",
    summary: "Adds a CPU to a CPU pool",
    details: "CPUs are given as in cpus= of xl.cfg(5).",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let pool = sched::pool(context, parsed, &COMMAND, 2)?;
    let xen = context.xen()?;
    for cpu in cpus(context, parsed.operand(1))? {
        if let Err(error) = xen.change_pool(PoolChange::AddCpu(pool.id, cpu)) {
            // As in Xen's xl this is no failure.
            let name = parsed.operand(0);
            eprintln!("some cpus may not have been added to {name}: CPU {cpu}: {error}");
        }
    }
    Ok(())
}

/// The CPUs of the host that a list names.
pub(super) fn cpus(context: &Context, text: &str) -> Outcome<BTreeSet<u32>> {
    let wrong = |text: String| Failure::Failed(FAILURE, text);
    let list = CpuList::parse(text).map_err(|bad| wrong(bad.to_string()))?;
    let cpus = list.resolve(&build::host(context.xen()?)?.cpu_nodes);
    if cpus.is_empty() {
        return Err(wrong(format!("xl: {text} names no CPU of this host")));
    }
    Ok(cpus)
}
