//! `xl sched-credit2`

use std::fmt::Write;

use xen_sys::DomId;
use xen_sys::domctl::Domctl;
use xen_sys::sysctl::Sysctl;
use xenstore::client::Store;

use super::Command;
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "sched-credit2",
    operands: "[-d <Domain> [-w[=WEIGHT]|-c[=CAP]]]",
    summary: "Get/set credit2 scheduler parameters",
    flags: &[
        Flag::new('d', Some("domain"), "Domain to show or change").with_value("DOMAIN"),
        Flag::new('w', Some("weight"), "Share relative to other domains").with_value("WEIGHT"),
        Flag::new('c', Some("cap"), "Limit in hundredths of a CPU").with_value("CAP"),
    ],
    listed: true,
    run,
};

const HEADER: &str = "Name                                ID Weight  Cap\n";

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let xen = context.xen()?;
    let Some(name) = parsed.value('d') else {
        if parsed.has('w') || parsed.has('c') {
            return Err(Failure::Usage("Must specify a domain.".into()));
        }
        return print(&overview(context)?);
    };
    let domain = context.domain(name)?;
    let mut params = xen.sched_params(domain)?;
    if !parsed.has('w') && !parsed.has('c') {
        return print(&format!("{HEADER}{}", line(context, domain)?));
    }
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

fn overview(context: &Context) -> Outcome<String> {
    let (xen, store) = (context.xen()?, context.store()?);
    let mut text = String::new();
    let mut next = 0;
    while let Some(pool) = xen.cpupool(next)? {
        let name = store.read_optional(&format!("/local/pool/{}/name", pool.id))?;
        let rate = xen.credit2_rate_limit(pool.id)?;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Cpupool {}: ratelimit={rate}us", name.unwrap_or_default());
        text.push_str(HEADER);
        for info in xen.domains(DomId::DOM0)? {
            if info.cpupool == pool.id {
                text.push_str(&line(context, info.domain)?);
            }
        }
        next = pool.id + 1;
    }
    Ok(text)
}

fn line(context: &Context, domain: DomId) -> Outcome<String> {
    let params = context.xen()?.sched_params(domain)?;
    let name = context.name(domain)?;
    Ok(format!("{name:<33} {:>4} {:>6} {:>4}\n", domain.0, params.weight, params.cap))
}
