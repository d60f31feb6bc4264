//! `xl mem-max`

use xen_sys::domctl::Domctl;
use xenstore::client::Store;

use super::Command;
use crate::args::{Parsed, memory_kib};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "mem-max",
    operands: "<Domain> <MemMB['b'[bytes]|'k'[KB]|'m'[MB]|'g'[GB]|'t'[TB]]>",
    summary: "Set the maximum amount reservation for a domain",
    details: "The domain's memory as it is now does not change. Units are as for mem-set.",
    flags: &[],
    listed: true,
    run,
};

/// What a domain may have over its memory, for the pages it shares.
pub(super) const SLACK_KIB: u64 = 1024;

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let text = parsed.operand(1);
    let kib = memory_kib(text)
        .ok_or_else(|| Failure::Failed(FAILURE, format!("invalid memory size: {text}")))?;
    let path = format!("/local/domain/{domain}/memory");
    let store = context.store()?;
    let target = store.read_optional(&format!("{path}/target"))?;
    if target.and_then(|target| target.parse::<u64>().ok()).is_some_and(|target| kib < target) {
        let text = "xl: the maximum cannot be less than what the domain has (see xl mem-set)";
        return Err(Failure::Failed(FAILURE, text.into()));
    }
    context.xen()?.set_max_memory(domain, kib + SLACK_KIB)?;
    Ok(store.write(&format!("{path}/static-max"), &kib.to_string())?)
}
