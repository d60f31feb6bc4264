//! `xl uptime`

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use xen_sys::DomId;
use xen_sys::sysctl::Sysctl;
use xenstore::client::Store;

use super::{Command, shown};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "uptime",
    operands: "[-s] [Domain]",
    summary: "Print uptime for all/some domains",
    details: "",
    flags: &[Flag::new('s', Some("short"), "Give the short form")],
    listed: true,
    run,
};

const DAY: u64 = 24 * 60 * 60;

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let mut domains = Vec::new();
    for name in &parsed.operands {
        domains.push(context.domain(name)?);
    }
    if domains.is_empty() {
        let all = context.xen()?.domains(DomId::DOM0)?;
        domains = all.iter().map(|info| info.domain).collect();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let short = parsed.has('s');
    let mut text = String::new();
    if !short {
        text.push_str("Name                                ID Uptime\n");
    }
    for domain in domains {
        let (name, up) = (shown(context, domain)?, seconds(context, domain, now)?);
        // Writing to a string cannot fail.
        let _ = if short {
            let clock = clock(now % DAY);
            writeln!(text, " {clock} up {}, {name} ({domain})", short_form(up))
        } else {
            writeln!(text, "{name:<33} {:>4} {}", domain.0, long_form(up))
        };
    }
    print(&text)
}

/// How long a domain has been there.
fn seconds(context: &Context, domain: DomId, now: u64) -> Outcome<u64> {
    if domain == DomId::DOM0 {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        return Ok(whole(&uptime));
    }
    let store = context.store()?;
    let vm = store.read_optional(&format!("/local/domain/{domain}/vm"))?.unwrap_or_default();
    let start = store.read_optional(&format!("{vm}/start_time"))?.unwrap_or_default();
    Ok(now.saturating_sub(whole(&start)))
}

fn whole(text: &str) -> u64 {
    text.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn days(seconds: u64) -> String {
    match seconds / DAY {
        0 => String::new(),
        1 => "1 day, ".into(),
        days => format!("{days} days, "),
    }
}

fn long_form(up: u64) -> String {
    let rest = up % DAY;
    format!("{}{:>2}:{:02}:{:02}", days(up), rest / 3600, rest / 60 % 60, rest % 60)
}

fn short_form(up: u64) -> String {
    let rest = up % DAY;
    format!("{}{:>2}:{:02}", days(up), rest / 3600, rest / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_xen_s_xl_writes_them() {
        assert_eq!(long_form(12), " 0:00:12");
        assert_eq!(long_form(DAY + 3 * 3600), "1 day,  3:00:00");
        assert_eq!(short_form(2 * DAY + 61), "2 days,  0:01");
        assert_eq!(whole("1795364707.90"), 1_795_364_707);
    }
}
