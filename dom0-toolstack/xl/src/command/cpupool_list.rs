//! `xl cpupool-list`

use std::fmt::Write;

use toolstack::cpupool::{self, Scheduler};
use xen_sys::sysctl::Cpupool;

use super::Command;
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "cpupool-list",
    operands: "[-c|--cpus] [<CPU Pool>]",
    summary: "List CPU pools on host",
    details: "",
    flags: &[Flag::new('c', Some("cpus"), "Output list of CPUs used by a pool")],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let (xen, store) = (context.xen()?, context.store()?);
    let mut pools = Vec::new();
    for pool in cpupool::all(xen)? {
        pools.push((cpupool::name(store, pool.id)?, pool));
    }
    if let Some(wanted) = parsed.operands.first() {
        pools.retain(|(name, _)| name == wanted);
        if pools.is_empty() {
            let text = format!("Pool '{wanted}' does not exist");
            return Err(Failure::Failed(FAILURE, text));
        }
    }
    let mut text = format!("{:<19}", "Name");
    let cpus = parsed.has('c');
    text.push_str(if cpus { "CPU list\n" } else { "CPUs   Sched     Active   Domain count\n" });
    for (name, pool) in &pools {
        text.push_str(&line(name, pool, cpus));
    }
    print(&text)
}

fn line(name: &str, pool: &Cpupool, cpus: bool) -> String {
    let mut text = format!("{name:<19}");
    // Writing to a string cannot fail.
    let _ = if cpus {
        let list: Vec<String> = pool.cpus.iter().map(ToString::to_string).collect();
        writeln!(text, "{}", list.join(","))
    } else {
        let (count, scheduler) = (pool.cpus.len(), Scheduler(pool.scheduler).name());
        writeln!(text, "{count:>3} {scheduler:>9}       y       {:>4}", pool.domains)
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_xen_s_xl() {
        let pool = Cpupool { id: 0, scheduler: 6, domains: 2, cpus: [0, 1, 3].into() };
        assert_eq!(
            line("Pool-0", &pool, false),
            "Pool-0               3   credit2       y          2\n"
        );
        assert_eq!(line("Pool-0", &pool, true), "Pool-0             0,1,3\n");
    }
}
