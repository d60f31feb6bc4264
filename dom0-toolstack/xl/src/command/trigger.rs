//! `xl trigger`

use toolstack::domain::{self, Request};
use xen_sys::DomId;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "trigger",
    operands: "<Domain> <nmi|reset|init|power|sleep|s3resume> [<VCPU>]",
    summary: "Send a trigger to a domain",
    details: "Guests on Arm have no ACPI buttons and no NMI. power and reset do what their owner \
              means by them, and ask the guest to power off or to restart; the others are \
              refused with a message and, as in Xen's xl, exit status 0.",
    flags: &[],
    listed: true,
    run,
};

/// What can be triggered (libxl's names).
const NAMES: [&str; 7] = ["unknown", "power", "sleep", "nmi", "init", "reset", "s3resume"];

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let name = parsed.operand(1);
    if !NAMES.contains(&name) {
        return Err(Failure::Failed(FAILURE, format!("Invalid trigger \"{name}\"")));
    }
    if parsed.operands.get(2).is_some_and(|vcpu| vcpu.parse::<u32>().is_err()) {
        eprintln!("Invalid vcpuid, using default vcpuid=0.\n");
    }
    press(context, domain, name)
}

/// Does what `name` stands for, if a guest on Arm knows it.
pub(super) fn press(context: &Context, domain: DomId, name: &str) -> Outcome {
    let request = match name {
        "power" => Request::Poweroff,
        "reset" => Request::Reboot,
        _ => {
            eprintln!("xl: domain {domain} cannot be sent '{name}': guests on Arm do not have it");
            return Ok(());
        }
    };
    Ok(domain::request(context.xen()?, context.store()?, domain, request)?)
}
