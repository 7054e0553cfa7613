//! What was asked of a probe, and what became of it.

use serde::{Deserialize, Serialize};

use super::Outcome;

/// What was asked of a probe in a window of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundReport {
    /// As it is written in the experiment: `steady`, `during` or `recovery`.
    pub window: String,
    /// What follows from what was observed.
    pub outcome: Outcome,
    /// What is not as it was asked, each in a few words.
    pub why: Vec<String>,
    /// The same, figure by figure, with those that are as they were asked.
    #[serde(default)]
    pub figures: Vec<FigureReport>,
}

/// One figure that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FigureReport {
    /// Which: `success`, a latency (`p99`), `value`, or `recovery`.
    pub figure: String,
    /// What it is compared with, as it is written: `>= 99%`.
    pub bound: String,
    /// What it was; `null` where that is not known. Of a value, the last one.
    pub was: Option<String>,
    /// What follows from that.
    pub outcome: Outcome,
}

impl BoundReport {
    /// What was asked, in one line: `success >= 99%, p99 < 200ms`.
    pub fn asked(&self) -> String {
        let one = |figure: &FigureReport| format!("{} {}", figure.figure, figure.bound);
        self.figures.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// What that came to, in one line: `success was 100% of 51 attempts, p99 was 3.2 ms`.
    pub fn was(&self) -> String {
        let one = |figure: &FigureReport| {
            let was =
                figure.was.as_deref().map_or("is not known".into(), |was| format!("was {was}"));
            format!("{} {was}", figure.figure)
        };
        self.figures.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// For a person: `during the fault`.
    pub fn shown(&self) -> &str {
        match self.window.as_str() {
            "steady" => "before the fault",
            "during" => "during the fault",
            "recovery" => "after the fault",
            other => other,
        }
    }
}
