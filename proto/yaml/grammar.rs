//! What is not YAML, in words that help: where the mistake is rather than where the parser noticed
//! it, and what people usually meant. It only words mistakes; it finds none.

use saphyr_parser::ScanError;

use super::{
    node::too_deep,
    problem::{Problems, Span},
};

/// Reports the mistake at which the parser stopped. `bracket` is the innermost that
/// is still open, and what closes it.
pub(super) fn explain(
    text: &str,
    error: &ScanError,
    bracket: Option<(Span, char)>,
    problems: &mut Problems,
) {
    let info = error.info();
    let marker = error.marker();
    let at = Span {
        start: marker.index(),
        end: marker.index(),
        line: marker.line(),
        column: marker.col() + 1,
    };
    // The scanner looks ahead, and has a limit of its own.
    if info == "recursion limit exceeded" {
        problems.add(at, too_deep());
        return;
    }
    let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
    if let Some(tab) = tab_in_indentation(text, at.line) {
        problems
            .add(tab, "a tab in the indentation")
            .expected("expected spaces")
            .help("YAML is indented with spaces only");
        return;
    }
    let in_brackets = ["flow", "':' indicator", "node content", "mapping values", "end of plain"];
    if in_brackets.iter().any(|part| info.contains(part))
        && let Some((bracket, closing)) = bracket.filter(|(span, _)| span.line < at.line)
    {
        let bracket = Span { end: bracket.start + 1, ..bracket };
        problems
            .add(bracket, "this bracket is not closed")
            .expected(format!("expected `{closing}` before line {}", at.line));
        return;
    }
    let (at, message) = match info {
        "simple key expect ':'" | "simple key expected" => {
            (line_before(text, at.line).unwrap_or(at), "a line without `name: value`".to_owned())
        }
        "mapping values are not allowed in this context" => {
            (at, "not YAML: a `:` where no name can be".to_owned())
        }
        _ => (at, format!("not YAML: {info}")),
    };
    let problem = problems.add(at, message);
    if let Some(help) = advice(info, line, at.column) {
        problem.help(help);
    }
}

/// What was probably meant.
fn advice(info: &str, line: &str, column: usize) -> Option<String> {
    let value = line.split_once(": ").map(|(_, value)| value.trim());
    let says = |part: &str| info.contains(part);
    if says("block scalar")
        && let Some(value) = value
    {
        return Some(format!("a value that begins with `>` or `|` needs quotes: \"{value}\""));
    }
    if says("mapping values are not allowed") {
        let before: String = line.chars().take(column.saturating_sub(1)).collect();
        return Some(if before.contains(": ") {
            "a value that contains `: ` needs quotes".into()
        } else {
            "names of one mapping begin in the same column, and deeper than the name they belong to"
                .into()
        });
    }
    if says("did not find expected key") || says("expected '-' indicator") {
        return Some("this line is indented like none of those before it".into());
    }
    if says("flow sequence") || says("flow mapping") {
        return Some("a value with `,`, `:`, `[` or `{` in it needs quotes inside brackets".into());
    }
    if says("quoted scalar") && says("indentation") || says("unexpected end of stream") {
        return Some("a quote before this is not closed".into());
    }
    if says("simple key expect") {
        return Some("a name is followed by `:` and a space".into());
    }
    if says("unexpected character") {
        return Some("a value that begins with this character needs quotes".into());
    }
    if says("sequence entries are not allowed") {
        return Some("a list begins on the line after its name".into());
    }
    if says("trailing content") {
        return Some("a quote ends the value: put all of it in quotes, or none".into());
    }
    if says("unknown escape") {
        return Some("write it in single quotes, where `\\` is only itself".into());
    }
    if says("unknown anchor") {
        return Some("a value that begins with `*` needs quotes".into());
    }
    None
}

/// The first tab before the text of a line or of its neighbours: the parser may have noticed early
/// or late.
fn tab_in_indentation(text: &str, line: usize) -> Option<Span> {
    let mut start = 0;
    for (index, content) in text.split_inclusive('\n').enumerate().take(line + 1) {
        let number = index + 1;
        let indentation = content.chars().take_while(|c| *c == ' ' || *c == '\t');
        if number + 1 >= line
            && !content.trim().is_empty()
            && let Some(tab) = indentation.clone().position(|c| c == '\t')
        {
            let end = start + indentation.count();
            return Some(Span { start: start + tab, end, line: number, column: tab + 1 });
        }
        start += content.chars().count();
    }
    None
}

/// The last line with something in it before a line.
fn line_before(text: &str, line: usize) -> Option<Span> {
    let mut found = None;
    let mut start = 0;
    for (index, content) in text.split_inclusive('\n').enumerate().take(line.saturating_sub(1)) {
        let indentation = content.chars().take_while(|c| c.is_whitespace()).count();
        let written = content.trim();
        if !written.is_empty() && !written.starts_with('#') {
            let start = start + indentation;
            let end = start + written.chars().count();
            found = Some(Span { start, end, line: index + 1, column: indentation + 1 });
        }
        start += content.chars().count();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn what_is_not_yaml_is_told_where_it_is_and_what_was_meant() {
        for (text, place, message, help) in [
            ("a: 1\n   b: 2\n", (2, 5), "no name can be", "begin in the same column"),
            ("a: b: c\n", (1, 5), "no name can be", "needs quotes"),
            ("a:\n  b: 1\n c: 2\n", (3, 2), "expected key", "indented like none"),
            ("a:\n  - x: 1\n   y: 2\n", (3, 4), "'-' indicator", "indented like none"),
            ("a:\n\tb: 1\n", (2, 1), "a tab in the indentation", "spaces only"),
            ("a: 1\n\tb: 2\n", (2, 1), "a tab in the indentation", "spaces only"),
            ("\ta: [1]\r\nb: 2\r\n", (1, 1), "a tab in the indentation", "spaces only"),
            ("s: >= 99%\n", (1, 4), "block scalar", "needs quotes: \">= 99%\""),
            ("a: 'c' d\n", (1, 8), "trailing content", "all of it in quotes"),
            ("a: 'x\nb: 2\n", (1, 4), "quoted scalar", "not closed"),
            ("a: 1\n\n  # c\nb\nc: 2\n", (4, 1), "without `name: value`", "a space"),
            ("a: @x\n", (1, 4), "unexpected character", "needs quotes"),
            ("a: *x\n", (1, 4), "unknown anchor", "needs quotes"),
        ] {
            let problems = parse(text).expect_err(text).into_sorted();
            let [problem] = problems.as_slice() else { panic!("{text:?}: {problems:#?}") };
            assert_eq!((problem.span.line, problem.span.column), place, "{text:?} {problem:?}");
            assert!(problem.message.contains(message), "{text:?} {problem:?}");
            assert!(
                problem.help.as_ref().is_some_and(|h| h.contains(help)),
                "{text:?} {problem:?}"
            );
        }
    }

    #[test]
    fn a_bracket_that_is_not_closed_is_told_where_it_was_opened() {
        for text in ["a: [1, 2\n", "a: [1, 2\nb: c\n", "a: [{}, [1],\n"] {
            let problems = parse(text).expect_err(text).into_sorted();
            assert_eq!(problems[0].message, "this bracket is not closed", "{text:?}");
            assert_eq!((problems[0].span.line, problems[0].span.column), (1, 4), "{text:?}");
        }
    }
}
