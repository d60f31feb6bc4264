//! Tokens of an xl.cfg → settings.

use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Place, Source};
use super::lexer::{Spanned, Token, tokenize};

/// What stands right of a key, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Value {
    /// The value itself.
    pub kind: Kind,
    /// Where it stands.
    pub place: Place,
}

/// A value as the language has it; what it must be depends on the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A number, as written.
    Number(String),
    /// A string.
    Text(String),
    /// A list, of any values.
    List(Vec<Value>),
}

/// One `key = value`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// Its value.
    pub value: Value,
}

/// Parses all settings of `source`, in order; `+=` is resolved against those in `earlier` and itself.
pub(crate) fn parse(
    source: &Arc<Source>,
    earlier: Vec<Setting>,
) -> Result<Vec<Setting>, Diagnostic> {
    let tokens = tokenize(source)?;
    let mut parser = Parser { source, tokens: &tokens };
    let mut settings = earlier;
    while let Some((key, place)) = parser.key()? {
        let append = parser.operator()?;
        let value = parser.value()?;
        parser.end()?;
        settings.retain_mut(|setting| append || setting.key != key);
        if append && let Some(setting) = settings.iter_mut().find(|setting| setting.key == key) {
            setting.append(value)?;
        } else {
            settings.push(Setting { key, place, value });
        }
    }
    Ok(settings)
}

impl Setting {
    /// Adds `more` as `+=` does: to a list its elements, to a string its characters.
    fn append(&mut self, more: Value) -> Result<(), Diagnostic> {
        match (&mut self.value.kind, more.kind) {
            (Kind::List(list), Kind::List(elements)) => list.extend(elements),
            (Kind::Text(text) | Kind::Number(text), Kind::Text(end) | Kind::Number(end)) => {
                text.push_str(&end);
            }
            (Kind::List(_), _) => {
                return Err(more.place.error(
                    format!("`{}` is a list and cannot be extended by this", self.key),
                    "expected a list in `[` and `]`",
                ));
            }
            (_, Kind::List(_)) => {
                return Err(more.place.error(
                    format!("`{}` is not a list and cannot be extended by one", self.key),
                    "expected a string",
                ));
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    source: &'a Arc<Source>,
    tokens: &'a [Spanned],
}

impl Parser<'_> {
    /// The next setting's key, or nothing at the end.
    fn key(&mut self) -> Result<Option<(String, Place)>, Diagnostic> {
        loop {
            match self.tokens {
                [] => return Ok(None),
                [(Token::End, _), rest @ ..] => self.tokens = rest,
                [(Token::Identifier(name), span), rest @ ..] => {
                    self.tokens = rest;
                    return Ok(Some((name.clone(), self.place(span.clone()))));
                }
                [(other, span), ..] => {
                    return Err(self.unexpected(
                        other,
                        span,
                        "expected a key, as in `memory = 512`",
                    ));
                }
            }
        }
    }

    /// Whether the operator is `+=`.
    fn operator(&mut self) -> Result<bool, Diagnostic> {
        match self.next() {
            (Token::Assign, _) => Ok(false),
            (Token::Append, _) => Ok(true),
            (other, span) => Err(self.unexpected(&other, &span, "expected `=` after the key")),
        }
    }

    fn value(&mut self) -> Result<Value, Diagnostic> {
        let (token, span) = self.next();
        let kind = match token {
            Token::Number(text) => Kind::Number(text),
            Token::Text(text) => Kind::Text(text),
            Token::Open => return self.list(span.start),
            Token::Identifier(name) => {
                return Err(self
                    .place(span)
                    .error(
                        format!("`{name}` is not a value"),
                        "expected a number, a string or a list",
                    )
                    .with_help(format!("a string needs quotes: \"{name}\"")));
            }
            other => {
                return Err(self.unexpected(
                    &other,
                    &span,
                    "expected a number, a quoted string or a list",
                ));
            }
        };
        Ok(Value { kind, place: self.place(span) })
    }

    fn list(&mut self, start: usize) -> Result<Value, Diagnostic> {
        let mut elements = Vec::new();
        loop {
            if let [(Token::Close, span), rest @ ..] = self.tokens {
                self.tokens = rest;
                let place = self.place(start..span.end);
                return Ok(Value { kind: Kind::List(elements), place });
            }
            if let [(Token::End, span), ..] = self.tokens {
                let place = self.place(start..start + 1);
                let what = "this list is not closed";
                let (line, _) = self.source.position(span.start);
                return Err(place.error(what, format!("no `]` up to line {line}")));
            }
            elements.push(self.value()?);
            match self.tokens {
                [(Token::Comma, _), rest @ ..] => self.tokens = rest,
                [(Token::Close | Token::End, _), ..] | [] => {}
                [(other, span), ..] => {
                    return Err(self.unexpected(other, span, "expected `,` or `]`"));
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Diagnostic> {
        match self.next() {
            (Token::End, _) => Ok(()),
            (other, span) => Err(self.unexpected(
                &other,
                &span,
                "expected the end of the line: one setting a line, or `;` between two",
            )),
        }
    }

    fn next(&mut self) -> Spanned {
        match self.tokens {
            [first, rest @ ..] => {
                self.tokens = rest;
                first.clone()
            }
            [] => (Token::End, self.source.text.len()..self.source.text.len()),
        }
    }

    fn unexpected(&self, token: &Token, span: &Range<usize>, expected: &str) -> Diagnostic {
        self.place(span.clone()).error(format!("unexpected {}", token.describe()), expected)
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place { source: Arc::clone(self.source), span }
    }
}
