//! Decoding scalars and lists of them: each function reports what it expected and where.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use super::{
    node::{Node, Value},
    problem::{Problems, Spanned},
};
use crate::{fault::Cidr, target::is_object_name, units};

/// A text that is not empty.
pub fn text(node: &Node, problems: &mut Problems) -> Option<Spanned<String>> {
    match node.as_text() {
        Some(text) if !text.trim().is_empty() => {
            Some(Spanned { value: text.to_owned(), span: node.span })
        }
        _ => wrong(node, "a text", problems),
    }
}

/// A name as Kubernetes objects have them.
pub fn name(node: &Node, problems: &mut Problems) -> Option<Spanned<String>> {
    let text = text(node, problems)?;
    if is_object_name(&text.value) {
        return Some(text);
    }
    let problem = problems.add(node.span, format!("{} is not a name", node.describe()));
    problem.expected("expected lower-case letters, digits, `-` and `.`, beginning and ending with one of the first two");
    let better = text.value.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    if is_object_name(&better) {
        problem.help(format!("write `{better}`"));
    }
    None
}

/// A list of `range` items, each read by `decode`. The mistakes of all of them are reported, and
/// those without any are in the result: what they refer to can still be checked.
pub fn list<T>(
    range: RangeInclusive<usize>,
    what: &'static str,
    mut decode: impl FnMut(&Node, &mut Problems) -> Option<T>,
) -> impl FnMut(&Node, &mut Problems) -> Option<Vec<T>> {
    move |node, problems| {
        let expected = || match (*range.start(), *range.end()) {
            (0, usize::MAX) => format!("a list of {what}"),
            (least, usize::MAX) => format!("a list of at least {least} {what}"),
            (least, most) => format!("a list of {least} to {most} {what}"),
        };
        let Value::Sequence(items) = &node.value else {
            return wrong(node, &expected(), problems);
        };
        if !range.contains(&items.len()) {
            let found =
                if items.is_empty() { "an empty list".into() } else { items.len().to_string() };
            problems
                .add(node.span, format!("found {found}"))
                .expected(format!("expected {}", expected()));
            return None;
        }
        Some(items.iter().filter_map(|item| decode(item, problems)).collect())
    }
}

/// A whole number in a range.
pub fn count(range: RangeInclusive<u64>) -> impl Fn(&Node, &mut Problems) -> Option<u64> {
    move |node, problems| {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(text) = node.as_text() else { return wrong(node, &expected, problems) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>().ok().filter(|number| digits && range.contains(number)) {
            Some(number) => Some(number),
            None if digits => out_of_bounds(node, &format!("expected {expected}"), problems),
            None => wrong(node, &expected, problems),
        }
    }
}

/// A duration in a range.
pub fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Node, &mut Problems) -> Option<Duration> {
    move |node, problems| {
        let before = problems.len();
        let found =
            quantity(node, "a duration", problems, &range, units::parse_duration, units::duration);
        if problems.len() > before
            && let Some(meant) = node.as_text().and_then(meant_duration)
        {
            for problem in problems.at_mut(node.span).filter(|problem| problem.help.is_none()) {
                problem.help(format!("write `{meant}`"));
            }
        }
        found
    }
}

/// A size in bytes, in a range.
pub fn size(range: RangeInclusive<u64>) -> impl Fn(&Node, &mut Problems) -> Option<u64> {
    move |node, problems| quantity(node, "a size", problems, &range, units::parse_size, units::size)
}

/// Hundredths of a percent, in a range.
pub fn percent(range: RangeInclusive<u32>) -> impl Fn(&Node, &mut Problems) -> Option<u32> {
    move |node, problems| {
        quantity(node, "a percentage", problems, &range, units::parse_percent, units::percent)
    }
}

/// One of some words.
pub fn one_of<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&Node, &mut Problems) -> Option<T> {
    move |node, problems| {
        let written = node.as_text().unwrap_or_default();
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == written) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        problems
            .add(node.span, format!("{} is not one of the choices here", node.describe()))
            .expected(format!("expected one of: {}", names.join(", ")))
            .suggest(written, names.iter().copied());
        None
    }
}

/// A range of addresses such as `10.0.0.0/8`, or one address.
pub fn cidr(node: &Node, problems: &mut Problems) -> Option<Cidr> {
    let Some(text) = node.as_text() else {
        return wrong(node, "an address or a range such as 10.0.0.0/8", problems);
    };
    match text.parse::<Cidr>() {
        Ok(cidr) => Some(cidr),
        Err(error) => {
            problems.add(node.span, error.message).help = error.help;
            None
        }
    }
}

/// The duration in our units that `30 seconds`, `30sec` or `5 min` means.
fn meant_duration(text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (value, unit) = text.split_at(end);
    let unit = match unit.trim().to_lowercase().as_str() {
        "us" | "µs" | "usec" => "us",
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        _ => return None,
    };
    let meant = format!("{value}{unit}");
    (meant != text && units::parse_duration(&meant).is_ok()).then_some(meant)
}

fn quantity<T: PartialOrd + Copy, S: Display>(
    node: &Node,
    what: &str,
    problems: &mut Problems,
    range: &RangeInclusive<T>,
    parse: impl Fn(&str) -> Result<T, String>,
    show: impl Fn(T) -> S,
) -> Option<T> {
    match parse(node.as_text().unwrap_or_default()) {
        Ok(value) if range.contains(&value) => Some(value),
        Ok(_) => {
            let bounds = format!("expected {} to {}", show(*range.start()), show(*range.end()));
            out_of_bounds(node, &bounds, problems)
        }
        Err(expected) => {
            let found = match node.as_text() {
                Some(_) => format!("{} is not {what}", node.describe()),
                None => format!("found {}", node.describe()),
            };
            problems.add(node.span, found).expected(expected);
            None
        }
    }
}

fn out_of_bounds<T>(node: &Node, expected: &str, problems: &mut Problems) -> Option<T> {
    problems.add(node.span, format!("{} is out of bounds", node.describe())).expected(expected);
    None
}

fn wrong<T>(node: &Node, expected: &str, problems: &mut Problems) -> Option<T> {
    problems
        .add(node.span, format!("found {}", node.describe()))
        .expected(format!("expected {expected}"));
    None
}
