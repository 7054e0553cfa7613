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
}

impl BoundReport {
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
