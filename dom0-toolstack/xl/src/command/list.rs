//! `xl list`

use std::fmt::Write;

use serde_json::{Value, json};
use toolstack::config::Config;
use toolstack::config::domain::DomainConfig;
use toolstack::userdata::Item;
use toolstack::{cpupool, domain, json};
use xen_sys::DomId;
use xen_sys::domctl::{DomainInfo, Domctl, SchedParams, ShutdownReason};
use xen_sys::sysctl::Sysctl;
use xenstore::client::Store;

use super::vcpu_list::tenths;
use super::{Command, shown};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "list",
    operands: "[options] [Domain]",
    summary: "List information about all/some domains",
    details: "State shows r for running, b for blocked (all vCPUs wait), p for paused, s for shut down, c for \
              crashed and d for dying. Mem is in MiB, Time(s) the CPU time of all vCPUs. With a domain that \
              does not exist the exit status is 1.",
    flags: &[
        Flag::new('l', Some("long"), "Output all VM details"),
        Flag::new('v', Some("verbose"), "Prints out UUIDs and security context"),
        Flag::new('Z', Some("context"), "Prints out security context"),
        Flag::new('c', Some("cpupool"), "Prints the cpupool the domain is in"),
        Flag::new('n', Some("numa"), "Prints out NUMA node affinity"),
    ],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    if parsed.operands.len() > 1 {
        return Err(Failure::Misuse("xl list takes one domain at most.".into()));
    }
    let one = parsed.operands.first();
    let domains = match one {
        None => context.xen()?.domains(DomId::DOM0)?,
        Some(name) => vec![context.info(context.domain(name)?)?],
    };
    if parsed.has('l') {
        return long(context, &domains, one.is_some());
    }
    let has = |letter| parsed.has(letter);
    let columns = Columns {
        verbose: has('v'),
        context: has('Z'),
        claims: false,
        pools: has('c'),
        nodes: has('n'),
    };
    print(&table(context, &domains, columns)?)
}

/// Columns beside those that are always there.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column, there or not")]
pub(super) struct Columns {
    pub(super) verbose: bool,
    pub(super) context: bool,
    pub(super) claims: bool,
    pub(super) pools: bool,
    pub(super) nodes: bool,
}

impl Columns {
    fn header(self) -> String {
        let mut text = format!("{:<40}    ID   Mem VCPUs\tState\tTime(s)", "Name");
        let mut add = |wanted: bool, column| text.push_str(if wanted { column } else { "" });
        add(self.verbose, "   UUID                            Reason-Code\tSecurity Label");
        add(self.context && !self.verbose, "   Security Label");
        add(self.claims, "  Claimed");
        add(self.pools, "         Cpupool");
        add(self.nodes, " NODE Affinity");
        text.push('\n');
        text
    }
}

/// The table of `domains`.
pub(super) fn table(
    context: &Context,
    domains: &[DomainInfo],
    columns: Columns,
) -> Outcome<String> {
    let mut text = columns.header();
    for info in domains {
        text.push_str(&line(&shown(context, info.domain)?, info));
        // Writing to a string cannot fail.
        if columns.verbose {
            let reason = info.shutdown.map_or("-".into(), |reason| format!("{:x}", reason.code()));
            let _ = write!(text, " {} {reason:>8} {:>16}", domain::uuid(info), "-");
        } else if columns.context {
            let _ = write!(text, " {:>16}", "-");
        }
        if columns.claims {
            let _ = write!(text, " {:>5}", info.outstanding_pages * 4 / 1024);
        }
        if columns.pools {
            let pool = cpupool::name(context.store()?, info.cpupool)?;
            let _ = write!(text, "{pool:>16}");
        }
        text.push_str(if columns.nodes { " all\n" } else { "\n" });
    }
    Ok(text)
}

fn line(name: &str, info: &DomainInfo) -> String {
    let flag = |set: bool, letter| if set { letter } else { '-' };
    let mib = (info.total_pages + info.outstanding_pages) * 4 / 1024;
    let crashed = info.shutdown == Some(ShutdownReason::Crash);
    let state: String = [
        flag(info.running, 'r'),
        flag(info.blocked, 'b'),
        flag(info.paused, 'p'),
        flag(info.shutdown.is_some(), 's'),
        flag(crashed, 'c'),
        flag(info.dying, 'd'),
    ]
    .iter()
    .collect();
    let (domain, vcpus) = (info.domain.0, info.online_vcpus);
    format!("{name:<40} {domain:>5} {mib:>5} {vcpus:>5}     {state}  {:>8}", tenths(info.cpu_time))
}

/// What libxl takes off a running domain's target when it reports it.
const FUDGE_KIB: u64 = 1;

fn long(context: &Context, domains: &[DomainInfo], one: bool) -> Outcome {
    let mut all = Vec::new();
    for info in domains {
        let config = configuration(context, info)?;
        if !config.is_null() {
            all.push(json!({ "domid": info.domain.0, "config": config }));
        }
    }
    // Xen's xl prints a list even of one, and so do we; `one` only decides about an empty one.
    if one && all.is_empty() {
        return Ok(());
    }
    print(&format!("{}\n", json::pretty(&Value::Array(all))))
}

fn configuration(context: &Context, info: &DomainInfo) -> Outcome<Value> {
    let sched = context.xen()?.sched_params(info.domain).ok();
    let (name, uuid) = (context.name(info.domain)?, domain::uuid(info));
    if info.domain == DomId::DOM0 {
        return Ok(json::dom0(&name, info.total_pages * 4, sched));
    }
    let from_text = context
        .files
        .read(info.domain, uuid, Item::Config)
        .and_then(|text| Config::parse(&name, &text, &[]).ok())
        .and_then(|config| DomainConfig::from_config(&config).ok())
        .map(|(config, _)| json::config(&config, uuid));
    let from_json = || {
        let text = context.files.read(info.domain, uuid, Item::LibxlJson)?;
        serde_json::from_str(&text).ok()
    };
    let mut config = from_text.or_else(from_json).unwrap_or(Value::Null);
    describe_now(&mut config, &name, sched);
    let memory = format!("/local/domain/{}/memory", info.domain);
    for (node, key, less) in [("static-max", "max_memkb", 0), ("target", "target_memkb", FUDGE_KIB)]
    {
        let value = context.store()?.read_optional(&format!("{memory}/{node}"))?;
        let kib = value.and_then(|value| value.parse::<u64>().ok());
        if let (Some(kib), Some(place)) = (kib, config.pointer_mut(&format!("/b_info/{key}"))) {
            *place = kib.saturating_sub(less).into();
        }
    }
    Ok(config)
}

/// Replaces what may have changed since the domain was made.
fn describe_now(config: &mut Value, name: &str, sched: Option<SchedParams>) {
    if let Some(value) = config.pointer_mut("/c_info/name") {
        *value = name.into();
    }
    if let (Some(value), Some(sched)) = (config.pointer_mut("/b_info/sched_params"), sched) {
        *value = json!({ "sched": "credit2", "weight": sched.weight, "cap": sched.cap });
    }
}

/// A guest that runs, for tests of what is said of one.
#[cfg(test)]
pub(super) fn sample() -> DomainInfo {
    DomainInfo {
        domain: DomId(1),
        dying: false,
        shutdown: None,
        paused: false,
        blocked: false,
        running: true,
        hvm: true,
        total_pages: 65540,
        max_pages: 65792,
        outstanding_pages: 0,
        cpu_time: 9_420_000_000,
        online_vcpus: 2,
        max_vcpu: Some(1),
        handle: [0; 16],
        cpupool: 0,
        address_bits: 44,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_that_of_xen_s_xl() {
        let mut info = sample();
        assert_eq!(
            line("g1", &info),
            "g1                                           1   256     2     r-----       9.4"
        );
        info.running = false;
        info.paused = true;
        info.shutdown = Some(ShutdownReason::Poweroff);
        assert!(line("g1", &info).contains("     --ps--  "));
        info.shutdown = Some(ShutdownReason::Crash);
        info.dying = true;
        assert!(line("g1", &info).contains("     --pscd  "));
    }
}
