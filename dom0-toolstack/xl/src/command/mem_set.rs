//! `xl mem-set`

use xen_sys::DomId;
use xen_sys::domctl::Domctl;
use xen_sys::memory::Memory;
use xenstore::client::Store;

use super::{Command, mem_max};
use crate::args::{Parsed, memory_kib};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "mem-set",
    operands: "<Domain> <MemMB['b'[bytes]|'k'[KB]|'m'[MB]|'g'[GB]|'t'[TB]]>",
    summary: "Set the current memory usage for a domain",
    details: "The guest's balloon driver gives memory back, or takes more, up to the maximum (maxmem, or \
              mem-max). Without a unit MiB are meant.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let text = parsed.operand(1);
    let kib = memory_kib(text)
        .ok_or_else(|| Failure::Failed(FAILURE, format!("invalid memory size: {text}")))?;
    let refuse = |why: &str| Err(Failure::Failed(FAILURE, format!("xl: {why}")));
    if domain == DomId::DOM0 {
        return refuse("Dom0's memory stays as it is: it is mapped one to one");
    }
    let path = format!("/local/domain/{domain}/memory");
    let store = context.store()?;
    let maximum = store.read_optional(&format!("{path}/static-max"))?;
    if maximum.and_then(|maximum| maximum.parse::<u64>().ok()).is_some_and(|max| kib > max) {
        return refuse("the target is above the domain's maximum (see xl mem-max)");
    }
    let xen = context.xen()?;
    xen.set_max_memory(domain, kib + mem_max::SLACK_KIB)?;
    xen.set_target(domain, kib / 4)?;
    Ok(store.write(&format!("{path}/target"), &kib.to_string())?)
}
