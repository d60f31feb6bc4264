//! Characters of an xl.cfg → tokens.
//!
//! The language is that of xl.cfg(5): `key = value` a line (or several, parted by `;`), values are
//! numbers, quoted strings, or lists; `#` starts a comment; inside brackets line ends mean nothing.

use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Place, Source};

/// What a token is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Token {
    /// A key.
    Identifier(String),
    /// A number, as written.
    Number(String),
    /// A quoted string, escapes resolved.
    Text(String),
    /// `=`
    Assign,
    /// `+=`
    Append,
    /// `[`
    Open,
    /// `]`
    Close,
    /// `,`
    Comma,
    /// A line's end or `;`.
    End,
}

impl Token {
    /// What to call it in a message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Identifier(name) => format!("the word `{name}`"),
            Self::Number(text) => format!("the number {text}"),
            Self::Text(_) => "a string".into(),
            Self::Assign => "`=`".into(),
            Self::Append => "`+=`".into(),
            Self::Open => "`[`".into(),
            Self::Close => "`]`".into(),
            Self::Comma => "`,`".into(),
            Self::End => "the end of the line".into(),
        }
    }
}

/// A token and its bytes.
pub(crate) type Spanned = (Token, Range<usize>);

/// Cuts `source` into tokens; the last is always [`Token::End`].
pub(crate) fn tokenize(source: &Arc<Source>) -> Result<Vec<Spanned>, Diagnostic> {
    let mut lexer = Lexer { source, rest: source.text.char_indices().peekable(), depth: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next_token()? {
        tokens.push(token);
    }
    let end = source.text.len();
    tokens.push((Token::End, end..end));
    Ok(tokens)
}

struct Lexer<'a> {
    source: &'a Arc<Source>,
    rest: std::iter::Peekable<std::str::CharIndices<'a>>,
    /// How many brackets are open.
    depth: usize,
}

impl Lexer<'_> {
    fn next_token(&mut self) -> Result<Option<Spanned>, Diagnostic> {
        while let Some((start, character)) = self.rest.next() {
            let one = |token| Ok(Some((token, start..start + 1)));
            match character {
                '\n' | ';' if self.depth == 0 => return one(Token::End),
                '#' => while self.rest.next_if(|(_, c)| *c != '\n').is_some() {},
                '=' => return one(Token::Assign),
                '+' if self.rest.next_if(|(_, c)| *c == '=').is_some() => {
                    return Ok(Some((Token::Append, start..start + 2)));
                }
                '[' => {
                    self.depth += 1;
                    return one(Token::Open);
                }
                ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    return one(Token::Close);
                }
                ',' => return one(Token::Comma),
                '"' | '\'' => return self.text(start, character).map(Some),
                c if c.is_whitespace() => {}
                '\\' if self.continues_line() => {}
                c if c.is_ascii_digit() || c == '-' => return Ok(Some(self.number(start, c))),
                c if c.is_ascii_alphabetic() || c == '_' => {
                    return Ok(Some(self.identifier(start, c)));
                }
                c => {
                    return Err(self.place(start..start + c.len_utf8()).error(
                        format!("unexpected character `{c}`"),
                        "expected a key, a number, a quoted string or a list",
                    ));
                }
            }
        }
        Ok(None)
    }

    fn continues_line(&mut self) -> bool {
        self.rest.next_if(|(_, c)| *c == '\r');
        self.rest.next_if(|(_, c)| *c == '\n').is_some()
    }

    fn number(&mut self, start: usize, first: char) -> Spanned {
        let mut text = String::from(first);
        while let Some((_, c)) = self.rest.next_if(|(_, c)| c.is_ascii_alphanumeric()) {
            text.push(c);
        }
        let end = start + text.len();
        (Token::Number(text), start..end)
    }

    fn identifier(&mut self, start: usize, first: char) -> Spanned {
        let mut name = String::from(first);
        while let Some((_, c)) =
            self.rest.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_' || *c == '-')
        {
            name.push(c);
        }
        let end = start + name.len();
        (Token::Identifier(name), start..end)
    }

    fn text(&mut self, start: usize, quote: char) -> Result<Spanned, Diagnostic> {
        let mut text = String::new();
        while let Some((at, character)) = self.rest.next() {
            match character {
                c if c == quote => return Ok((Token::Text(text), start..at + 1)),
                '\n' => break,
                '\\' => text.push(self.escape(at)?),
                c => text.push(c),
            }
        }
        let line_end = self.source.text.get(start..).and_then(|rest| rest.find('\n'));
        let end = line_end.map_or(self.source.text.len(), |length| start + length);
        Err(self
            .place(start..end)
            .error("a string is not closed", format!("expected {quote} before the line ends")))
    }

    /// Resolves what follows a backslash at `at`, as C does.
    fn escape(&mut self, at: usize) -> Result<char, Diagnostic> {
        let Some((_, character)) = self.rest.next() else {
            return Err(self.bad_escape(at, 1));
        };
        Ok(match character {
            '\\' | '"' | '\'' | '?' => character,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.code(at, "", 16, 2)?,
            digit @ '0'..='7' => self.code(at, digit.encode_utf8(&mut [0; 4]), 8, 3)?,
            other => return Err(self.bad_escape(at, 1 + other.len_utf8())),
        })
    }

    /// Reads a character's code, `first` and more digits, `longest` of them at most.
    fn code(
        &mut self,
        at: usize,
        first: &str,
        radix: u32,
        longest: usize,
    ) -> Result<char, Diagnostic> {
        let mut digits = String::from(first);
        while digits.len() < longest
            && let Some((_, digit)) = self.rest.next_if(|(_, c)| c.is_digit(radix))
        {
            digits.push(digit);
        }
        u8::from_str_radix(&digits, radix)
            .map(char::from)
            .map_err(|_not_a_byte| self.bad_escape(at, 2 + digits.len()))
    }

    fn bad_escape(&self, at: usize, length: usize) -> Diagnostic {
        self.place(at..at + length).error(
            "unknown escape in a string",
            r#"expected \\, \", \', \n, \t, \xHH or \OOO; write \\ for a backslash"#,
        )
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place { source: Arc::clone(self.source), span }
    }
}
