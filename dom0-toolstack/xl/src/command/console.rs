//! `xl console`

use std::time::Duration;

use toolstack::store;
use xen_sys::DomId;
use xenstore::client::Store;

use super::{Command, number};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};
use crate::terminal;

pub(super) const COMMAND: Command = Command {
    name: "console",
    operands: "[options] <Domain>\n-t <type>       console type, pv , serial or vuart\n-n <number>     console number",
    summary: "Attach to domain's console",
    details: "Ctrl-] comes back.",
    flags: &[
        Flag::new('t', None, "Console type: pv, serial or vuart").with_value("TYPE"),
        Flag::new('n', None, "Console number").with_value("NUMBER"),
        Flag::new('e', None, "Escape character; always Ctrl-]").with_value("CHARACTER"),
    ],
    listed: true,
    run,
};

/// How long xenconsoled may take to give a new domain's console a terminal.
const TIMEOUT: Duration = Duration::from_secs(5);

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let domain = context.domain(parsed.operand(0))?;
    let index = parsed.value('n').map_or(Ok(0), |text| number(text, "console number"))?;
    attach(context, domain, parsed.value('t').unwrap_or("pv"), index)
}

/// Joins the user's terminal to a console of `domain`.
pub(super) fn attach(context: &Context, domain: DomId, kind: &str, index: u32) -> Outcome {
    if domain == DomId::DOM0 {
        return Err(Failure::Failed(FAILURE, "Can't specify Domain-0".into()));
    }
    let root = format!("/local/domain/{domain}");
    let path = match (kind, index) {
        ("pv", 0) => format!("{root}/console/tty"),
        ("pv", index) => format!("{root}/device/console/{index}/tty"),
        ("serial", index) => format!("{root}/serial/{index}/tty"),
        ("vuart", index) => format!("{root}/vuart/{index}/tty"),
        (kind, _) => return Err(Failure::Usage(format!("Invalid console type '{kind}'."))),
    };
    let store = context.store()?;
    let tty = store::wait_for(store, &path, TIMEOUT, || {
        Ok(store.read_optional(&path)?.filter(|tty| !tty.is_empty()))
    })?;
    let failed = |why: String| Failure::Failed(FAILURE, format!("xl: {why}"));
    let tty = tty.ok_or_else(|| {
        failed(format!("domain {domain} has no such console (is xenconsoled running?)"))
    })?;
    terminal::attach(&tty).map_err(|error| failed(format!("console of domain {domain}: {error}")))
}
