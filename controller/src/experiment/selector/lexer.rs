//! The words and signs that kubectl's label and field selectors are made of, each with its place in the text.

use std::ops::Range;

use faultline_proto::yaml::{Node, Problems, Span, Value, nearest};

/// The longest selector.
const SELECTOR_BYTES_MAX: usize = 4096;

/// What is wrong with a part of a selector's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Which bytes of the text.
    pub(super) at: Range<usize>,
    pub(super) message: String,
    pub(super) expected: String,
    pub(super) help: Option<String>,
}

impl Wrong {
    pub(super) fn new(
        at: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self { at, message: message.into(), expected: expected.into(), help: None }
    }

    /// With the nearest of these names, where one is near.
    pub(super) fn suggest(self, written: &str, names: &[&str]) -> Self {
        let near = nearest(written, names.iter().copied());
        Self { help: near.map(|near| format!("did you mean `{near}`?")), ..self }
    }
}

/// A word, or one of the signs `! , ( ) = == != < >`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) text: &'t str,
    pub(super) at: usize,
}

impl Token<'_> {
    /// The bytes that it stands in.
    pub(super) fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// Whether it is no sign.
    pub(super) fn is_word(&self) -> bool {
        !self.text.starts_with(is_sign)
    }
}

fn is_sign(c: char) -> bool {
    matches!(c, '!' | ',' | '(' | ')' | '=' | '<' | '>')
}

/// The tokens of a selector, read one after the other.
#[derive(Debug)]
pub(super) struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next one, which stays the next one.
    pub(super) fn peek(&self) -> Option<Token<'t>> {
        let rest = &self.text[self.at..];
        let at = self.text.len() - rest.trim_start().len();
        let rest = &self.text[at..];
        let first = rest.chars().next()?;
        let len = if is_sign(first) {
            if rest.starts_with("==") || rest.starts_with("!=") { 2 } else { 1 }
        } else {
            rest.find(|c: char| c.is_whitespace() || is_sign(c)).unwrap_or(rest.len())
        };
        Some(Token { text: &rest[..len], at })
    }

    /// Takes the next one.
    pub(super) fn take(&mut self) -> Option<Token<'t>> {
        let token = self.peek()?;
        self.at = token.range().end;
        Some(token)
    }

    /// Takes the next one if it is this sign.
    pub(super) fn take_if(&mut self, sign: &str) -> bool {
        let is_it = self.peek().is_some_and(|token| token.text == sign);
        if is_it {
            self.take();
        }
        is_it
    }

    /// What is said where something else stands than was expected, or nothing more.
    pub(super) fn unexpected(&self, found: Option<Token<'_>>, expected: &str) -> Wrong {
        let end = self.text.trim_end().len();
        found.map_or_else(
            || Wrong::new(end..end, "the selector ends here", expected),
            |token| Wrong::new(token.range(), format!("found `{}`", token.text), expected),
        )
    }
}

/// Reads the text of a node by `parse`, and reports what is wrong with it where it stands.
pub(super) fn decode<T>(
    node: &Node,
    what: &str,
    example: &str,
    problems: &mut Problems,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<T> {
    let Some(text) = node.as_text().filter(|text| !text.trim().is_empty()) else {
        problems
            .add(node.span, format!("{} is not a {what}", node.describe()))
            .expected(format!("expected a text, such as {example}"));
        return None;
    };
    if text.len() > SELECTOR_BYTES_MAX {
        problems
            .add(node.span, format!("this {what} is too long"))
            .expected(format!("expected at most {SELECTOR_BYTES_MAX} bytes"));
        return None;
    }
    match parse(text) {
        Ok(value) => Some(value),
        Err(wrong) => {
            let span = within(node, text, &wrong.at);
            problems.add(span, wrong.message).expected(wrong.expected).help = wrong.help;
            None
        }
    }
}

/// Where a part of a scalar's text stands; of one on several lines, the whole.
fn within(node: &Node, text: &str, part: &Range<usize>) -> Span {
    let chars = |text: &str| text.chars().count();
    let is_plain = matches!(node.value, Value::Scalar { plain: true, .. });
    let (written, length) = (node.span.end.saturating_sub(node.span.start), chars(text));
    let quote = usize::from(!is_plain);
    if text.contains('\n') || written < length + 2 * quote || (is_plain && written != length) {
        return node.span;
    }
    // What ends too early is shown at its last character, or at the quote.
    let before = chars(&text[..part.start]).min(length - usize::from(is_plain));
    let start = node.span.start + quote + before;
    let end = start + chars(&text[part.clone()]).max(1);
    Span { start, end, line: node.span.line, column: node.span.column + quote + before }
}
