//! The manual pages, made from the commands and from the configuration's keys.

use std::fmt::Write;

use toolstack::config::keys;

use crate::command::{Command, all};

/// Lines that are no commands' descriptions.
const OVERVIEW: &str = "xl makes, lists, watches and ends the domains of a Xen host, and speaks to its hypervisor. \
     A domain is given by its name or its number. Commands may be shortened as long as only one begins so.";
const OPTIONS: [(&str, &str); 4] = [
    ("-v", "Says more of what is done; may be repeated."),
    ("-N", "Does nothing, and prints what would be done, where the command can."),
    ("-f", "Accepted for scripts: there is nothing to be forced."),
    ("-t, -T", "Accepted for scripts: progress is not shown."),
];
const STATUS: [(&str, &str); 4] = [
    ("0", "It was done."),
    ("1", "It could not be done; a message on standard error says why."),
    ("2", "The command was used wrongly; its usage is on standard error."),
    ("3, 6", "create: there is no domain, or no configuration was given."),
];
const FILES: [(&str, &str); 4] = [
    ("/etc/xen/*.cfg", "Configurations of domains; see xl.cfg(5)."),
    ("/etc/xen/scripts", "Scripts that connect disks and network interfaces to the host."),
    ("/var/lib/xen", "What domains were made from."),
    ("/var/log/xen/xl-NAME.log", "What was done when the domain NAME stopped."),
];

/// xl(1).
pub fn commands() -> String {
    let mut page = Page::new("xl", 1, "the domain management command");
    page.section("SYNOPSIS");
    page.line(".B xl");
    page.text("[-vfNtT] <command> [arguments]");
    page.section("DESCRIPTION");
    page.text(OVERVIEW);
    page.section("OPTIONS");
    page.list(&OPTIONS);
    page.section("COMMANDS");
    for command in all().filter(|command| command.listed) {
        page.command(command);
    }
    page.section("EXIT STATUS");
    page.list(&STATUS);
    page.section("FILES");
    page.list(&FILES);
    page.section("SEE ALSO");
    page.line(".BR xl.cfg (5),");
    page.line(".BR xenstore (1)");
    page.0
}

/// xl.cfg(5).
pub fn configuration() -> String {
    let mut page = Page::new("xl.cfg", 5, "configuration of a domain");
    page.section("DESCRIPTION");
    page.text(
        "A configuration is a list of settings, key = value, one a line or parted by semicolons. A value is \
         a number, a string in single or double quotes, or a list of values in brackets, parted by commas, over \
         as many lines as it takes. # begins a comment. key += [ ... ] adds to a list. Of two settings of \
         one key the last one counts. What is wrong is reported with file, line and column, all of it at once.",
    );
    page.section("KEYS");
    let mut about = keys::ABOUT.to_vec();
    about.sort_unstable();
    page.list(&about);
    page.section("KEYS WITHOUT EFFECT YET");
    page.text("These are known, and reported when they are set:");
    page.text(&keys::NOT_YET.join(", "));
    page.section("KEYS WITHOUT MEANING ON ARM");
    page.text("These are accepted without a word, as they say nothing about a guest on Arm:");
    page.text(&keys::MEANINGLESS.join(", "));
    page.section("EXAMPLE");
    page.line(".nf");
    for line in [
        "name    = \"web\"",
        "kernel  = \"/boot/vmlinuz\"",
        "ramdisk = \"/boot/initrd.img\"",
        "root    = \"/dev/xvda ro\"",
        "extra   = \"console=hvc0\"",
        "memory  = 512",
        "maxmem  = 1024",
        "vcpus   = 2",
        "disk    = [ \"phy:/dev/vg/web,xvda,w\" ]",
        "vif     = [ \"mac=00:16:3e:00:00:01,bridge=xenbr0\" ]",
    ] {
        page.line(&escaped(line));
    }
    page.line(".fi");
    page.section("SEE ALSO");
    page.line(".BR xl (1)");
    page.0
}

/// A page in man(7)'s language.
struct Page(String);

impl Page {
    fn new(name: &str, section: u8, what: &str) -> Self {
        let upper = name.to_uppercase();
        let mut page = Self(format!(
            ".\\\" Written by xl itself, from its own commands and keys.\n.TH {upper} {section} \"\" \"Domus\"\n"
        ));
        page.section("NAME");
        page.line(&format!("{} \\- {}", escaped(name), escaped(what)));
        page
    }

    fn line(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn section(&mut self, name: &str) {
        self.line(&format!(".SH {name}"));
    }

    fn text(&mut self, text: &str) {
        self.line(&escaped(text));
    }

    fn list(&mut self, entries: &[(&str, &str)]) {
        for (term, text) in entries {
            self.line(".TP");
            self.line(&format!(".B {}", escaped(term)));
            self.text(text);
        }
    }

    fn command(&mut self, command: &Command) {
        self.line(".SS");
        // Operands that take more lines describe themselves on them.
        let operands = command.operands.lines().next().unwrap_or_default();
        self.line(&format!(".B {}", escaped(command.name)));
        self.text(operands);
        self.line(".P");
        self.text(&format!("{}.", command.summary.trim_end_matches('.')));
        if !command.details.is_empty() {
            self.text(command.details);
        }
        for flag in command.flags {
            let mut names = format!("-{}", flag.short);
            if let Some(value) = flag.value {
                names.push_str(&format!(" {value}"));
            }
            if let Some(long) = flag.long {
                let value = flag.value.map_or(String::new(), |value| format!("={value}"));
                names.push_str(&format!(", --{long}{value}"));
            }
            self.list(&[(&names, &format!("{}.", flag.help.trim_end_matches('.')))]);
        }
    }
}

/// `text` so that troff prints it as it is.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_with_every_option_is_in_the_manual() {
        let page = commands();
        for command in all().filter(|command| command.listed) {
            assert!(page.contains(&format!(".B {}\n", escaped(command.name))), "{}", command.name);
            for flag in command.flags {
                let long = flag.long.map_or(String::new(), |long| escaped(&format!("--{long}")));
                assert!(page.contains(&long), "{} {long}", command.name);
            }
        }
        assert!(!page.contains("generate"), "what is not for people is not in it");
    }

    #[test]
    fn every_key_is_in_the_manual_once() {
        let page = configuration();
        for key in keys::ACTED {
            assert!(page.contains(&format!(".B {key}\n")), "{key}");
            assert_eq!(keys::ABOUT.iter().filter(|(about, _)| about == key).count(), 1, "{key}");
        }
        assert_eq!(keys::ABOUT.len(), keys::ACTED.len());
    }

    #[test]
    fn text_is_safe_from_troff() {
        assert_eq!(escaped(".so it's\\-"), "\\&.so it\\(aqs\\e\\-");
        for line in commands().lines().chain(configuration().lines()) {
            let known = [".SH", ".SS", ".TP", ".TH", ".B", ".BR", ".P", ".nf", ".fi", ".\\\""];
            let request = line.split(' ').next().unwrap_or_default();
            assert!(!request.starts_with('.') || known.contains(&request), "{line}");
            assert!(!line.starts_with('\''), "{line}");
        }
    }
}
