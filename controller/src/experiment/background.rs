//! `background:` — a load that goes on all the time: how it differs from a probe. What it tries, and how
//! that is judged, is written as for a probe.

use std::time::Duration;

use faultline_proto::yaml::{Node, Problems};

/// What something that is tried again and again is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// To observe.
    Probe,
    /// To be a load.
    Load,
}

/// Requests per second of one load.
const RATE_PER_SECOND_MAX: u32 = 5_000;
/// The kinds that a load can be of.
pub(super) const LOAD_KINDS: [&str; 2] = ["http", "tcp"];

impl Role {
    /// What it is called in messages.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Probe => "a probe",
            Self::Load => "a background load",
        }
    }
}

/// Reads `200/s` or `30/m`: the time from one request to the next.
pub(super) fn rate(node: &Node, problems: &mut Problems) -> Option<Duration> {
    let text = node.as_text().unwrap_or_default();
    let parts = text.split_once('/').map(|(count, unit)| (count.trim(), unit.trim()));
    let digits = |count: &str| !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
    let found = parts.and_then(|(count, unit)| {
        let per = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            _ => return None,
        };
        let count = digits(count).then(|| count.parse::<u32>().ok()).flatten()?;
        Some((count, per))
    });
    let Some((count, per)) = found else {
        let problem = problems.add(node.span, format!("{} is not a rate", node.describe()));
        problem.expected("expected requests per second or minute: 200/s");
        if digits(text) {
            problem.help(format!("write `rate: {text}/s`"));
        }
        return None;
    };
    let least = Duration::from_secs(1) / RATE_PER_SECOND_MAX;
    let every = per.checked_div(count).filter(|every| *every >= least);
    if every.is_none() {
        problems
            .add(node.span, format!("{} is out of bounds", node.describe()))
            .expected(format!("expected 1/m to {RATE_PER_SECOND_MAX}/s"));
    }
    every
}
