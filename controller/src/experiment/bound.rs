//! Comparisons as they are written: `< 25%`, `> 2s`. What is compared is said by whoever reads one.

use faultline_proto::yaml::{Node, Problems};

use super::Comparison;

/// Longer ones first: `<=` begins with `<`.
const SIGNS: [(&str, Comparison); 5] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("==", Comparison::Equal),
    (">", Comparison::MoreThan),
    ("<", Comparison::LessThan),
];

impl Comparison {
    /// As it is written: `>=`.
    pub fn sign(self) -> &'static str {
        SIGNS.iter().find(|(_, comparison)| *comparison == self).map_or("", |(sign, _)| sign)
    }

    /// Whether `left` compares so with `right`.
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::AtLeast => left >= right,
            Self::MoreThan => left > right,
            Self::AtMost => left <= right,
            Self::LessThan => left < right,
            Self::Equal => left == right,
        }
    }
}

/// A sign of a comparison, and the text behind it.
pub(super) fn split(text: &str) -> Option<(Comparison, &str)> {
    let text = text.trim();
    SIGNS.iter().find_map(|(sign, comparison)| Some((*comparison, text.strip_prefix(sign)?.trim())))
}

/// Reads a comparison with something that `parse` reads and `example` is one of. `allowed` are the
/// signs that make sense here.
pub(super) fn decode<T>(
    node: &Node,
    allowed: &[Comparison],
    example: &str,
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Problems,
) -> Option<(Comparison, T)> {
    let text = node.as_text().unwrap_or_default();
    let Some((comparison, rest)) = split(text) else {
        let problem = problems.add(node.span, format!("{} is not a bound", node.describe()));
        problem.expected(format!("expected a comparison: \"{example}\""));
        if let (Some(first), Ok(_)) = (allowed.first(), parse(text.trim())) {
            problem.help(format!("write \"{} {}\"", first.sign(), text.trim()));
        }
        return None;
    };
    if !allowed.contains(&comparison) {
        let signs: Vec<&str> = allowed.iter().map(|allowed| allowed.sign()).collect();
        problems
            .add(node.span, format!("{} says what is well", node.describe()))
            .expected(format!("expected what is too bad, with {}", signs.join(" or ")))
            .help(format!("such as \"{example}\""));
        return None;
    }
    match parse(rest) {
        Ok(bound) => Some((comparison, bound)),
        Err(expected) => {
            problems
                .add(node.span, format!("{} is not a bound", node.describe()))
                .expected(expected);
            None
        }
    }
}
