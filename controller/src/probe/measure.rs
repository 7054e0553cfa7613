//! Measures from samples. Pure; every number says what it may be off by.

use std::time::Duration;

use faultline_probe::Sample;

use crate::experiment::{Comparison, Recovery, Tolerance};

/// How many attempts of a window succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Attempts that began in the window and have ended.
    pub attempts: usize,
    /// Those that succeeded.
    pub successes: usize,
}

impl Share {
    /// Hundredths of a percent, rounded down; `None` without any attempt.
    pub fn basis_points(self) -> Option<u32> {
        let points = (self.successes * 10_000).checked_div(self.attempts)?;
        Some(u32::try_from(points).unwrap_or(u32::MAX))
    }

    /// Whether it is within a bound; `None` without any attempt. Compared exactly, not rounded.
    pub fn meets(self, tolerance: Tolerance) -> Option<bool> {
        if self.attempts == 0 {
            return None;
        }
        let bound = usize::try_from(tolerance.success_basis_points).unwrap_or(usize::MAX);
        let (share, bound) = (self.successes * 10_000, bound * self.attempts);
        Some(match tolerance.comparison {
            Comparison::AtLeast => share >= bound,
            Comparison::MoreThan => share > bound,
            Comparison::AtMost => share <= bound,
            Comparison::LessThan => share < bound,
            Comparison::Equal => share == bound,
        })
    }
}

/// Counts the attempts that began from `from` on and before `to`.
pub fn share(samples: &[Sample], from: Duration, to: Duration) -> Share {
    let inside = samples.iter().filter(|s| s.began >= from && s.began < to);
    inside.fold(Share::default(), |share, sample| Share {
        attempts: share.attempts + 1,
        successes: share.successes + usize::from(sample.failure.is_none()),
    })
}

/// For how long a probe failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Downtime {
    /// The sum of the failing intervals: each from its first failing attempt to the next good one.
    pub total: Duration,
    /// The truth is within this of `total`: an outage begins up to one spacing before its first
    /// failing attempt, and ends up to one spacing before the next good one.
    pub uncertainty: Duration,
    /// How many intervals there were.
    pub outages: usize,
    /// The last one has not ended.
    pub ongoing: bool,
}

/// Sums up the failing intervals of samples in order. `until` ends the last one if it is open.
pub fn downtime(samples: &[Sample], until: Duration) -> Downtime {
    let mut result = Downtime::default();
    let mut last_good: Option<Duration> = None;
    let mut open: Option<(Duration, Duration)> = None;
    let mut last_bad: Option<Duration> = None;
    for sample in samples {
        match (&sample.failure, open) {
            (Some(_), None) => {
                let before =
                    last_good.map_or(Duration::ZERO, |good| sample.began.saturating_sub(good));
                open = Some((sample.began, before));
                last_bad = Some(sample.began);
            }
            (Some(_), Some(_)) => last_bad = Some(sample.began),
            (None, Some((began, before))) => {
                let after = last_bad.map_or(Duration::ZERO, |bad| sample.began.saturating_sub(bad));
                result.total += sample.began.saturating_sub(began);
                result.uncertainty += before.max(after);
                result.outages += 1;
                (open, last_good) = (None, Some(sample.began));
            }
            (None, None) => last_good = Some(sample.began),
        }
    }
    if let Some((began, before)) = open {
        let last = last_bad.unwrap_or(began);
        result.total += until.saturating_sub(began);
        result.uncertainty += before.max(until.saturating_sub(last));
        result.outages += 1;
        result.ongoing = true;
    }
    result
}

/// When the first attempt that failed began, at or after a time.
pub fn first_failure_after(samples: &[Sample], from: Duration) -> Option<Duration> {
    samples.iter().find(|s| s.began >= from && s.failure.is_some()).map(|s| s.began)
}

/// When a probe was well again for good: the beginning of the first attempt at or after `from` from
/// which on every attempt succeeded for `stable_for`. `None` while that cannot be said. Only attempts
/// that began before `settled_until` count: one that is still waited for may yet fail.
pub fn recovered_at(
    samples: &[Sample],
    from: Duration,
    settled_until: Duration,
    recovery: Recovery,
) -> Option<Duration> {
    let mut well_since: Option<Duration> = None;
    for sample in samples.iter().filter(|s| s.began >= from && s.began < settled_until) {
        if sample.failure.is_some() {
            well_since = None;
            continue;
        }
        let since = *well_since.get_or_insert(sample.began);
        if sample.began.saturating_sub(since) >= recovery.stable_for {
            return Some(since);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use faultline_probe::{Failure, FailureKind};

    use super::*;

    fn samples(base: Duration, outcomes: &str) -> Vec<Sample> {
        let began = |i: usize| base + Duration::from_millis(10) * u32::try_from(i).expect("small");
        let failure = |c| (c == 'x').then(|| Failure::new(FailureKind::Refused, "refused"));
        outcomes
            .chars()
            .enumerate()
            .filter(|(_, c)| *c != ' ')
            .map(|(i, c)| Sample {
                began: began(i),
                took: Duration::ZERO,
                failure: failure(c),
                value: None,
            })
            .collect()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn downtime_is_the_union_of_failing_intervals_with_its_uncertainty() {
        let base = ms(5000);
        let end = base + ms(200);
        let of = |outcomes| downtime(&samples(base, outcomes), end);
        assert_eq!(of("....."), Downtime::default());
        let one = Downtime { total: ms(20), uncertainty: ms(10), outages: 1, ongoing: false };
        assert_eq!(of("..xx.."), one);
        let two = Downtime { total: ms(20), uncertainty: ms(20), outages: 2, ongoing: false };
        assert_eq!(of("..x..x.."), two);
        let lone = of("..x...");
        assert!(lone.total > Duration::ZERO, "one failing attempt is never reported as no outage");
        let open = of("..xx");
        assert!(open.ongoing && open.total == ms(180));
        assert_eq!(of("..xx   ..").total, ms(50), "a gap in the probing is counted, and");
        assert_eq!(of("..xx   ..").uncertainty, ms(40), "said to be uncertain");
    }

    #[test]
    fn shares_are_compared_exactly() {
        let base = ms(5000);
        let all = samples(base, ".........x");
        let share = share(&all, base, base + ms(1000));
        assert_eq!(share.basis_points(), Some(9_000));
        let bound =
            |comparison, success_basis_points| Tolerance { comparison, success_basis_points };
        assert_eq!(share.meets(bound(Comparison::AtLeast, 9_000)), Some(true));
        assert_eq!(share.meets(bound(Comparison::MoreThan, 9_000)), Some(false));
        assert_eq!(share.meets(bound(Comparison::LessThan, 9_001)), Some(true));
        assert_eq!(Share::default().meets(bound(Comparison::AtLeast, 0)), None);
    }

    #[test]
    fn recovery_begins_with_the_first_good_attempt_of_a_stable_time() {
        let base = ms(5000);
        let at = |outcomes, stable| {
            let recovery = Recovery { within: ms(1000), stable_for: ms(stable) };
            let all = samples(base, outcomes);
            recovered_at(&all, base, base + ms(1000), recovery).map(|t| t.saturating_sub(base))
        };
        assert_eq!(at("xx....", 30), Some(ms(20)));
        assert_eq!(at("xx..x.....", 30), Some(ms(50)));
        assert_eq!(at("xx...", 30), None);
        assert_eq!(at("......", 0), Some(ms(0)));
    }
}
