//! `xl block-list`

use std::fmt::Write;

use toolstack::devices::{self, Kind};
use xenstore::client::Store;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "block-list",
    operands: "<Domain(s)>",
    summary: "List virtual block devices for a domain",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let store = context.store()?;
    let mut text =
        String::from("Vdev  BE  handle state evt-ch ring-ref BE-path                       \n");
    for name in &parsed.operands {
        let domain = context.domain(name)?;
        for device in devices::list(store, domain)? {
            if device.kind != Kind::Vbd {
                continue;
            }
            let front = device.frontend_path();
            let read = |name: &str| -> Outcome<String> {
                Ok(store.read_optional(&format!("{front}/{name}"))?.unwrap_or_else(|| "-1".into()))
            };
            let (state, port, ring) = (read("state")?, read("event-channel")?, read("ring-ref")?);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<5} {:<3} {:<6} {state:<5} {port:<6} {ring:<8} {:<30}",
                device.devid,
                device.backend.0,
                domain.0,
                device.backend_path()
            );
        }
    }
    print(&text)
}
