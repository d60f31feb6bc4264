//! The commands, and which one was typed.

mod block_attach;
mod block_detach;
mod block_list;
mod console;
mod create;
mod debug_keys;
mod destroy;
mod dmesg;
mod domid;
mod domname;
mod help;
mod info;
mod init_dom0;
mod list;
mod mem_max;
mod mem_set;
mod monitor_domain;
mod network_attach;
mod network_detach;
mod network_list;
mod pause;
mod power;
mod reboot;
mod rename;
mod sched_credit2;
mod shutdown;
mod sysrq;
mod unpause;
mod uptime;
mod vcpu_list;
mod vcpu_pin;
mod vcpu_set;
mod vm_list;

use std::fmt::Write;
use std::process::ExitCode;

use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{FAILURE, Failure, Outcome};

/// A command: how it is called, what it is told, and what it does.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its operands, as the usage shows them.
    pub(crate) operands: &'static str,
    /// One line for the list of commands.
    pub(crate) summary: &'static str,
    /// Its options.
    pub(crate) flags: &'static [Flag],
    /// Whether it is for people; others are for the tools themselves.
    pub(crate) listed: bool,
    /// Does it.
    pub(crate) run: fn(&Context, &Parsed) -> Outcome,
}

/// All commands, in the order of the list.
pub(crate) const ALL: &[Command] = &[
    create::COMMAND,
    list::COMMAND,
    destroy::COMMAND,
    shutdown::COMMAND,
    reboot::COMMAND,
    pause::COMMAND,
    unpause::COMMAND,
    console::COMMAND,
    mem_max::COMMAND,
    mem_set::COMMAND,
    vcpu_list::COMMAND,
    vcpu_pin::COMMAND,
    vcpu_set::COMMAND,
    vm_list::COMMAND,
    info::COMMAND,
    sched_credit2::COMMAND,
    domid::COMMAND,
    domname::COMMAND,
    rename::COMMAND,
    sysrq::COMMAND,
    debug_keys::COMMAND,
    dmesg::COMMAND,
    network_attach::COMMAND,
    network_list::COMMAND,
    network_detach::COMMAND,
    block_attach::COMMAND,
    block_list::COMMAND,
    block_detach::COMMAND,
    uptime::COMMAND,
    help::COMMAND,
    init_dom0::COMMAND,
    monitor_domain::COMMAND,
];

/// Commands of Xen's xl that we know and do not have yet.
const NOT_YET: &[&str] = &[
    "button-press",
    "cd-eject",
    "cd-insert",
    "claims",
    "config-update",
    "cpupool-cpu-add",
    "cpupool-cpu-remove",
    "cpupool-create",
    "cpupool-destroy",
    "cpupool-list",
    "cpupool-migrate",
    "cpupool-rename",
    "devd",
    "dt-overlay",
    "dump-core",
    "migrate",
    "migrate-receive",
    "restore",
    "save",
    "top",
    "trigger",
];

impl Command {
    /// How the command is used, with its options.
    pub(crate) fn usage(&self) -> String {
        let space = if self.operands.is_empty() { "" } else { " " };
        let mut text = format!(
            "Usage: xl [-vtTfN] {}{space}{}\n\n{}.\n",
            self.name, self.operands, self.summary
        );
        if !self.flags.is_empty() {
            text.push_str("\nOptions:\n\n");
        }
        for flag in self.flags {
            let value = |separator: &str| {
                flag.value.map_or(String::new(), |value| format!("{separator}{value}"))
            };
            let mut names = format!("-{}{}", flag.short, value(" "));
            if let Some(long) = flag.long {
                names.push_str(&format!(", --{long}{}", value("=")));
            }
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{names:<23} {}.", flag.help);
        }
        text
    }
}

/// Carries out what was typed after the program's name.
pub fn run(words: &[String]) -> ExitCode {
    let mut context = Context::default();
    let mut rest = words;
    while let [option, tail @ ..] = rest
        && let Some(letters) = option.strip_prefix('-').filter(|letters| !letters.is_empty())
    {
        for letter in letters.chars() {
            match letter {
                'v' => context.verbosity += 1,
                'N' => context.dry_run = true,
                // Locks and time stamps, which we do not have, and progress, which we do not show.
                'f' | 't' | 'T' => {}
                _ => {
                    eprintln!("xl: unknown global option '-{letter}'");
                    return ExitCode::from(FAILURE);
                }
            }
        }
        rest = tail;
    }
    let [name, arguments @ ..] = rest else {
        eprint!("{}", help::overview());
        return ExitCode::from(FAILURE);
    };
    let Some(command) = find(name) else {
        if NOT_YET.contains(&name.as_str()) {
            eprintln!("xl: the command {name} is not supported yet");
        } else {
            eprintln!("xl: there is no command {name}; xl help lists those there are");
        }
        return ExitCode::from(FAILURE);
    };
    match carry_out(&context, command, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&command.usage()),
    }
}

fn carry_out(context: &Context, command: &Command, arguments: &[String]) -> Outcome {
    if matches!(arguments.first().map(String::as_str), Some("-h" | "--help")) {
        return crate::outcome::print(&command.usage());
    }
    let parsed = Parsed::new(command.name, command.flags, arguments)?;
    (command.run)(context, &parsed)
}

/// The command called `name`, or the only one that begins so.
fn find(name: &str) -> Option<&'static Command> {
    if let Some(exact) = ALL.iter().find(|command| command.name == name) {
        return Some(exact);
    }
    let mut matching =
        ALL.iter().filter(|command| command.listed && command.name.starts_with(name));
    match (matching.next(), matching.next()) {
        (Some(command), None) => Some(command),
        _ => None,
    }
}

/// A number among the operands.
pub(crate) fn number(text: &str, what: &str) -> Outcome<u32> {
    text.parse().map_err(|_not_a_number| Failure::Usage(format!("Invalid {what} '{text}'.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_by_its_name_or_an_unambiguous_beginning() {
        assert_eq!(find("list").unwrap().name, "list");
        assert_eq!(find("cre").unwrap().name, "create");
        assert_eq!(find("debug").unwrap().name, "debug-keys");
        assert!(find("d").is_none() && find("nonsense").is_none());
        assert!(find("monitor").is_none());
    }

    #[test]
    fn names_are_unique_and_letters_too() {
        for (index, command) in ALL.iter().enumerate() {
            assert!(ALL[index + 1..].iter().all(|other| other.name != command.name));
            assert!(!NOT_YET.contains(&command.name));
            for (index, flag) in command.flags.iter().enumerate() {
                assert!(command.flags[index + 1..].iter().all(|other| other.short != flag.short));
            }
        }
    }
}
