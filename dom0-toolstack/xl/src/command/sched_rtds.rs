//! `xl sched-rtds`

use toolstack::cpupool::Scheduler;

use super::Command;
use super::sched::{self, Layout};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "sched-rtds",
    operands: "[-d <Domain> [-v[=VCPUID/all]] [-p[=PERIOD]] [-b[=BUDGET]] [-e[=Extratime]]]",
    summary: "Get/set rtds scheduler parameters",
    details: "Lists the pools and domains that have the real-time scheduler rtds: none, where the \
              hypervisor's is credit2.",
    flags: &[
        Flag::new('d', Some("domain"), "Domain to modify").with_value("DOMAIN"),
        Flag::new('v', Some("vcpuid"), "VCPU to modify or output; all for all of them")
            .with_value("VCPUID"),
        Flag::new('p', Some("period"), "Period (us)").with_value("PERIOD"),
        Flag::new('b', Some("budget"), "Budget (us)").with_value("BUDGET"),
        Flag::new('e', Some("extratime"), "Extratime (1=yes, 0=no)").with_value("EXTRATIME"),
        Flag::new('c', Some("cpupool"), "Restrict output to CPUPOOL").with_value("CPUPOOL"),
    ],
    listed: true,
    run,
};

const LAYOUT: Layout = Layout {
    scheduler: Scheduler::RTDS,
    header: "Name                                ID    Period    Budget  Extratime\n",
    line: |_, domain| {
        let text = format!("xl: the parameters of domain {domain} are not known");
        Err(Failure::Failed(FAILURE, text))
    },
    pool: |_, _| Ok("sched=RTDS".into()),
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let wrong = |text: &str| Err(Failure::Failed(FAILURE, text.into()));
    let sets = ['p', 'b', 'e', 'v'].iter().any(|letter| parsed.has(*letter));
    if parsed.has('c') && (parsed.has('d') || sets) {
        return wrong("Specifying a cpupool is not allowed with other options.");
    }
    let Some(name) = parsed.value('d') else {
        if sets {
            return wrong("Missing parameters.");
        }
        if let Some(pool) = parsed.value('c') {
            sched::named(context, pool)?;
        }
        return print(&LAYOUT.overview(context, parsed.value('c'))?);
    };
    let domain = context.domain(name)?;
    LAYOUT.domain(context, domain)
}
