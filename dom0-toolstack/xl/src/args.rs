//! Options and operands as getopt_long cuts them: options may stand among operands.

use crate::outcome::{Failure, Outcome};

/// An option that a command has.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its letter.
    pub short: char,
    /// Its long form, if it has one.
    pub long: Option<&'static str>,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

impl Flag {
    /// An option without a value.
    pub const fn new(short: char, long: Option<&'static str>, help: &'static str) -> Self {
        Self { short, long, value: None, help }
    }

    /// The same option with a value.
    #[must_use]
    pub const fn with_value(self, value: &'static str) -> Self {
        Self { value: Some(value), ..self }
    }
}

/// What was typed after a command.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Parsed {
    /// Options with their values.
    pub options: Vec<(char, Option<String>)>,
    /// All else, in order.
    pub operands: Vec<String>,
}

impl Parsed {
    /// Cuts `words` by `flags`.
    pub fn new(command: &str, flags: &[Flag], words: &[String]) -> Outcome<Self> {
        let mut parsed = Self::default();
        let mut words = words.iter();
        let wrong = |what: String| Failure::Usage(format!("xl {command}: {what}"));
        while let Some(word) = words.next() {
            if word == "--" {
                parsed.operands.extend(words.by_ref().cloned());
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let flag = flags.iter().find(|flag| flag.long == Some(name));
                let flag = flag.ok_or_else(|| wrong(format!("unrecognized option '{word}'")))?;
                let value = match (flag.value, value) {
                    (Some(_), None) => {
                        Some(words.next().cloned().ok_or_else(|| {
                            wrong(format!("option '--{name}' requires an argument"))
                        })?)
                    }
                    (None, Some(_)) => {
                        return Err(wrong(format!("option '--{name}' doesn't allow an argument")));
                    }
                    (_, value) => value,
                };
                parsed.options.push((flag.short, value));
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                let mut letters = letters.chars();
                while let Some(letter) = letters.next() {
                    let flag = flags.iter().find(|flag| flag.short == letter);
                    let flag =
                        flag.ok_or_else(|| wrong(format!("invalid option -- '{letter}'")))?;
                    let rest: String = if flag.value.is_some() {
                        letters.by_ref().collect()
                    } else {
                        String::new()
                    };
                    let value = match flag.value {
                        None => None,
                        Some(_) if !rest.is_empty() => Some(rest),
                        Some(_) => Some(words.next().cloned().ok_or_else(|| {
                            wrong(format!("option requires an argument -- '{letter}'"))
                        })?),
                    };
                    parsed.options.push((letter, value));
                }
            } else {
                parsed.operands.push(word.clone());
            }
        }
        Ok(parsed)
    }

    /// Whether `letter` was given.
    pub fn has(&self, letter: char) -> bool {
        self.options.iter().any(|(given, _)| *given == letter)
    }

    /// The value of `letter`, the last one given.
    pub fn value(&self, letter: char) -> Option<&str> {
        let given = self.options.iter().rev().find(|(given, _)| *given == letter)?;
        given.1.as_deref()
    }

    /// Refuses fewer than `least` operands.
    pub fn require(&self, command: &str, least: usize) -> Outcome {
        if self.operands.len() >= least {
            return Ok(());
        }
        let arguments = if least == 1 { "argument" } else { "arguments" };
        Err(Failure::Usage(format!("'xl {command}' requires at least {least} {arguments}.")))
    }

    /// The operand at `index`, whose being there was required.
    pub fn operand(&self, index: usize) -> &str {
        self.operands.get(index).map_or("", String::as_str)
    }
}

/// A size in KiB: MiB where no unit is given, as for `xl mem-set`.
pub fn memory_kib(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "t" | "T" => number.checked_mul(1 << 30),
        "g" | "G" => number.checked_mul(1 << 20),
        "" | "m" | "M" => number.checked_mul(1 << 10),
        "k" | "K" => Some(number),
        "b" | "B" => Some(number / 1024),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 3] = [
        Flag::new('p', None, "pause"),
        Flag::new('n', Some("dryrun"), "dry run"),
        Flag::new('f', Some("defconfig"), "file").with_value("FILE"),
    ];

    fn parse(line: &str) -> Outcome<Parsed> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Parsed::new("create", &FLAGS, &words)
    }

    #[test]
    fn options_stand_anywhere_and_together() {
        let parsed = parse("-pf a.cfg vcpus=2 --dryrun x -- -p").unwrap();
        assert!(parsed.has('p') && parsed.has('n'));
        assert_eq!(parsed.value('f'), Some("a.cfg"));
        assert_eq!(parsed.operands, ["vcpus=2", "x", "-p"]);
        assert_eq!(parse("--defconfig=b -fc").unwrap().value('f'), Some("c"));
    }

    #[test]
    fn a_wrong_option_is_a_wrong_use() {
        for line in ["-x", "--nonsense", "-f", "--defconfig", "--dryrun=1"] {
            assert!(matches!(parse(line), Err(Failure::Usage(_))), "{line}");
        }
        assert!(parse("a").unwrap().require("create", 2).is_err());
    }

    #[test]
    fn sizes_are_mebibytes_unless_said_otherwise() {
        assert_eq!(memory_kib("256"), Some(262_144));
        assert_eq!(memory_kib("1g"), Some(1_048_576));
        assert_eq!(memory_kib("2048K"), Some(2048));
        assert_eq!(memory_kib("lots"), None);
    }
}
