//! A point on a machine's `CLOCK_BOOTTIME`. Reading that clock is the agent's affair.

use std::{ops::Sub, time::Duration};

use serde::{Deserialize, Serialize};

/// Nanoseconds since the boot of one machine, time asleep included (`clock_gettime(2)`,
/// `CLOCK_BOOTTIME`). Comparable only with others of the same machine and boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(u64);

impl BootTime {
    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// As nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// `duration` later; the end of time if that does not fit.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Sub for BootTime {
    type Output = Duration;

    /// Saturating, as [`BootTime::since`].
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}
