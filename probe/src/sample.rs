//! One attempt, after it has ended.

use std::time::Duration;

use crate::Failure;

/// One attempt. Its times are counted from the beginning of the run, on a monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it began.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// Both times may be off by this together: how well the clock is known that they were read from (our own is), and how
    /// late the attempt was under way.
    pub uncertainty: Duration,
    /// Why it failed; `None`: it succeeded.
    pub failure: Option<Failure>,
    /// What it observed, where its kind observes more than that it worked.
    pub value: Option<String>,
}

impl Sample {
    /// Whether it succeeded.
    pub fn is_good(&self) -> bool {
        self.failure.is_none()
    }

    /// Whether it says something of the system, good or bad.
    pub fn is_observation(&self) -> bool {
        self.failure.as_ref().is_none_or(|failure| failure.kind.is_observation())
    }

    /// When it had ended.
    pub fn ended(&self) -> Duration {
        self.began + self.took
    }
}
