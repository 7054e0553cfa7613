//! How many attempts succeeded, compared exactly with what is asked, and only where enough was observed.

use crate::experiment::Bound;

/// How many attempts succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Attempts that have ended, and say something of the system.
    pub attempts: u64,
    /// Those that succeeded.
    pub successes: u64,
    /// Those beside them that say nothing of it.
    pub unobserved: u64,
}

impl Share {
    /// Hundredths of a percent, rounded down; `None` without any attempt.
    pub fn basis_points(self) -> Option<u32> {
        let points = (u128::from(self.successes) * 10_000).checked_div(self.attempts.into())?;
        Some(u32::try_from(points).unwrap_or(u32::MAX))
    }

    /// Whether it is within a bound; `None` without any attempt. Compared exactly, not rounded.
    pub fn meets(self, bound: Bound<u32>) -> Option<bool> {
        if self.attempts == 0 {
            return None;
        }
        let share = u128::from(self.successes) * 10_000;
        let asked = u128::from(bound.value) * u128::from(self.attempts);
        Some(bound.comparison.holds(&share, &asked))
    }

    /// Whether so much of it was observed that it can be judged: something, and of all attempts that
    /// should have been made no more than a tenth was not.
    pub fn is_conclusive(self) -> bool {
        let all = u128::from(self.attempts) + u128::from(self.unobserved);
        self.attempts > 0 && u128::from(self.unobserved) * 10 <= all
    }

    /// Why it cannot be judged, if that is so: `40 of 100 attempts say nothing of the system`.
    pub fn inconclusive(self) -> Option<String> {
        match self {
            Self { attempts: 0, unobserved: 0, .. } => Some("made no attempt".into()),
            _ if self.is_conclusive() => None,
            Self { attempts, unobserved, .. } => Some(format!(
                "observed nothing in {unobserved} of {} attempts",
                attempts.saturating_add(unobserved)
            )),
        }
    }
}
