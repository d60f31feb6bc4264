//! `xl vcpu-pin`

use std::collections::BTreeSet;

use toolstack::build;
use toolstack::config::CpuList;
use xen_sys::domctl::Domctl;
use xen_sys::sysctl::Sysctl;

use super::vcpu_list::list;
use super::{Command, number};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "vcpu-pin",
    operands: "[option] <Domain> <VCPU|all> <Hard affinity|-|all> <Soft affinity|-|all>",
    summary: "Set which CPUs a VCPU can use",
    details: "CPUs are given as in cpus= of xl.cfg(5): numbers, ranges, ^ to leave some out, all, nodes:N. \
              A - leaves that affinity as it is.",
    flags: &[Flag::new(
        'f',
        Some("force"),
        "Undo an override of the affinity; there are none here",
    )],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 3)?;
    let xen = context.xen()?;
    let domain = context.domain(parsed.operand(0))?;
    let nodes = build::host(xen)?.cpu_nodes;
    let cpus = |index: usize| -> Outcome<Option<BTreeSet<u32>>> {
        let text = match parsed.operands.get(index).map(String::as_str) {
            None | Some("-") => return Ok(None),
            Some(text) => text,
        };
        let list = CpuList::parse(text).map_err(|bad| Failure::Usage(bad.to_string()))?;
        let set = list.resolve(&nodes);
        if set.is_empty() {
            let last = nodes.len().saturating_sub(1);
            let text = format!("xl: {text} names no CPU of this host, which has CPUs 0 to {last}");
            return Err(Failure::Failed(FAILURE, text));
        }
        Ok(Some(set))
    };
    let (hard, soft) = (cpus(2)?, cpus(3)?);
    let vcpus = match parsed.operand(1) {
        "all" => 0..context.info(domain)?.max_vcpu.map_or(0, |last| last + 1),
        text => {
            let vcpu = number(text, "VCPU").map_err(|_| {
                Failure::Failed(FAILURE, format!("Error: Invalid argument {text} as VCPU."))
            })?;
            vcpu..vcpu + 1
        }
    };
    if context.dry_run {
        let shown = |cpus: &BTreeSet<u32>| list(cpus, xen.phys_info().map_or(1, |i| i.max_cpu + 1));
        let hard = hard.as_ref().map_or("-".into(), shown);
        let soft = soft.as_ref().map_or(String::new(), |soft| format!(" {}", shown(soft)));
        return print(&format!("cpumap: {hard}{soft}\n"));
    }
    for vcpu in vcpus {
        xen.set_vcpu_affinity(domain, vcpu, hard.as_ref(), soft.as_ref())?;
    }
    Ok(())
}
