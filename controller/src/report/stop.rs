//! How a run was ended by a stop condition.

use serde::{Deserialize, Serialize};

use super::time;

/// A run that was ended by what a probe saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopReport {
    /// Which condition was broken, and where it is written.
    pub reason: String,
    /// When that was seen, after the beginning of the run.
    pub at_ms: f64,
    /// From then until every fault that was in effect was proven to be reverted; `null` where none
    /// was, or one could not be proven.
    pub time_to_reverted_ms: Option<f64>,
}

impl StopReport {
    /// For a person.
    pub(super) fn text(&self) -> Option<String> {
        let took = std::time::Duration::try_from_secs_f64(self.time_to_reverted_ms? / 1e3).ok()?;
        Some(format!("everything was reverted {} after that was seen", time(took)))
    }
}
