//! Decoding scalars: each function reports what it expected and where.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use super::{
    node::Node,
    problem::{Problems, Spanned},
};
use crate::{fault::Cidr, target::is_object_name, units};

/// A text that is not empty.
pub fn text(node: &Node, problems: &mut Problems) -> Option<Spanned<String>> {
    match node.as_text() {
        Some(text) => Some(Spanned { value: text.to_owned(), span: node.span }),
        None => wrong(node, "a text", problems),
    }
}

/// A name as Kubernetes objects have them.
pub fn name(node: &Node, problems: &mut Problems) -> Option<Spanned<String>> {
    let text = text(node, problems)?;
    if is_object_name(&text.value) {
        return Some(text);
    }
    problems
        .add(node.span, format!("{} is not a name", node.describe()))
        .expected("expected lower-case letters, digits, `-` and `.`, beginning and ending with one of the first two");
    None
}

/// A whole number in a range.
pub fn count(range: RangeInclusive<u64>) -> impl Fn(&Node, &mut Problems) -> Option<u64> {
    move |node, problems| {
        let number = node.as_text().and_then(|text| text.parse::<u64>().ok());
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                wrong(node, &expected, problems)
            }
        }
    }
}

/// A duration in a range.
pub fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Node, &mut Problems) -> Option<Duration> {
    move |node, problems| quantity(node, problems, &range, units::parse_duration, units::duration)
}

/// A size in bytes, in a range.
pub fn size(range: RangeInclusive<u64>) -> impl Fn(&Node, &mut Problems) -> Option<u64> {
    move |node, problems| quantity(node, problems, &range, units::parse_size, units::size)
}

/// Hundredths of a percent, in a range.
pub fn percent(range: RangeInclusive<u32>) -> impl Fn(&Node, &mut Problems) -> Option<u32> {
    move |node, problems| quantity(node, problems, &range, units::parse_percent, units::percent)
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

fn quantity<T: PartialOrd + Copy, S: Display>(
    node: &Node,
    problems: &mut Problems,
    range: &RangeInclusive<T>,
    parse: impl Fn(&str) -> Result<T, String>,
    show: impl Fn(T) -> S,
) -> Option<T> {
    match parse(node.as_text().unwrap_or_default()) {
        Ok(value) if range.contains(&value) => Some(value),
        Ok(_) => {
            let expected = format!("from {} to {}", show(*range.start()), show(*range.end()));
            problems
                .add(node.span, format!("{} is out of bounds", node.describe()))
                .expected(format!("expected {expected}"));
            None
        }
        Err(expected) => {
            problems
                .add(node.span, format!("{} cannot be read here", node.describe()))
                .expected(expected);
            None
        }
    }
}

fn wrong<T>(node: &Node, expected: &str, problems: &mut Problems) -> Option<T> {
    problems
        .add(node.span, format!("found {}", node.describe()))
        .expected(format!("expected {expected}"));
    None
}
