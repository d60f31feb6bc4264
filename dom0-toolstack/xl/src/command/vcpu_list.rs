//! `xl vcpu-list`

use std::collections::BTreeSet;
use std::fmt::Write;

use xen_sys::domctl::{Affinity, DomainInfo, Domctl, VcpuInfo};
use xen_sys::sysctl::Sysctl;
use xen_sys::{DomId, Errno};

use super::{Command, shown};
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "vcpu-list",
    operands: "[Domain, ...]",
    summary: "List the VCPUs for all/some domains",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let xen = context.xen()?;
    let cpus = xen.phys_info()?.max_cpu + 1;
    let mut text = String::from(
        "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\n",
    );
    let mut domains: Vec<DomainInfo> = Vec::new();
    let mut missing = Ok(());
    for name in &parsed.operands {
        match context.domain(name).and_then(|domain| context.info(domain)) {
            Ok(info) => domains.push(info),
            // Those before it are printed all the same, the header too.
            Err(failure) => {
                missing = Err(failure);
                break;
            }
        }
    }
    if parsed.operands.is_empty() {
        domains = xen.domains(DomId::DOM0)?;
    }
    for info in domains {
        let name = shown(context, info.domain)?;
        for vcpu in 0..info.max_vcpu.map_or(0, |last| last + 1) {
            let state = match xen.vcpu_info(info.domain, vcpu) {
                Err(error) if error.is(Errno::SRCH) => continue,
                state => state?,
            };
            let affinity = xen.vcpu_affinity(info.domain, vcpu, cpus)?;
            text.push_str(&line(&name, info.domain, vcpu, &state, &affinity, cpus));
        }
    }
    print(&text)?;
    missing
}

fn line(
    name: &str,
    domain: DomId,
    vcpu: u32,
    state: &VcpuInfo,
    affinity: &Affinity,
    cpus: u32,
) -> String {
    let mut line = format!("{name:<32} {:>5} {vcpu:>5}", domain.0);
    let flag = |set: bool, letter| if set { letter } else { '-' };
    // Writing to a string cannot fail.
    let _ = if state.online {
        let (running, blocked) = (flag(state.running, 'r'), flag(state.blocked, 'b'));
        write!(line, "{:>5} {running:>3}{blocked}- ", state.cpu)
    } else {
        write!(line, "{:>5} {:>3}-p ", '-', '-')
    };
    let time = tenths(state.cpu_time);
    let (hard, soft) = (list(&affinity.hard, cpus), list(&affinity.soft, cpus));
    let _ = writeln!(line, "{time:>9}  {hard} / {soft}");
    line
}

/// Nanoseconds as seconds with one decimal, rounded as C does.
pub(super) fn tenths(nanoseconds: u64) -> String {
    let tenths = (nanoseconds + 50_000_000) / 100_000_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// CPUs as ranges, `all` for as many as the host has.
pub(super) fn list(set: &BTreeSet<u32>, cpus: u32) -> String {
    if (0..cpus).all(|cpu| set.contains(&cpu)) {
        return "all".into();
    }
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in set.range(..cpus) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    if ranges.is_empty() {
        return "none".into();
    }
    let texts: Vec<String> = ranges
        .iter()
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_xen_s_xl() {
        let affinity = Affinity { hard: [0].into(), soft: (0..64).collect() };
        let mut state = VcpuInfo {
            online: true,
            blocked: true,
            running: false,
            cpu_time: 7_610_000_000,
            cpu: 0,
        };
        assert_eq!(
            line("g2", DomId(1), 0, &state, &affinity, 2),
            "g2                                   1     0    0   -b-       7.6  0 / all\n"
        );
        state.online = false;
        assert_eq!(
            line("g2", DomId(1), 1, &state, &affinity, 2),
            "g2                                   1     1    -   --p       7.6  0 / all\n"
        );
    }

    #[test]
    fn cpus_are_ranges() {
        assert_eq!(list(&[0, 1, 3].into(), 4), "0-1,3");
        assert_eq!(list(&(0..64).collect(), 4), "all");
        assert_eq!(list(&BTreeSet::new(), 4), "none");
    }
}
