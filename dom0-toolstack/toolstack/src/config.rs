//! An xl.cfg, from text to a typed configuration, with every complaint placed at its line and column.
//!
//! [`Config`] is the text as settings, whatever they mean; [`domain::DomainConfig`] is what they mean.

mod cpus;
mod diagnostic;
pub mod disk;
pub mod domain;
pub mod keys;
mod lexer;
pub mod p9;
mod parser;
pub mod reader;
pub mod vif;

use std::path::Path;
use std::sync::Arc;

pub use cpus::{CpuList, CpuSet};
pub use diagnostic::{Diagnostic, Place, Severity, Source};
pub use parser::{Kind, Setting, Value};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {}", crate::plain(.source))]
    Unreadable {
        /// Its path.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text is wrong, here.
    #[error(transparent)]
    Wrong(#[from] Diagnostic),
    /// The text is wrong in several places.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    WrongInPlaces(Vec<Diagnostic>),
}

/// The settings of a configuration file and of the command line, in that order.
#[derive(Debug, Default)]
pub struct Config {
    settings: Vec<Setting>,
}

impl Config {
    /// Reads the file at `path`, then `overrides`, each a `key=value` in the file's own language.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, Error> {
        let text = std::fs::read(path)
            .map_err(|source| Error::Unreadable { path: path.display().to_string(), source })?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(Self::parse(&path.display().to_string(), &text, overrides)?)
    }

    /// Parses `text`, which messages call `name`, then `overrides`.
    pub fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Self, Diagnostic> {
        let mut settings = parser::parse(&Source::new(name, text), Vec::new())?;
        for assignment in overrides {
            let source = Source::new("command line", assignment.as_str());
            settings = parser::parse(&source, settings).map_err(|diagnostic| {
                if diagnostic.help.is_some() || !assignment.contains('=') {
                    return diagnostic;
                }
                diagnostic.with_help("quote strings for the shell, too: 'name=\"demo\"'")
            })?;
        }
        Ok(Self { settings })
    }

    /// The setting of `key`: the last one given.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// All settings, in order.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}

impl Value {
    /// A place inside this string value: `start..end` count bytes of its text.
    ///
    /// Where the text was written with escapes, the whole value is meant.
    pub fn part(&self, start: usize, end: usize) -> Place {
        let Place { source, span } = &self.place;
        let Kind::Text(text) = &self.kind else { return self.place.clone() };
        let plain = span.len() == text.len() + 2;
        if !plain || start > end || end > text.len() {
            return self.place.clone();
        }
        let from = span.start + 1 + start;
        let to = (span.start + 1 + end).max(from + usize::from(start == end));
        Place { source: Arc::clone(source), span: from..to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Diagnostic> {
        Config::parse("demo.cfg", text, &[])
    }

    fn text(config: &Config, key: &str) -> String {
        match &config.get(key).unwrap().value.kind {
            Kind::Text(text) | Kind::Number(text) => text.clone(),
            Kind::List(list) => format!("{} elements", list.len()),
        }
    }

    #[test]
    fn settings_are_lines_or_parted_by_semicolons_and_the_last_one_counts() {
        let config = parse(
            "# a comment\nname = 'a' ; memory=0x200\nname=\"b\"   # another\n\n\tvcpus\t=\t2\r\n",
        )
        .unwrap();
        assert_eq!(text(&config, "name"), "b");
        assert_eq!(text(&config, "memory"), "0x200");
        assert_eq!(text(&config, "vcpus"), "2");
        assert!(config.get("maxmem").is_none());
    }

    #[test]
    fn lists_span_lines_and_may_end_with_a_comma() {
        let config =
            parse("disk = [\n  'a', # first\n\n  \"b\",\n]\nvif=[ ]\nvif += [ '' ]").unwrap();
        assert_eq!(text(&config, "disk"), "2 elements");
        assert_eq!(text(&config, "vif"), "1 elements");
    }

    #[test]
    fn append_extends_strings_and_lists() {
        let config = parse("a='x'\na+='y'\nb=['1']\nb+=['2','3']\nc+='z'").unwrap();
        assert_eq!(text(&config, "a"), "xy");
        assert_eq!(text(&config, "b"), "3 elements");
        assert_eq!(text(&config, "c"), "z");
        assert!(parse("a='x'\na+=['y']").is_err());
    }

    #[test]
    fn escapes_in_strings_are_those_of_c() {
        let config = parse(r#"a = "\\\"\x41\101\n\t" "#).unwrap();
        assert_eq!(text(&config, "a"), "\\\"AA\n\t");
        let error = parse(r"a = '\d'").unwrap_err();
        assert_eq!(error.position(), Some((1, 6)));
    }

    #[test]
    fn overrides_come_after_the_file() {
        let overrides = ["name=\"c\"".to_owned(), "vcpus=4; memory=99".to_owned()];
        let config = Config::parse("demo.cfg", "name='a'\nmemory=1", &overrides).unwrap();
        assert_eq!(text(&config, "name"), "c");
        assert_eq!(text(&config, "memory"), "99");
        let error = Config::parse("demo.cfg", "", &["name=demo".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("command line:1:6"), "{error}");
        assert!(error.to_string().contains("\"demo\""), "{error}");
    }

    #[test]
    fn an_error_says_file_line_column_and_what_was_expected() {
        for (wrong, line, column, words) in [
            ("name = \n", 1, 8, "expected a number, a quoted string or a list"),
            ("ok=1\n  name 'a'\n", 2, 8, "expected `=`"),
            ("name = 'a\nmemory=1", 1, 8, "expected ' before the line ends"),
            ("disk = [ 'a' 'b' ]", 1, 14, "expected `,` or `]`"),
            ("disk = [ 'a',\n'b'\n", 1, 8, "no `]` up to line 3"),
            ("memory = 1 vcpus = 2", 1, 12, "expected the end of the line"),
            ("= 3", 1, 1, "expected a key"),
            ("a = 1\n\u{20ac} = 2", 2, 1, "unexpected character"),
            ("a = %", 1, 5, "unexpected character `%`"),
            ("name = demo", 1, 8, "is not a value"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.position(), Some((line, column)), "{wrong:?}");
            let shown = error.to_string();
            assert!(shown.contains(&format!("demo.cfg:{line}:{column}")), "{shown}");
            assert!(shown.contains(words), "{shown}");
        }
    }

    #[test]
    fn a_part_of_a_string_is_pointed_at_exactly() {
        let config = parse("vif = [ 'mac=1,nonsense' ]").unwrap();
        let Kind::List(list) = &config.get("vif").unwrap().value.kind else { panic!() };
        assert_eq!(list[0].part(6, 14).error("", "").position(), Some((1, 16)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_or_its_messages_panic(text in "[a-z=\\[\\],'\"#;\\\\+ 0-9\n\u{e9}\u{20ac}]{0,60}") {
            match parse(&text) {
                Ok(config) => {
                    if let Err(error) = domain::DomainConfig::from_config(&config) {
                        error.to_string();
                    }
                }
                Err(error) => {
                    error.to_string();
                }
            }
        }

        #[test]
        fn no_value_makes_the_domain_s_parsers_panic(
            key in "disk|vif|cpus|name|memory|uuid|on_crash|type|vuart",
            value in "[a-z0-9:,=^@/.!\u{e9} -]{0,40}",
            list in proptest::bool::ANY,
        ) {
            let value = if list { format!("['{value}']") } else { format!("'{value}'") };
            let config = parse(&format!("kernel='k'\n{key}={value}")).unwrap();
            if let Err(error) = domain::DomainConfig::from_config(&config) {
                error.to_string();
            }
        }
    }
}
