//! `xl network-list`

use std::fmt::Write;

use toolstack::devices::{self, Kind};
use xenstore::client::Store;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "network-list",
    operands: "<Domain(s)>",
    summary: "List virtual network interfaces for a domain",
    details: "",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let store = context.store()?;
    let mut text = String::from(
        "Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path                       \n",
    );
    for name in &parsed.operands {
        let domain = context.domain(name)?;
        for device in devices::list(store, domain)? {
            if device.kind != Kind::Vif {
                continue;
            }
            let front = device.frontend_path();
            let read = |name: &str| -> Outcome<String> {
                Ok(store.read_optional(&format!("{front}/{name}"))?.unwrap_or_else(|| "-1".into()))
            };
            let (mac, state, port) = (read("mac")?, read("state")?, read("event-channel")?);
            let (transmit, receive) = (read("tx-ring-ref")?, read("rx-ring-ref")?);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<3} {:<2} {mac}{:>6} {state:>5} {port:>6} {transmit:>5}/{receive:<11} {:<30}",
                device.devid,
                device.backend.0,
                device.devid,
                device.backend_path()
            );
        }
    }
    print(&text)
}
