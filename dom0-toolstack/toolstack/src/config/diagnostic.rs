//! Where a configuration is wrong, shown with the line itself.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A configuration's text and what it is called: a file's path, or where else it came from.
#[derive(Debug, Eq, PartialEq)]
pub struct Source {
    /// Shown before line and column.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A source to point into.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }
}

/// A place in a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// What the bytes lie in.
    pub source: Arc<Source>,
    /// The bytes.
    pub span: Range<usize>,
}

impl Place {
    /// An error at this place: `what` is wrong, and `expected` says what would be right.
    pub fn error(&self, what: impl Into<String>, expected: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Error, what, expected)
    }

    /// A warning at this place.
    pub fn warning(&self, what: impl Into<String>, remark: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Warning, what, remark)
    }

    fn diagnostic(
        &self,
        severity: Severity,
        what: impl Into<String>,
        label: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            what: what.into(),
            label: label.into(),
            help: None,
            place: Some(self.clone()),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Nothing is done with this configuration.
    Error,
    /// The configuration is used all the same.
    Warning,
}

/// One thing wrong with a configuration. Its `Display` spans several lines and shows the source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, one clause.
    pub what: String,
    /// Said beside the marked text: what was expected there.
    pub label: String,
    /// What to do about it, where the label does not say so already.
    pub help: Option<String>,
    /// Where, unless something is missing altogether.
    pub place: Option<Place>,
}

impl Diagnostic {
    /// An error about the configuration as a whole.
    pub fn missing(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            what: what.into(),
            label: String::new(),
            help: Some(help.into()),
            place: None,
        }
    }

    /// The same, with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Line and column, both from 1, where there is a place.
    pub fn position(&self) -> Option<(usize, usize)> {
        let place = self.place.as_ref()?;
        Some(place.source.position(place.span.start))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&self.what);
        let mut group = match &self.place {
            None => Group::with_title(title),
            Some(place) => {
                let snippet = Snippet::source(place.source.text.as_str())
                    .path(place.source.name.as_str())
                    .annotation(
                        AnnotationKind::Primary.span(place.span.clone()).label(&self.label),
                    );
                title.element(snippet)
            }
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        f.write_str(&Renderer::plain().render(&[group]))
    }
}

impl std::error::Error for Diagnostic {}
