//! What an answer must contain: a text, or what a regular expression matches.

use regex::bytes::{Regex, RegexBuilder};

use super::address::{Wrong, checked, wrong};
use crate::{
    limits::{PROBE_PATTERN_BYTES_MAX, PROBE_VALUE_BYTES_MAX},
    yaml::{Node, Problems},
};

/// Bytes that a compiled expression may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A text that is to be contained, or between two `/` a regular expression that is to match somewhere.
#[derive(Debug, Clone)]
pub struct Pattern {
    written: String,
    is_text: bool,
    regex: Regex,
}

/// That a pattern was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it stands for there.
    pub value: Option<String>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Pattern {
    /// Reads what was written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(written: &str) -> Result<Self, Wrong> {
        if written.len() > PROBE_PATTERN_BYTES_MAX {
            let limit = format!("expected up to {PROBE_PATTERN_BYTES_MAX} bytes");
            return Err(wrong("this text is too long to compare with", limit));
        }
        let inner = written.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let expression = inner.filter(|inner| !inner.is_empty());
        let source = expression.map_or_else(|| regex::escape(written), str::to_owned);
        let regex = RegexBuilder::new(&source).size_limit(COMPILED_BYTES_MAX).build();
        let regex = regex.map_err(|error| {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            wrong(
                format!("this is not a regular expression: {why}"),
                "expected /EXPRESSION/, or a text that does not begin and end with `/`",
            )
        })?;
        Ok(Self { written: written.to_owned(), is_text: expression.is_none(), regex })
    }

    /// Decodes it.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        checked(Self::parse)(node, problems)
    }

    /// As it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether an answer contains it; if so, what the first group of the expression stands for, or
    /// all of what matched where it has no group. A plain text stands for nothing.
    pub fn find(&self, answer: &[u8]) -> Option<Found> {
        if self.is_text {
            return self.regex.is_match(answer).then_some(Found { value: None });
        }
        let captures = self.regex.captures(answer)?;
        let value = captures.get(1).or_else(|| captures.get(0))?;
        Some(Found { value: Some(value_of(value.as_bytes())) })
    }
}

/// The value that some bytes of an answer are: text, trimmed, and not too long.
pub fn value_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut text = text.trim();
    if text.len() > PROBE_VALUE_BYTES_MAX {
        let end = (0..=PROBE_VALUE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text = &text[..end.unwrap_or(0)];
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_contained_and_an_expression_matches() {
        for (pattern, answer, found) in [
            ("ok", "it is ok.", Some(None)),
            ("ok", "no", None),
            ("a.c", "abc", None),
            // One slash is a text, and so are two: nothing is between them.
            ("/", "a/b", Some(None)),
            ("//", "a//b", Some(None)),
            (r"/rows: (\d+)/", "rows: 17 ", Some(Some("17"))),
            (r"/^\d+$/", "17", Some(Some("17"))),
            (r"/^\d+$/", "17\n", None),
        ] {
            let is = Pattern::parse(pattern).expect(pattern).find(answer.as_bytes());
            let is = is.as_ref().map(|found| found.value.as_deref());
            assert_eq!(is, found, "{pattern} in {answer}");
        }
    }

    #[test]
    fn an_expression_that_is_none_or_too_large_is_refused() {
        for (pattern, reason) in [("/(/", "unclosed group"), (r"/(\w{900}){900}/", "size limit")] {
            let said = Pattern::parse(pattern).expect_err(pattern).message;
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn values_are_short_and_end_between_characters() {
        let long = "ä".repeat(PROBE_VALUE_BYTES_MAX);
        let value = value_of(format!(" {long}").as_bytes());
        assert_eq!(value.len(), PROBE_VALUE_BYTES_MAX);
        assert!(value.chars().all(|c| c == 'ä'));
    }
}
