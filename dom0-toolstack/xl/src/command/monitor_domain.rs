//! The process in the background that each domain has; started by `xl create`.

use uuid::Uuid;
use xen_sys::DomId;
use xenstore::cage;

use super::{Command, number};
use crate::args::Parsed;
use crate::context::Context;
use crate::monitor;
use crate::outcome::{Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: monitor::COMMAND,
    operands: "<DomainId> <UUID>",
    summary: "Wait for a domain's end and do what its configuration says",
    details: "",
    flags: &[],
    listed: false,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let wrong = || Failure::Usage("expected a domain's id and UUID".into());
    let id = number(parsed.operand(0), "domain id")?;
    let domain = DomId(u16::try_from(id).map_err(|_too_large| wrong())?);
    let uuid = Uuid::parse_str(parsed.operand(1)).map_err(|_not_a_uuid| wrong())?;
    // It lives as long as its guest, and restarts it with what the guest left behind.
    if let Err(error) = cage::leave_the_kernel_alone() {
        monitor::say(&format!("No seccomp, the monitor may make all system calls: {error:#}"));
    }
    monitor::run(context, domain, uuid)
}
