//! `xl dmesg`

use xen_sys::sysctl::Sysctl;

use super::Command;
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "dmesg",
    operands: "[-c]",
    summary: "Read and/or clear the hypervisor's log",
    details: "",
    flags: &[Flag::new('c', Some("clear"), "Clear the log as well as printing it")],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let log = context.xen()?.read_console(parsed.has('c'))?;
    print(&String::from_utf8_lossy(&log))
}
