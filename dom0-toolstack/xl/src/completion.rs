//! Completion for bash, made from the commands and their options.

use std::fmt::Write;

use crate::command::{Command, all};

/// What follows the options of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operand {
    /// A domain's name.
    Domain,
    /// A file.
    File,
    /// A command's name.
    Command,
    /// Something that cannot be guessed.
    Other,
}

impl Operand {
    /// The first operand of a command, by what its usage calls it.
    fn of(command: &Command) -> Self {
        if command.name == "help" {
            return Self::Command;
        }
        // Words in brackets before it are optional; `-a|Domain` is a domain's place, too.
        let words = command.operands.split_whitespace();
        let first = words.map(|word| word.trim_matches(['<', '>', '[', ']', ','])).find(|word| {
            word.starts_with("Domain") || word.ends_with("|Domain") || *word == "ConfigFile"
        });
        match first {
            Some("ConfigFile") if !command.operands.contains("Domain") => Self::File,
            Some(word) if word.starts_with("DomainId") || word.starts_with("DomainName") => {
                Self::Other
            }
            Some(_) => Self::Domain,
            None => Self::Other,
        }
    }
}

/// The script that bash sources.
pub fn bash() -> String {
    let listed = || all().filter(|command| command.listed);
    let names: Vec<&str> = listed().map(|command| command.name).collect();
    let mut options = String::new();
    let (mut domains, mut files) = (Vec::new(), Vec::new());
    for command in listed() {
        let mut words = vec!["-h".to_owned(), "--help".to_owned()];
        for flag in command.flags {
            words.push(format!("-{}", flag.short));
            words.extend(flag.long.map(|long| format!("--{long}")));
        }
        words.dedup();
        // Writing to a string cannot fail.
        let _ = writeln!(options, "        {}) options=\"{}\" ;;", command.name, words.join(" "));
        match Operand::of(command) {
            Operand::Domain => domains.push(command.name),
            Operand::File => files.push(command.name),
            Operand::Command | Operand::Other => {}
        }
    }
    format!(
        r#"# bash completion for xl(1); written by xl itself, from its own commands.

_xl() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} command= index options=
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${{COMP_WORDS[index]}} in
        -*) ;;
        *) command=${{COMP_WORDS[index]}}; break ;;
        esac
    done
    COMPREPLY=()
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W "-v -f -N -t -T {commands}" -- "$current"))
        return
    fi
    if [[ $current == -* ]]; then
        case $command in
{options}        esac
        COMPREPLY=($(compgen -W "$options" -- "$current"))
        return
    fi
    case $command in
        {domains})
            COMPREPLY=($(compgen -W "$(xl list 2>/dev/null | awk 'NR > 1 {{ print $1 }}')" -- "$current")) ;;
        {files})
            COMPREPLY=($(compgen -f -- "$current")) ;;
        help)
            COMPREPLY=($(compgen -W "{commands}" -- "$current")) ;;
    esac
}}
complete -o filenames -F _xl xl
"#,
        commands = names.join(" "),
        domains = domains.join(" | "),
        files = files.join(" | "),
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;

    /// What bash offers after `line`, whose last word is being typed.
    fn offered(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let script = format!(
            "xl() {{ printf 'Name ID\\nDomain-0 0\\ndemo 1\\n'; }}\n{}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n\
             _xl; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            bash(),
            words.join(" "),
            words.len() - 1
        );
        let output = Process::new("bash").args(["--norc", "-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_options_and_domains() {
        assert_eq!(offered("xl cre"), ["create"]);
        assert_eq!(offered("xl -v vcpu-p"), ["vcpu-pin"]);
        assert_eq!(offered("xl create --def"), ["--defconfig"]);
        assert_eq!(offered("xl destroy de"), ["demo"]);
        assert_eq!(offered("xl shutdown -w Dom"), ["Domain-0"]);
        assert_eq!(offered("xl help sched-credit2"), ["sched-credit2"]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("web.cfg");
        std::fs::write(&file, "").unwrap();
        let typed = directory.path().join("we");
        assert_eq!(offered(&format!("xl create {}", typed.display())), [file.to_str().unwrap()]);
        assert!(offered("xl monitor").is_empty());
    }

    #[test]
    fn the_first_operand_is_known_by_its_name() {
        let of = |name| Operand::of(all().find(|command| command.name == name).unwrap());
        assert_eq!(of("create"), Operand::File);
        for name in ["destroy", "shutdown", "list", "block-attach", "console", "config-update"] {
            assert_eq!(of(name), Operand::Domain, "{name}");
        }
        assert_eq!((of("domid"), of("info")), (Operand::Other, Operand::Other));
    }
}
