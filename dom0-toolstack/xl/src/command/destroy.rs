//! `xl destroy`

use toolstack::domain;
use xen_sys::DomId;

use super::Command;
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "destroy",
    operands: "[options] <Domain>",
    summary: "Terminate a domain immediately",
    details: "The guest is not asked. All that belongs to the domain goes with it: devices, loop devices, \
              xenstore nodes, memory.",
    flags: &[Flag::new(
        'f',
        None,
        "Permit destroying domain 0, which will only succeed if it is not it",
    )],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    // Without it, a domain that its monitor makes anew at this moment would come back.
    let _alone = context.lock_or_go_on();
    let domain = context.domain(parsed.operand(0))?;
    if domain == DomId::DOM0 && !parsed.has('f') {
        return Err(Failure::Failed(FAILURE, "xl: Dom0 is not destroyed".into()));
    }
    Ok(domain::destroy(context.xen()?, context.store()?, &context.files, domain)?)
}
