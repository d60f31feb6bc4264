//! `xl cpupool-numa-split`

use std::collections::{BTreeMap, BTreeSet};

use toolstack::build;
use toolstack::cpupool::{self, Scheduler};
use xen_sys::sysctl::{PoolChange, Sysctl};

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "cpupool-numa-split",
    operands: "",
    summary: "Splits up the machine into one CPU pool per NUMA node",
    details: "Pool-0 keeps the CPUs of the first node and is called Pool-node0.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    if !parsed.operands.is_empty() {
        return Err(Failure::Usage("cpupool-numa-split takes no arguments.".into()));
    }
    let (xen, store) = (context.xen()?, context.store()?);
    if cpupool::all(xen)?.len() > 1 {
        let text = "splitting not possible, already cpupools in use";
        return Err(Failure::Failed(FAILURE, text.into()));
    }
    let nodes = build::host(xen)?.cpu_nodes;
    let first = nodes.first().copied().unwrap_or(0);
    cpupool::rename(xen, store, 0, &format!("Pool-node{first}"))?;
    let scheduler = Scheduler(xen.scheduler()?);
    let mut others: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (cpu, node) in (0..).zip(&nodes) {
        if *node != first && *node != u32::MAX {
            others.entry(*node).or_default().insert(cpu);
        }
    }
    for (node, cpus) in others {
        for cpu in &cpus {
            xen.change_pool(PoolChange::RemoveCpu(0, *cpu))?;
        }
        cpupool::create(xen, store, &format!("Pool-node{node}"), scheduler, &cpus)?;
    }
    Ok(())
}
