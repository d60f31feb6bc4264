//! `xl sched-credit2`

use toolstack::cpupool::Scheduler;
use xen_sys::DomId;
use xen_sys::domctl::Domctl;
use xen_sys::sysctl::Sysctl;

use super::sched::{self, Layout};
use super::{Command, number, shown};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "sched-credit2",
    operands: "[-d <Domain> [-w[=WEIGHT]|-c[=CAP]]] [-s [-r RATELIMIT]] [-p CPUPOOL]",
    summary: "Get/set credit2 scheduler parameters",
    details: "Without options it lists the parameters of all domains. -d without -w or -c prints \
              those of one domain. A weight of 512 gets twice as much CPU time as one of 256, the \
              usual one, where CPUs are short. A cap of 50 is half a CPU, 400 are four, 0 is none.",
    flags: &[
        Flag::new('d', Some("domain"), "Domain to modify").with_value("DOMAIN"),
        Flag::new('w', Some("weight"), "Weight (int)").with_value("WEIGHT"),
        Flag::new('c', Some("cap"), "Cap (int)").with_value("CAP"),
        Flag::new('s', Some("schedparam"), "Query / modify scheduler parameters"),
        Flag::new('r', Some("ratelimit_us"), "Set the scheduling rate limit, in microseconds")
            .with_value("RLIMIT"),
        Flag::new('p', Some("cpupool"), "Restrict output to CPUPOOL").with_value("CPUPOOL"),
    ],
    listed: true,
    run,
};

const LAYOUT: Layout = Layout {
    scheduler: Scheduler::CREDIT2,
    header: "Name                                ID Weight  Cap\n",
    line,
    pool,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    sched::check(parsed, &['w', 'c'], &['r'])?;
    let xen = context.xen()?;
    if parsed.has('s') {
        let pool = sched::named(context, parsed.value('p').unwrap_or("0"))?.id;
        let Some(limit) = parsed.value('r') else {
            let name = toolstack::cpupool::name(context.store()?, pool)?;
            return print(&format!("Cpupool {name}: {}\n", self::pool(context, pool)?));
        };
        return Ok(xen.set_credit2_rate_limit(pool, number(limit, "rate limit")?)?);
    }
    let Some(name) = parsed.value('d') else {
        return print(&LAYOUT.overview(context, parsed.value('p'))?);
    };
    let domain = context.domain(name)?;
    if !parsed.has('w') && !parsed.has('c') {
        return LAYOUT.domain(context, domain);
    }
    LAYOUT.require(context, domain)?;
    let mut params = xen.sched_params(domain)?;
    let value = |letter, now: u16| -> Outcome<u16> {
        let Some(text) = parsed.value(letter) else { return Ok(now) };
        text.trim_start_matches('=')
            .parse()
            .map_err(|_not_a_number| Failure::Usage(format!("Invalid value '{text}'.")))
    };
    params.weight = value('w', params.weight)?;
    params.cap = value('c', params.cap)?;
    Ok(xen.set_sched_params(domain, params)?)
}

fn pool(context: &Context, pool: u32) -> Outcome<String> {
    Ok(format!("ratelimit={}us", context.xen()?.credit2_rate_limit(pool)?))
}

pub(super) fn line(context: &Context, domain: DomId) -> Outcome<String> {
    let params = context.xen()?.sched_params(domain)?;
    let name = shown(context, domain)?;
    Ok(format!("{name:<33} {:>4} {:>6} {:>4}\n", domain.0, params.weight, params.cap))
}
