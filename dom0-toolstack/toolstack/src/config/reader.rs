//! Settings → values of the type a key needs, with all complaints collected.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::{Config, Kind, Setting, Value};

/// What is wrong inside one string: the bytes it is about, and what was expected there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bad {
    /// What is wrong.
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// Which bytes of the string.
    pub span: Range<usize>,
}

impl Bad {
    /// Something wrong at `span` of a string.
    pub fn new(what: impl Into<String>, expected: impl Into<String>, span: Range<usize>) -> Self {
        Self { what: what.into(), expected: expected.into(), span }
    }

    /// The same, placed in the configuration.
    pub fn at(self, value: &Value) -> Diagnostic {
        value.part(self.span.start, self.span.end).error(self.what, self.expected)
    }
}

/// The parts of a specification between its commas, without the spaces around them, each with its bytes.
pub(super) fn parts(text: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
    let mut position = 0;
    text.split(',').map(move |part| {
        let start = position + part.len() - part.trim_start().len();
        position += part.len() + 1;
        let part = part.trim();
        (part, start..start + part.len())
    })
}

/// Reads typed values; what is wrong is noted, so that one run reports everything.
#[derive(Debug)]
pub struct Reader<'a> {
    config: &'a Config,
    /// What is wrong so far.
    pub problems: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    /// A reader of `config`.
    pub const fn new(config: &'a Config) -> Self {
        Self { config, problems: Vec::new() }
    }

    /// The setting of `key`, of whatever kind.
    pub fn setting(&self, key: &str) -> Option<&'a Setting> {
        self.config.get(key)
    }

    /// The text of `key`; empty text counts as not given.
    pub fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = &self.config.get(key)?.value;
        match &value.kind {
            Kind::Text(text) | Kind::Number(text) => Some(text.as_str()).filter(|t| !t.is_empty()),
            Kind::List(_) => {
                self.wrong(value, format!("`{key}` must be a string"), "expected a quoted string");
                None
            }
        }
    }

    /// The number of `key`, within `range`.
    pub fn number(&mut self, key: &str, range: Range<u64>) -> Option<u64> {
        let value = &self.config.get(key)?.value;
        let expected = format!("expected a number from {} to {}", range.start, range.end - 1);
        let number = match &value.kind {
            Kind::Text(text) | Kind::Number(text) => integer(text),
            Kind::List(_) => None,
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            Some(_) => {
                self.wrong(value, format!("`{key}` is out of range"), &expected);
                None
            }
            None => {
                self.wrong(value, format!("`{key}` must be a number"), &expected);
                None
            }
        }
    }

    /// Whether `key` is a true value.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let value = &self.config.get(key)?.value;
        match &value.kind {
            Kind::Text(text) | Kind::Number(text) => match (integer(text), text.as_str()) {
                (Some(number), _) => return Some(number != 0),
                (None, "True" | "true" | "yes") => return Some(true),
                (None, "False" | "false" | "no") => return Some(false),
                _ => {}
            },
            Kind::List(_) => {}
        }
        self.wrong(value, format!("`{key}` must be 0 or 1"), "expected 0 or 1");
        None
    }

    /// The strings of `key`'s list, each with its place.
    pub fn list(&mut self, key: &str) -> Vec<(&'a str, &'a Value)> {
        let Some(setting) = self.config.get(key) else { return Vec::new() };
        let Kind::List(values) = &setting.value.kind else {
            let what = format!("`{key}` must be a list");
            self.wrong(&setting.value, what, "expected strings in `[` and `]`");
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match &value.kind {
                Kind::Text(text) | Kind::Number(text) => texts.push((text.as_str(), value)),
                Kind::List(_) => self.wrong(
                    value,
                    format!("`{key}` is a list of strings, not of lists"),
                    "expected a quoted string",
                ),
            }
        }
        texts
    }

    /// Notes that `value` is wrong.
    pub fn wrong(&mut self, value: &Value, what: impl Into<String>, expected: &str) {
        self.problems.push(value.place.error(what, expected));
    }
}

/// A number as C writes it: decimal, `0x` hexadecimal or `0` octal.
pub fn integer(text: &str) -> Option<u64> {
    if let Some(hexadecimal) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hexadecimal, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_wrong_kind_is_noted_where_it_stands() {
        let config = Config::parse("c", "a=[]\nb='x'\nc=7\nd='yes'\ne=[['x']]", &[]).unwrap();
        let mut reader = Reader::new(&config);
        assert_eq!(reader.text("a"), None);
        assert_eq!(reader.number("b", 0..10), None);
        assert_eq!(reader.number("c", 0..7), None);
        assert_eq!(reader.flag("d"), Some(true));
        assert_eq!(reader.flag("b"), None);
        assert!(reader.list("c").is_empty());
        assert!(reader.list("e").is_empty());
        let lines: Vec<_> =
            reader.problems.iter().map(|problem| problem.position().unwrap()).collect();
        assert_eq!(lines, [(1, 3), (2, 3), (3, 3), (2, 3), (3, 3), (5, 4)]);
    }

    #[test]
    fn numbers_are_written_as_in_c() {
        assert_eq!(integer("0x10"), Some(16));
        assert_eq!(integer("010"), Some(8));
        assert_eq!(integer("0"), Some(0));
        assert_eq!(integer("-1"), None);
        assert_eq!(integer("12M"), None);
    }
}
