//! `xl vcpu-set`

use xenstore::client::Store;

use super::{Command, number};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "vcpu-set",
    operands: "[option] <Domain> <vCPUs>",
    summary: "Set the number of active VCPUs allowed for the domain",
    flags: &[Flag::new('i', Some("ignore-host"), "Allow more vCPUs than the host has CPUs")],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let wanted = number(parsed.operand(1), "number of vCPUs")?;
    let count = context.info(domain)?.max_vcpu.map_or(0, |last| last + 1);
    if wanted == 0 || wanted > count {
        let text = format!("xl: domain {domain} can have 1 to {count} vCPUs online");
        return Err(Failure::Failed(FAILURE, text));
    }
    let store = context.store()?;
    let root = format!("/local/domain/{domain}/cpu");
    Ok(store.transaction(|transaction| {
        for vcpu in 0..count {
            let state = if vcpu < wanted { "online" } else { "offline" };
            transaction.write(&format!("{root}/{vcpu}/availability"), state)?;
        }
        Ok::<_, xenstore::client::Error>(())
    })?)
}
