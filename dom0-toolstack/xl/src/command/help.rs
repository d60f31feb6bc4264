//! `xl help`

use std::fmt::Write;

use super::{Command, all, find};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "help",
    operands: "[-v] [Command]",
    summary: "Show this list, or how one command is used",
    details: "",
    flags: &[Flag::new('v', None, "Show how every command is used")],
    listed: true,
    run,
};

fn run(_: &Context, parsed: &Parsed) -> Outcome {
    if let Some(name) = parsed.operands.first() {
        return match find(name) {
            Some(command) => print(&command.usage()),
            None => Err(Failure::Failed(FAILURE, format!("command \"{name}\" not implemented"))),
        };
    }
    let mut text = overview();
    if parsed.has('v') {
        for command in listed() {
            text.push('\n');
            text.push_str(&command.usage());
        }
    }
    print(&text)
}

/// The list of commands.
pub(super) fn overview() -> String {
    let mut text =
        String::from("Usage xl [-vfNtT] <subcommand> [args]\n\nxl full list of subcommands:\n\n");
    for command in listed() {
        // Writing to a string cannot fail. A name too long for its column has a line of its own.
        let _ = write!(text, " {:<19} ", command.name);
        if command.name.len() > 19 {
            let _ = write!(text, "\n                     ");
        }
        let _ = writeln!(text, "{}", command.summary);
    }
    text
}

pub(super) fn listed() -> impl Iterator<Item = &'static Command> {
    all().filter(|command| command.listed)
}
