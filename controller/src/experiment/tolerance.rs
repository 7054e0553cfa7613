//! What `steady`, `during` and `recovery` of a probe ask for: a share of successes, latencies, and how
//! the value that it observes compares with what it was before.

use std::{fmt, time::Duration};

use faultline_proto::{
    units,
    yaml::{self, Fields, Node, Problems, Value, quote},
};

use super::{Comparison, RECOVERY_WITHIN_DEFAULT, STABLE_FOR_DEFAULT, WAIT_MAX, bound};

/// What must hold of the attempts of a window. At least one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tolerance {
    /// Of the share that succeeds, in hundredths of a percent.
    pub success: Option<Bound<u32>>,
    /// Of how long those take that succeed.
    pub latency: Vec<(Quantile, Bound<Duration>)>,
    /// Of every value that is observed.
    pub value: Option<ValueRule>,
}

/// How soon a probe must be well again, and for how long it must stay so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// After the revert was proven.
    pub within: Duration,
    /// Every attempt succeeds for so long.
    pub stable_for: Duration,
    /// What its value must be for that.
    pub value: Option<ValueRule>,
}

/// A comparison with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound<T> {
    /// How.
    pub comparison: Comparison,
    /// With what.
    pub value: T,
}

/// A part of all attempts, from the quickest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantile {
    /// How it is written: `p99`.
    pub name: &'static str,
    /// In thousandths.
    pub per_mille: u32,
}

impl Quantile {
    /// The quantiles that can be asked for.
    pub const ALL: [Self; 6] = [
        Self { name: "p50", per_mille: 500 },
        Self { name: "p90", per_mille: 900 },
        Self { name: "p95", per_mille: 950 },
        Self { name: "p99", per_mille: 990 },
        Self { name: "p999", per_mille: 999 },
        Self { name: "max", per_mille: 1000 },
    ];
}

/// How a value must compare with the last one before the first injection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueRule {
    /// It is the same.
    Unchanged,
    /// It is no smaller a number.
    NotLess,
    /// It is no larger a number.
    NotMore,
    /// It is this, whatever it was before.
    Equals(String),
    /// It is a number that differs by no more than so many hundredths of a percent.
    Within(u32),
}

impl fmt::Display for ValueRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged => f.write_str("unchanged"),
            Self::NotLess => f.write_str("not-less"),
            Self::NotMore => f.write_str("not-more"),
            Self::Equals(value) => write!(f, "equals {value}"),
            Self::Within(basis_points) => write!(f, "within {}", units::percent(*basis_points)),
        }
    }
}

impl fmt::Display for Bound<Duration> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.comparison.sign(), units::duration(self.value))
    }
}

/// A bound of a share, as it is written: `>= 99%`.
pub fn share(bound: Bound<u32>) -> String {
    format!("{} {}", bound.comparison.sign(), units::percent(bound.value))
}

/// Decodes `steady` or `during`.
pub(super) fn decode_tolerance(
    node: &Node,
    name: &'static str,
    problems: &mut Problems,
) -> Option<Tolerance> {
    if let Some(text) = node.as_text() {
        problems
            .add(node.span, format!("{name} must be a mapping, found {}", node.describe()))
            .expected("expected what is measured, and its bound")
            .help(format!("write `{name}: {{ success: \"{text}\" }}`"));
        return None;
    }
    let before = problems.len();
    let mut fields = Fields::open(node, name, problems)?;
    let success = fields.optional("success", problems, decode_share);
    let latency = fields.optional("latency", problems, decode_latency);
    let value = if name == "steady" {
        fields.refused("value", problems, "there is nothing before it to compare with");
        None
    } else {
        fields.optional("value", problems, decode_value)
    };
    let asks = fields.keys().next().is_some();
    fields.finish_with(problems, |key| {
        let is_quantile = Quantile::ALL.iter().any(|quantile| quantile.name == key);
        is_quantile.then(|| format!("write `latency: {{ {key}: … }}`"))
    });
    if !asks {
        problems.add(node.key.unwrap_or(node.span), format!("{name} asks for nothing")).expected(
            if name == "steady" {
                "expected one of: success, latency"
            } else {
                "expected one of: success, latency, value"
            },
        );
    }
    let tolerance = Tolerance { success, latency: latency.unwrap_or_default(), value };
    (problems.len() == before).then_some(tolerance)
}

/// Decodes a bound of a share.
pub(super) fn decode_share(node: &Node, problems: &mut Problems) -> Option<Bound<u32>> {
    let text = node.as_text().unwrap_or_default().trim();
    let Some((comparison, rest)) = bound::split(text) else {
        let problem = problems.add(node.span, format!("{} is not a bound", node.describe()));
        problem.expected("expected a comparison with a percentage: \">= 99%\"");
        if units::parse_percent(text).is_ok() {
            problem.help(format!("write \">= {text}\""));
        }
        return None;
    };
    let sign = comparison.sign();
    let Some(value) = units::parse_percent(rest).ok().filter(|points| *points <= 10_000) else {
        let problem = problems.add(node.span, format!("{} is not a bound", node.describe()));
        problem.expected("expected a percentage from 0% to 100%");
        if rest.parse::<u32>().is_ok_and(|number| number <= 100) {
            problem.help(format!("write \"{sign} {rest}%\""));
        }
        return None;
    };
    let never = match comparison {
        Comparison::MoreThan => value == 10_000,
        Comparison::LessThan => value == 0,
        _ => false,
    };
    if never {
        problems
            .add(node.span, format!("{} never holds", node.describe()))
            .help(format!("did you mean \"{sign}= {rest}\"?"));
        return None;
    }
    Some(Bound { comparison, value })
}

fn decode_latency(
    node: &Node,
    problems: &mut Problems,
) -> Option<Vec<(Quantile, Bound<Duration>)>> {
    let mut fields = Fields::open(node, "latency", problems)?;
    let mut bounds = Vec::new();
    for quantile in Quantile::ALL {
        let bound = fields.optional(quantile.name, problems, decode_at_most);
        bounds.extend(bound.map(|bound| (quantile, bound)));
    }
    if fields.keys().next().is_none() {
        problems.add(fields.span(), "a latency of nothing").expected("expected `p99: \"< 200ms\"`");
    }
    fields.finish(problems);
    Some(bounds)
}

/// Decodes how long something may take.
pub(super) fn decode_at_most(node: &Node, problems: &mut Problems) -> Option<Bound<Duration>> {
    const SIGNS: [Comparison; 2] = [Comparison::LessThan, Comparison::AtMost];
    let text = node.as_text().unwrap_or_default();
    if let Some((comparison, rest)) = bound::split(text)
        && !SIGNS.contains(&comparison)
    {
        problems
            .add(node.span, format!("{} says what is too long", node.describe()))
            .expected("expected how long it may take, with < or <=")
            .help(format!("write \"<= {rest}\""));
        return None;
    }
    let (comparison, value) =
        bound::decode(node, &SIGNS, "< 200ms", units::parse_duration, problems)?;
    if comparison == Comparison::LessThan && value.is_zero() {
        problems.add(node.span, format!("{} never holds", node.describe()));
        return None;
    }
    Some(Bound { comparison, value })
}

const RULES: [(&str, ValueRule); 3] = [
    ("unchanged", ValueRule::Unchanged),
    ("not-less", ValueRule::NotLess),
    ("not-more", ValueRule::NotMore),
];

fn decode_value(node: &Node, problems: &mut Problems) -> Option<ValueRule> {
    let expected = "expected unchanged, not-less, not-more, { equals: X } or { within: 5% }";
    if !matches!(node.value, Value::Mapping(_)) {
        let written = node.as_text().unwrap_or_default();
        let known = RULES.into_iter().find(|(name, _)| *name == written).map(|(_, rule)| rule);
        if known.is_none() {
            problems
                .add(node.span, format!("{} is no comparison with before", node.describe()))
                .expected(expected)
                .suggest(written, RULES.iter().map(|(name, _)| *name));
        }
        return known;
    }
    let mut fields = Fields::open(node, "value", problems)?;
    let equals = fields.optional("equals", problems, yaml::text);
    let within = fields.optional("within", problems, yaml::percent(0..=100_000));
    let written: Vec<_> = fields.keys().collect();
    match written.as_slice() {
        [] => drop(problems.add(fields.span(), "value asks for nothing").expected(expected)),
        [_] => {}
        [(first, _), (other, span), ..] => {
            problems
                .add(*span, format!("{} beside `{first}`", quote(other)))
                .expected("expected one comparison");
        }
    }
    fields.finish(problems);
    let equals = equals.map(|text| ValueRule::Equals(text.value.trim().to_owned()));
    equals.or(within.map(ValueRule::Within))
}

/// Decodes `recovery`.
pub(super) fn decode_recovery(node: &Node, problems: &mut Problems) -> Option<Recovery> {
    let before = problems.len();
    let mut fields = Fields::open(node, "recovery", problems)?;
    let range = Duration::from_millis(1)..=WAIT_MAX;
    let value = fields.optional("value", problems, decode_value);
    // What must be so in the end must be so some time, without a word on when.
    let within = if fields.key_span("value").is_some() {
        let within = fields.optional("within", problems, yaml::duration(range));
        Some(within.unwrap_or(RECOVERY_WITHIN_DEFAULT))
    } else {
        fields.required("within", problems, yaml::duration(range))
    };
    let stable_for =
        fields.optional("stableFor", problems, yaml::duration(Duration::ZERO..=WAIT_MAX));
    fields.finish(problems);
    let stable_for = stable_for.unwrap_or(STABLE_FOR_DEFAULT);
    (problems.len() == before).then_some(Recovery { within: within?, stable_for, value })
}
