//! `xl debug-keys`

use xen_sys::sysctl::Sysctl;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::Outcome;

pub(super) const COMMAND: Command = Command {
    name: "debug-keys",
    operands: "<Keys>",
    summary: "Send debug keys to the hypervisor",
    details: "The hypervisor answers in its log, see dmesg. h lists the keys.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    Ok(context.xen()?.debug_keys(parsed.operand(0))?)
}
