//! `xl network-detach`

use toolstack::devices::{self, Kind};

use xenstore::client::Store;

use super::Command;
use super::block_detach::detach;
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::Outcome;

pub(super) const COMMAND: Command = Command {
    name: "network-detach",
    operands: "[option] <Domain> <DevId>",
    summary: "Destroy a domain's virtual network device",
    details: "With -f the guest is not waited for.",
    flags: &[Flag::new('f', Some("force"), "Do not wait for the guest to let go of it")],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let wanted = parsed.operand(1);
    let store = context.store()?;
    let mut found = None;
    for device in devices::list(store, domain)? {
        let mac = store.read_optional(&format!("{}/mac", device.backend_path()))?;
        let named = device.devid.to_string() == wanted || mac.as_deref() == Some(wanted);
        if device.kind == Kind::Vif && named {
            found = Some(device);
        }
    }
    detach(context, parsed, found)
}
