//! `xl block-detach`

use toolstack::config::disk;
use toolstack::devices::{self, Device, Kind};

use super::Command;
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "block-detach",
    operands: "[option] <Domain> <DevId>",
    summary: "Destroy a domain's virtual block device",
    details: "<DevId> is a name as xvdb or a number as block-list prints it.",
    flags: &[Flag::new('f', Some("force"), "Do not wait for the guest to let go of it")],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let devid = disk::devid(parsed.operand(1));
    let store = context.store()?;
    let device = devices::list(store, domain)?
        .into_iter()
        .find(|device| device.kind == Kind::Vbd && Some(device.devid) == devid);
    detach(context, parsed, device)
}

/// Takes the device away that the second operand names, if it was found.
pub(super) fn detach(context: &Context, parsed: &Parsed, device: Option<Device>) -> Outcome {
    let device = device.ok_or_else(|| {
        let text = format!("Error: Device {} not connected.", parsed.operand(1));
        Failure::Failed(FAILURE, text)
    })?;
    let store = context.store()?;
    if parsed.has('f') {
        return Ok(device.remove(store)?);
    }
    Ok(device.detach(context.xen()?, store)?)
}
