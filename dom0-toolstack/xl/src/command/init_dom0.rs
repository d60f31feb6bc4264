//! `xl init-dom0`, also `xen-init-dom0`: run once, when xenstored has started.

use toolstack::dom0;

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "init-dom0",
    operands: "",
    summary: "Prepare xenstore for the toolstack",
    details: "",
    flags: &[],
    listed: false,
    run,
};

fn run(context: &Context, _: &Parsed) -> Outcome {
    let kernel_page = rustix::param::page_size() as u64;
    dom0::initialise(context.xen()?, context.store()?, kernel_page)?;
    print("Done setting up Dom0\n")
}
