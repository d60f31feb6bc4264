//! `xl button-press`

use super::{Command, trigger};
use crate::args::Parsed;
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

pub(super) const COMMAND: Command = Command {
    name: "button-press",
    operands: "<Domain> <Button>",
    summary: "Indicate an ACPI button press to the domain",
    details: "Deprecated: use trigger. <Button> may be power or sleep.",
    flags: &[],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    eprintln!("WARNING: \"button-press\" is deprecated. Please use \"trigger\"");
    parsed.require(COMMAND.name, 2)?;
    let domain = context.domain(parsed.operand(0))?;
    let button = parsed.operand(1);
    if !matches!(button, "power" | "sleep") {
        let text = format!("{button} is an invalid button identifier");
        return Err(Failure::Failed(FAILURE, text));
    }
    trigger::press(context, domain, button)
}
