//! `xl set-parameters`

use super::Command;
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "set-parameters",
    operands: "<Params>",
    summary: "Set hypervisor parameters",
    details: "Each parameter is given as on the hypervisor's command line. Those that can be changed while it \
              runs are loglvl and guest_loglvl, as in xl set-parameters loglvl=all.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    parsed.require(COMMAND.name, 1)?;
    let all = parsed.operands.join(" ");
    let failed =
        |why: String| Failure::Failed(FAILURE, format!("xl: {why}\ncannot set parameters: {all}"));
    for parameter in all.split_whitespace() {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(failed(format!("{parameter} is not as in loglvl=all")));
        };
        let set = context.xen()?.set_parameter(name, value);
        set.map_err(|error| failed(format!("{name} cannot be changed: {error}")))?;
    }
    Ok(())
}
