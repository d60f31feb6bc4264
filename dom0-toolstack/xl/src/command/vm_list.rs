//! `xl vm-list`

use std::fmt::Write;

use toolstack::domain;
use xen_sys::DomId;
use xen_sys::sysctl::Sysctl;

use super::{Command, shown};
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "vm-list",
    operands: "",
    summary: "List guest domains, excluding dom0",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, _: &Parsed) -> Outcome {
    let mut text = String::from("UUID                                  ID    name\n");
    for info in context.xen()?.domains(DomId::DOM0)? {
        let name = shown(context, info.domain)?;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}  {}    {name:<30}", domain::uuid(&info), info.domain.0);
    }
    print(&text)
}
