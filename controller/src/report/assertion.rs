//! What became of assertions, as it is written into reports.

use serde::{Deserialize, Serialize};

use crate::experiment::Assertion;

/// An assertion, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssertionReport {
    /// What was asked: `downtime of third < 2s`.
    pub asked: String,
    /// Where that is written: file, line and column.
    pub place: String,
    /// The measure: `downtime`.
    pub measure: String,
    /// The probe that decided, where one did.
    pub probe: Option<String>,
    /// What it was: `1.02 s ± 20.1 ms`; or why that cannot be said.
    pub was: String,
    /// What follows from that.
    pub outcome: Outcome,
}

/// What became of something that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is so.
    Held,
    /// It is not so.
    Deviated,
    /// It cannot be said: not observed, or too close to the bound for what it may be off by. That
    /// counts as deviated.
    Inconclusive,
    /// The run ended before its method did.
    NotJudged,
}

impl Outcome {
    /// Its name, as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Deviated => "deviated",
            Self::Inconclusive => "inconclusive",
            Self::NotJudged => "not-judged",
        }
    }

    /// Whether that counts against the run.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Deviated | Self::Inconclusive)
    }
}

impl AssertionReport {
    /// Of an assertion in a run that ended before its method did.
    pub fn not_judged(assertion: &Assertion, place: String) -> Self {
        Self {
            asked: assertion.to_string(),
            place,
            measure: assertion.measure.name().into(),
            probe: None,
            was: "the run ended before that".into(),
            outcome: Outcome::NotJudged,
        }
    }

    /// For a person: `held: downtime of third < 2s, was 1.02 s ± 20.1 ms`.
    pub fn sentence(&self) -> String {
        let probe = match &self.probe {
            Some(probe) if !self.asked.contains(&format!(" of {probe} ")) => {
                format!(" (probe `{probe}`)")
            }
            _ => String::new(),
        };
        format!("{} is asked, {}{probe} ({})", self.asked, self.was, self.place)
    }
}
