//! The commands, and which one was typed.

mod block_attach;
mod block_detach;
mod block_list;
mod button_press;
mod claims;
mod config_update;
mod console;
mod cpupool_cpu_add;
mod cpupool_cpu_remove;
mod cpupool_create;
mod cpupool_destroy;
mod cpupool_list;
mod cpupool_migrate;
mod cpupool_numa_split;
mod cpupool_rename;
mod create;
mod debug_keys;
mod destroy;
mod device_lists;
mod dmesg;
mod document;
mod domid;
mod domname;
mod dump_core;
mod getenforce;
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
mod refused;
mod rename;
mod sched;
mod sched_credit;
mod sched_credit2;
mod sched_rtds;
mod set_parameters;
mod sharing;
mod shutdown;
mod sysrq;
mod top;
mod trigger;
mod unpause;
mod uptime;
mod vcpu_list;
mod vcpu_pin;
mod vcpu_set;
mod vm_list;

use std::fmt::Write;
use std::process::ExitCode;

use xen_sys::DomId;

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
    /// More about it, for the manual; empty where there is no more to say.
    pub(crate) details: &'static str,
    /// Its options.
    pub(crate) flags: &'static [Flag],
    /// Whether it is for people; others are for the tools themselves.
    pub(crate) listed: bool,
    /// Does it.
    pub(crate) run: fn(&Context, &Parsed) -> Outcome,
}

/// Commands with a file of their own, in the order of the list.
const OWN: &[Command] = &[
    create::COMMAND,
    config_update::COMMAND,
    list::COMMAND,
    destroy::COMMAND,
    shutdown::COMMAND,
    reboot::COMMAND,
    pause::COMMAND,
    unpause::COMMAND,
    console::COMMAND,
    dump_core::COMMAND,
    mem_max::COMMAND,
    mem_set::COMMAND,
    button_press::COMMAND,
    vcpu_list::COMMAND,
    vcpu_pin::COMMAND,
    vcpu_set::COMMAND,
    vm_list::COMMAND,
    info::COMMAND,
    sharing::COMMAND,
    sched_credit::COMMAND,
    sched_credit2::COMMAND,
    sched_rtds::COMMAND,
    domid::COMMAND,
    domname::COMMAND,
    rename::COMMAND,
    trigger::COMMAND,
    sysrq::COMMAND,
    debug_keys::COMMAND,
    set_parameters::COMMAND,
    dmesg::COMMAND,
    top::COMMAND,
    network_attach::COMMAND,
    network_list::COMMAND,
    network_detach::COMMAND,
    block_attach::COMMAND,
    block_list::COMMAND,
    block_detach::COMMAND,
    uptime::COMMAND,
    claims::COMMAND,
    cpupool_create::COMMAND,
    cpupool_list::COMMAND,
    cpupool_destroy::COMMAND,
    cpupool_rename::COMMAND,
    cpupool_cpu_add::COMMAND,
    cpupool_cpu_remove::COMMAND,
    cpupool_migrate::COMMAND,
    cpupool_numa_split::COMMAND,
    getenforce::COMMAND,
    help::COMMAND,
    init_dom0::COMMAND,
    monitor_domain::COMMAND,
    document::COMMAND,
];

/// Commands of Xen's xl that we know and do not have yet.
const NOT_YET: &[&str] = &["migrate", "migrate-receive", "restore", "save"];

/// All commands, in the order of the list.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    OWN.iter().chain(device_lists::COMMANDS).chain(refused::COMMANDS)
}

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
    context.take_back_unfinished();
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
    if let Some(exact) = all().find(|command| command.name == name) {
        return Some(exact);
    }
    let mut matching = all().filter(|command| command.listed && command.name.starts_with(name));
    match (matching.next(), matching.next()) {
        (Some(command), None) => Some(command),
        _ => None,
    }
}

/// A domain's name as it is printed: where it has none, as C's library prints none.
pub(crate) fn shown(context: &Context, domain: DomId) -> Outcome<String> {
    let name = context.name(domain)?;
    Ok(if name.is_empty() { "(null)".into() } else { name })
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
        let all: Vec<_> = all().collect();
        for (index, command) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other.name != command.name));
            assert!(!NOT_YET.contains(&command.name));
            for (index, flag) in command.flags.iter().enumerate() {
                assert!(command.flags[index + 1..].iter().all(|other| other.short != flag.short));
            }
        }
    }
}
