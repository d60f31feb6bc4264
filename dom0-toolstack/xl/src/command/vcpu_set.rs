//! `xl vcpu-set`

use xen_sys::sysctl::Sysctl;
use xenstore::client::Store;

use super::{Command, number};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "vcpu-set",
    operands: "[option] <Domain> <vCPUs>",
    summary: "Set the number of active VCPUs allowed for the domain",
    details: "The guest turns vCPUs on and off, up to its maxvcpus.",
    flags: &[Flag::new('i', Some("ignore-host"), "Allow more vCPUs than the host has CPUs")],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let wanted = number(parsed.operand(1), "number of vCPUs")
        .map_err(|_| Failure::Failed(FAILURE, "Error: Invalid argument.".into()))?;
    let info = context.info(domain)?;
    let count = info.max_vcpu.map_or(0, |last| last + 1);
    let host = context.xen()?.phys_info()?.max_cpu + 1;
    if !parsed.has('i') && wanted > info.online_vcpus && wanted > host {
        let text = format!(
            "You are overcommmitting! You have {host} physical CPUs and want {wanted} vCPUs! \
             Aborting, use --ignore-host to continue"
        );
        return Err(Failure::Failed(FAILURE, text));
    }
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
