//! What was typed: which command, its options, its operands.

use crate::base_name;

/// A command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    Chmod,
    Control,
    Exists,
    List,
    Ls,
    Read,
    Rm,
    Watch,
    Write,
}

/// The options of all commands; each command accepts some.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Options {
    /// Whole paths, nothing cut off.
    pub(crate) flat: bool,
    /// Paths before values; permissions in `ls`.
    pub(crate) prefix: bool,
    /// Remove parents that became empty too.
    pub(crate) tidy: bool,
    /// Change all nodes above too.
    pub(crate) upto: bool,
    /// Change all nodes below too.
    pub(crate) recurse: bool,
    /// Values as they are.
    pub(crate) raw: bool,
    /// Watch events to wait for.
    pub(crate) count: Option<u64>,
    /// Levels below a watched path that count.
    pub(crate) depth: Option<u32>,
}

/// Why a line is no command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// It asks for this help.
    Help(String),
    /// It is wrong; this tells how to write one.
    Wrong(String),
}

/// A command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Invocation {
    pub(crate) command: Command,
    pub(crate) options: Options,
    pub(crate) operands: Vec<String>,
}

impl Command {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "chmod" => Self::Chmod,
            "control" => Self::Control,
            "exists" => Self::Exists,
            "list" => Self::List,
            "ls" => Self::Ls,
            "read" => Self::Read,
            "rm" => Self::Rm,
            "watch" => Self::Watch,
            "write" => Self::Write,
            _ => return None,
        })
    }

    const fn usage(self) -> &'static str {
        match self {
            Self::Chmod => "chmod [-h] [-u] [-r] key <mode [modes...]>",
            Self::Control => "control [-h] command [arguments...]",
            Self::Exists => "exists [-h] key",
            Self::List => "list [-h] [-p] key [...]",
            Self::Ls => "ls [-h] [-f] [-p] [path]",
            Self::Read => "read [-h] [-p] [-R] key [...]",
            Self::Rm => "rm [-h] [-t] key [...]",
            Self::Watch => "watch [-h] [-n NR] [-d DEPTH] key",
            Self::Write => "write [-h] [-R] key value [...]",
        }
    }

    const fn accepts(self, option: char) -> bool {
        match option {
            'f' => matches!(self, Self::Ls),
            'p' => matches!(self, Self::Read | Self::List | Self::Ls),
            't' => matches!(self, Self::Rm),
            'u' | 'r' => matches!(self, Self::Chmod),
            'n' | 'd' => matches!(self, Self::Watch),
            'R' => matches!(self, Self::Read | Self::Write),
            // Debian's tools take and ignore it: there is only one socket.
            's' => true,
            _ => false,
        }
    }

    const fn operands_fit(self, count: usize) -> bool {
        match self {
            Self::Ls => true,
            Self::Write => count >= 2 && count.is_multiple_of(2),
            Self::Chmod => count >= 2,
            Self::Control | Self::Exists | Self::List | Self::Read | Self::Rm | Self::Watch => {
                count >= 1
            }
        }
    }
}

/// Reads a command line; what is returned otherwise tells how to write one.
pub(crate) fn parse(words: &[String]) -> Result<Invocation, Refusal> {
    let program = words.first().map_or("xenstore", |name| base_name(name));
    let mut rest = words.iter().skip(1).map(String::as_str);
    let (command, name) = match program.strip_prefix("xenstore-") {
        Some(name) => (Command::from_name(name), name),
        None => match rest.next() {
            Some(name) => (Command::from_name(name), name),
            None => return Err(Refusal::Wrong(format!("Usage: {program} <mode> [-h] [...]"))),
        },
    };
    let command = command.ok_or_else(|| Refusal::Wrong(format!("unknown mode {name}")))?;
    let help = || match program.strip_prefix("xenstore-") {
        Some(_) => format!("Usage: xenstore-{}", command.usage()),
        None => format!("Usage: {program} {}", command.usage()),
    };
    let usage = || Refusal::Wrong(help());
    let mut options = Options::default();
    let mut operands = Vec::new();
    let mut only_operands = false;
    while let Some(word) = rest.next() {
        if only_operands || !word.starts_with('-') || word == "-" {
            operands.push(word.to_owned());
            // What follows the first operand of these is theirs, dashes included.
            only_operands |= matches!(command, Command::Control | Command::Write);
            continue;
        }
        if word == "--" {
            only_operands = true;
            continue;
        }
        let (letters, attached) = letters_of(word).ok_or_else(usage)?;
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            if letter == 'h' {
                return Err(Refusal::Help(help()));
            }
            if !command.accepts(letter) {
                return Err(usage());
            }
            if matches!(letter, 'n' | 'd') {
                let glued = letters.as_str();
                let number = if glued.is_empty() { attached } else { Some(glued) };
                let number = number.or_else(|| rest.next()).ok_or_else(usage)?;
                let number: i64 = number.parse().map_err(|_| usage())?;
                // Below 0 means no limit.
                match letter {
                    'n' => options.count = u64::try_from(number).ok(),
                    _ => options.depth = u32::try_from(number).ok(),
                }
                break;
            }
            options.set(letter);
        }
    }
    if !command.operands_fit(operands.len()) {
        return Err(usage());
    }
    Ok(Invocation { command, options, operands })
}

impl Options {
    fn set(&mut self, letter: char) {
        match letter {
            'f' => self.flat = true,
            'p' => self.prefix = true,
            't' => self.tidy = true,
            'u' => self.upto = true,
            'r' => self.recurse = true,
            'R' => self.raw = true,
            _ => {}
        }
    }
}

/// Returns the letters an option word stands for, and the value glued to a long one.
fn letters_of(word: &str) -> Option<(&str, Option<&str>)> {
    let Some(long) = word.strip_prefix("--") else { return Some((word.get(1..)?, None)) };
    let (name, value) =
        long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    let letter = match name {
        "help" => "h",
        "flat" => "f",
        "prefix" => "p",
        "tidy" => "t",
        "upto" => "u",
        "recurse" => "r",
        "number" => "n",
        "depth" => "d",
        "raw" => "R",
        _ => return None,
    };
    Some((letter, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Invocation, Refusal> {
        parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_is_a_word_or_the_programs_name() {
        let plain = line("xenstore ls -fp /local").unwrap();
        assert_eq!(plain, line("/usr/bin/xenstore-ls -f --prefix /local").unwrap());
        assert_eq!(plain.command, Command::Ls);
        assert!(plain.options.flat && plain.options.prefix);
        assert_eq!(plain.operands, ["/local"]);
    }

    #[test]
    fn the_number_of_events_is_given_in_any_way() {
        let endless = line("xenstore-watch -n -1 --depth=2 /x").unwrap().options;
        assert_eq!((endless.count, endless.depth), (None, Some(2)));
        for text in ["-n 3", "-n3", "--number 3", "--number=3"] {
            let invocation = line(&format!("xenstore-watch {text} /x")).unwrap();
            assert_eq!(invocation.options.count, Some(3), "{text}");
            assert_eq!(invocation.operands, ["/x"]);
        }
    }

    #[test]
    fn a_value_may_begin_with_a_dash() {
        assert_eq!(line("xenstore-write /x -1").unwrap().operands, ["/x", "-1"]);
    }

    #[test]
    fn wrong_lines_are_told_how_to_be_right() {
        for text in [
            "xenstore",
            "xenstore sing",
            "xenstore-read",
            "xenstore-read -t /x",
            "xenstore-write /x",
            "xenstore-write /x 1 /y",
            "xenstore-chmod /x",
            "xenstore-watch -n x /x",
            "xenstore-ls --wide",
            "xenstore-exists -p /x",
            "xenstore-ls -d 1 /x",
        ] {
            assert!(matches!(line(text), Err(Refusal::Wrong(_))), "{text}");
        }
        let help = Refusal::Help("Usage: xenstore ls [-h] [-f] [-p] [path]".into());
        assert_eq!(line("xenstore ls -h").unwrap_err(), help);
        let help = Refusal::Help("Usage: xenstore-rm [-h] [-t] key [...]".into());
        assert_eq!(line("xenstore-rm --help").unwrap_err(), help);
    }
}
