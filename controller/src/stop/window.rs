//! The attempts of the last so long, counted as they come and go: a look costs no more for a long one.

use std::{collections::VecDeque, time::Duration};

use super::Seen;
use crate::experiment::Comparison;

/// What makes the time of an attempt lie before the end of the window that ends with it.
pub(super) const MOMENT: Duration = Duration::from_nanos(1);

/// Attempts that began in the last so long until one of them, the last of those before which all have ended.
#[derive(Debug)]
pub(super) struct Window {
    over: Duration,
    /// What counts as slow.
    slow_if: Option<(Comparison, Duration)>,
    /// Those that ended before others that began earlier.
    waiting: Vec<Seen>,
    inside: VecDeque<Seen>,
    /// How many are inside.
    pub(super) attempts: u64,
    /// Those of them that succeeded.
    pub(super) good: u64,
    /// Those of the good ones that were slow.
    pub(super) slow: u64,
}

impl Window {
    pub(super) fn new(over: Duration, slow_if: Option<(Comparison, Duration)>) -> Self {
        let (waiting, inside) = (Vec::new(), VecDeque::new());
        Self { over, slow_if, waiting, inside, attempts: 0, good: 0, slow: 0 }
    }

    pub(super) fn take(&mut self, seen: Seen) {
        self.waiting.push(seen);
    }

    /// Those that are settled now, in the order in which they began: one after the other is to be pushed.
    pub(super) fn settle(&mut self, settled: Duration) -> Vec<Seen> {
        let is_settled = |seen: &mut Seen| seen.began < settled;
        let mut new: Vec<Seen> = self.waiting.extract_if(.., is_settled).collect();
        new.sort_by_key(|seen| seen.began);
        new
    }

    /// Moves the window to end right after the beginning of this attempt.
    pub(super) fn push(&mut self, seen: Seen) {
        let from = (seen.began + MOMENT).saturating_sub(self.over);
        self.count(&seen, true);
        self.inside.push_back(seen);
        while let Some(oldest) = self.inside.front().copied().filter(|seen| seen.began < from) {
            self.inside.pop_front();
            self.count(&oldest, false);
        }
    }

    /// How many attempts it holds.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.waiting.len() + self.inside.len()
    }

    fn count(&mut self, seen: &Seen, comes: bool) {
        let is_slow = |(comparison, bound): (Comparison, Duration)| {
            seen.is_good && comparison.holds(&seen.took, &bound)
        };
        let add = |count: &mut u64, is: bool| {
            if is {
                *count = if comes { *count + 1 } else { count.saturating_sub(1) };
            }
        };
        add(&mut self.attempts, true);
        add(&mut self.good, seen.is_good);
        add(&mut self.slow, self.slow_if.is_some_and(is_slow));
    }

    /// A quantile of the latency of those that succeeded, and of `quick` ones more that took no time.
    pub(super) fn latency(&self, per_mille: u32, quick: u64) -> Duration {
        let good = self.inside.iter().filter(|seen| seen.is_good);
        let mut took: Vec<Duration> = good.map(|seen| seen.took).collect();
        took.sort_unstable();
        let all = quick + self.good;
        let rank = (all * u64::from(per_mille)).div_ceil(1000).max(1);
        let at = usize::try_from(rank.saturating_sub(quick + 1)).unwrap_or(usize::MAX);
        if rank <= quick { Duration::ZERO } else { took.get(at).copied().unwrap_or_default() }
    }
}
