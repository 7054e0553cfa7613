//! Mistakes in experiments, shown: for people with the place, the line and what was expected; for
//! programs as JSON. It decides nothing: what is a mistake is found elsewhere.

use std::{io, ops::Range};

use annotate_snippets::{
    AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};
use faultline_proto::yaml::{Problem, Source, Span};
use serde::Serialize;

use crate::experiment::{FileError, LoadErrors};

/// Mistakes shown at once to a person. JSON has all of them.
const SHOWN_MAX: usize = 30;
/// Characters of a line that are shown on either side of a mistake.
const CONTEXT_CHARS_MAX: usize = 200;

/// A mistake, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// The file, as it was given.
    pub file: String,
    /// From 1; absent when the file could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// How many characters of the line it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// All mistakes, for programs.
pub fn list(errors: &LoadErrors) -> Vec<Diagnostic> {
    let of_file = |file: &FileError| match file {
        FileError::Unreadable { name, error, help } => vec![Diagnostic {
            file: name.clone(),
            line: None,
            column: None,
            length: None,
            message: unreadable(error),
            expected: None,
            help: help.clone(),
        }],
        FileError::Mistaken { source, problems } => {
            let offsets = Offsets::of(&source.text);
            problems.iter().map(|problem| diagnostic(source, &offsets, problem)).collect()
        }
    };
    errors.files.iter().flat_map(of_file).collect()
}

fn diagnostic(source: &Source, offsets: &Offsets, problem: &Problem) -> Diagnostic {
    let range = offsets.byte(problem.span.start)..offsets.byte(problem.span.end);
    let marked = source.text.get(range).unwrap_or_default();
    let marked = marked.split('\n').next().unwrap_or_default().trim_end();
    Diagnostic {
        file: source.name.clone(),
        line: Some(problem.span.line),
        column: Some(problem.span.column),
        length: Some(marked.chars().count()),
        message: problem.message.clone(),
        expected: problem.expected.clone(),
        help: problem.help.clone(),
    }
}

/// All mistakes, for a person: with colours if `styled`. Ends with how many they are.
pub fn render(errors: &LoadErrors, styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let total = errors.count();
    let mut shown = Vec::new();
    for file in &errors.files {
        match file {
            FileError::Unreadable { name, error, help } => {
                let title = format!("cannot read `{name}`: {}", unreadable(error));
                shown.push(render_bare(&renderer, &title, help.as_deref()));
            }
            FileError::Mistaken { source, problems } => {
                let left = SHOWN_MAX.saturating_sub(shown.len());
                let first = problems.iter().take(left);
                shown.extend(first.map(|problem| render_problem(&renderer, source, problem)));
            }
        }
    }
    let hidden = total.saturating_sub(shown.len());
    let mut text = shown.join("\n\n");
    let summary = match (total, hidden) {
        (1, _) => String::new(),
        (_, 0) => format!("{total} mistakes"),
        _ => format!("{total} mistakes, of which the first {} are shown", total - hidden),
    };
    if !summary.is_empty() {
        text.push_str("\n\n");
        text.push_str(&render_bare(&renderer, &summary, None));
    }
    text.push('\n');
    text
}

/// One mistake in a source, for a person.
pub fn render_one(source: &Source, problem: &Problem, styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    render_problem(&renderer, source, problem) + "\n"
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::IsADirectory => "it is a directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

fn render_bare(renderer: &Renderer, title: &str, help: Option<&str>) -> String {
    let help = help.map(normalize_untrusted_str);
    let mut group = Group::with_title(Level::ERROR.primary_title(title));
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

fn render_problem(renderer: &Renderer, source: &Source, problem: &Problem) -> String {
    let place = Place::of(&source.text, problem.span);
    let expected = problem.expected.as_deref().map(normalize_untrusted_str);
    let help = problem.help.as_deref().map(normalize_untrusted_str);
    let annotation = AnnotationKind::Primary.span(place.marked).label(expected.as_deref());
    let snippet = Snippet::source(place.line).line_start(problem.span.line).annotation(annotation);
    let mut group = Group::with_title(Level::ERROR.primary_title(problem.message.as_str()));
    if place.whole {
        group = group.element(snippet.path(source.name.as_str()));
    } else {
        let origin = Origin::path(source.name.as_str()).line(problem.span.line);
        group = group.element(origin.char_column(problem.span.column)).element(snippet);
    }
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

/// Where each character of a text begins, in bytes: JSON may list a great many places.
struct Offsets {
    /// Empty where every character is one byte.
    bytes: Vec<usize>,
    len: usize,
}

impl Offsets {
    fn of(text: &str) -> Self {
        let bytes = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(byte, _)| byte).collect()
        };
        Self { bytes, len: text.len() }
    }

    fn byte(&self, chars: usize) -> usize {
        if self.bytes.is_empty() {
            return chars.min(self.len);
        }
        self.bytes.get(chars).copied().unwrap_or(self.len)
    }
}

/// The line a mistake begins in, and what of it is marked.
struct Place<'a> {
    /// Of a very long line, the part around the mistake.
    line: &'a str,
    /// Whether `line` has the beginning of the line, so that columns can be counted in it.
    whole: bool,
    /// Bytes of `line`: at least one character, unless the line ends there.
    marked: Range<usize>,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, span: Span) -> Self {
        let byte = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
        let (start, end) = (byte(span.start), byte(span.end));
        let (before, after) = text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = start + after.find('\n').unwrap_or(after.len());
        let first = before.get(line_start..).unwrap_or_default();
        let shown_start = first
            .char_indices()
            .rev()
            .take(CONTEXT_CHARS_MAX)
            .last()
            .map_or(start, |(at, _)| line_start + at);
        let rest = text.get(start..line_end).unwrap_or_default();
        let shown_end =
            rest.char_indices().nth(CONTEXT_CHARS_MAX).map_or(line_end, |(at, _)| start + at);
        let line = text.get(shown_start..shown_end).unwrap_or_default().trim_end();
        let start = (start - shown_start).min(line.len());
        let end = end.saturating_sub(shown_start).min(line.len());
        let one = line.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        Self { line, whole: shown_start == line_start, marked: start..end.max(start + one) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_span_of_any_text_can_be_shown() {
        let long = "é".repeat(100_000);
        for text in ["", "\n", "a", "a\nb\n", "é: ü\r\n", "\u{1b}[31mred\u{7}\n", long.as_str()] {
            let chars = text.chars().count();
            for start in [0, 1, 2, chars / 2, chars, chars + 7] {
                for length in [0, 1, 5, chars + 1] {
                    let span = Span { start, end: start + length, line: 1, column: start + 1 };
                    let problem = Problem {
                        span,
                        message: "m\u{1b}[1m".into(),
                        expected: Some("e\u{1b}[1m".into()),
                        help: Some("h\u{1b}[1m".into()),
                    };
                    let source = Source { name: "f".into(), text: text.into() };
                    let shown = render_one(&source, &problem, false);
                    assert!(!shown.contains('\u{1b}'), "{shown:?}");
                    assert!(shown.len() < 4_000, "{}", shown.len());
                    let offsets = Offsets::of(text);
                    assert!(diagnostic(&source, &offsets, &problem).length <= Some(length));
                }
            }
        }
    }
}
