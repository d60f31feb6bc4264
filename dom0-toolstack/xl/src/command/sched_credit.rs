//! `xl sched-credit`

use toolstack::cpupool::Scheduler;
use xen_sys::DomId;

use super::sched::{self, Layout};
use super::{Command, sched_credit2};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "sched-credit",
    operands: "[-d <Domain> [-w[=WEIGHT]|-c[=CAP]]] [-s [-t TSLICE] [-r RATELIMIT]] [-p CPUPOOL]",
    summary: "Get/set credit scheduler parameters",
    details: "Lists the pools and domains that have the credit scheduler: none, where the \
              hypervisor's is credit2.",
    flags: &[
        Flag::new('d', Some("domain"), "Domain to modify").with_value("DOMAIN"),
        Flag::new('w', Some("weight"), "Weight (int)").with_value("WEIGHT"),
        Flag::new('c', Some("cap"), "Cap (int)").with_value("CAP"),
        Flag::new('s', Some("schedparam"), "Query / modify scheduler parameters"),
        Flag::new('t', Some("tslice_ms"), "Set the timeslice, in milliseconds")
            .with_value("TSLICE"),
        Flag::new('r', Some("ratelimit_us"), "Set the scheduling rate limit, in microseconds")
            .with_value("RLIMIT"),
        Flag::new('m', Some("migration_delay_us"), "Set the migration delay, in microseconds")
            .with_value("DLY"),
        Flag::new('p', Some("cpupool"), "Restrict output to CPUPOOL").with_value("CPUPOOL"),
    ],
    listed: true,
    run,
};

const LAYOUT: Layout = Layout {
    scheduler: Scheduler::CREDIT,
    header: "Name                                ID Weight  Cap\n",
    line: sched_credit2::line,
    pool: |_, _| Ok("[sched params unavailable]".into()),
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    sched::check(parsed, &['w', 'c'], &['t', 'r', 'm'])?;
    if parsed.has('s') {
        let pool = sched::named(context, parsed.value('p').unwrap_or("0"))?;
        let name = toolstack::cpupool::name(context.store()?, pool.id)?;
        if ['t', 'r', 'm'].iter().any(|letter| parsed.has(*letter)) {
            let text = "libxl_sched_credit_params_get failed.";
            return Err(Failure::Failed(FAILURE, text.into()));
        }
        return print(&format!("Cpupool {name}: {}\n", (LAYOUT.pool)(context, pool.id)?));
    }
    match parsed.value('d') {
        None => print(&LAYOUT.overview(context, parsed.value('p'))?),
        Some(name) => {
            let domain: DomId = context.domain(name)?;
            LAYOUT.domain(context, domain)
        }
    }
}
