//! `xl sharing`

use std::fmt::Write;

use xen_sys::DomId;
use xen_sys::sysctl::Sysctl;

use super::{Command, shown};
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "sharing",
    operands: "[Domain]",
    summary: "Get information about page sharing",
    details: "Pages are not shared between domains on Arm: the last column is zero.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let domains = match parsed.operands.first() {
        None => context.xen()?.domains(DomId::DOM0)?,
        Some(name) => vec![context.info(context.domain(name)?)?],
    };
    let mut text = String::from("Name                                        ID   Mem Shared\n");
    for info in domains {
        let (name, domain) = (shown(context, info.domain)?, info.domain.0);
        let mib = (info.total_pages + info.outstanding_pages) * 4 / 1024;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<40} {domain:>5} {mib:>5}  {:>5}", 0);
    }
    print(&text)
}
