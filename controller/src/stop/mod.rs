//! When a run is to end because of what a probe sees. Pure: it is told what was seen and what time it
//! is, in run time. What is done then is the run's business.

mod window;

use std::time::Duration;

use faultline_proto::units;

use self::window::{MOMENT, Window};
use crate::{
    experiment::{Comparison, Quantile, StopCondition, StopRule},
    report::time,
};

/// What is of interest here of an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// When it began.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// It succeeded.
    pub is_good: bool,
    /// It says something of the system under test: it was not our own side that failed.
    pub is_observation: bool,
    /// The number that it gave, which is finite.
    pub value: Option<f64>,
}

/// Watches one condition.
#[derive(Debug)]
pub struct Guard {
    condition: StopCondition,
    /// The time between two attempts of the probe.
    every: Duration,
    /// When the probe began to look.
    from: Duration,
    window: Window,
    /// When something was seen last.
    observed: Duration,
    /// Since when the value has been beyond its bound.
    beyond_since: Option<Duration>,
    gave_number: bool,
    /// What was said after the last attempt.
    last: Option<String>,
}

impl Guard {
    /// Of a probe that makes an attempt `every` so long since `from`.
    pub fn new(condition: StopCondition, every: Duration, from: Duration) -> Self {
        let (over, slow) = match &condition.rule {
            StopRule::Success { over, .. } => (*over, None),
            StopRule::Latency { over, comparison, bound, .. } => {
                (*over, Some((*comparison, *bound)))
            }
            StopRule::Value { .. } | StopRule::Unobserved { .. } => (Duration::ZERO, None),
        };
        let window = Window::new(over, slow);
        let (observed, beyond_since, gave_number) = (from, None, false);
        Self { condition, every, from, window, observed, beyond_since, gave_number, last: None }
    }

    /// Which condition it is.
    pub fn condition(&self) -> &StopCondition {
        &self.condition
    }

    /// Takes in an attempt that has ended. They may come in any order.
    pub fn take(&mut self, seen: Seen) {
        self.gave_number |= seen.value.is_some();
        match self.condition.rule {
            StopRule::Unobserved { of_value, .. } => {
                if seen.is_observation && (!of_value || seen.value.is_some()) {
                    self.observed = self.observed.max(seen.began + seen.took);
                }
            }
            _ => self.window.take(seen),
        }
    }

    /// Whether it is a condition on a number, and none was seen: it could not have been broken.
    pub fn never_saw_number(&self) -> bool {
        matches!(self.condition.rule, StopRule::Value { .. }) && !self.gave_number
    }

    /// Says why the run is to end, if it is: after any of the attempts that are new. `settled`: every
    /// attempt that began before this has been taken in.
    pub fn broken(&mut self, now: Duration, settled: Duration) -> Option<String> {
        if let StopRule::Unobserved { limit, of_value } = self.condition.rule {
            return self.blind(now, limit, of_value);
        }
        // One after the other: a look may come late, and after several that are no longer in the window
        // together.
        let mut new = self.window.settle(settled).into_iter();
        new.find_map(|seen| self.broken_by(seen))
    }

    /// As [`Guard::broken`], and only after the last attempt, also where that was taken in before: what was so before and
    /// has passed does not count.
    pub fn broken_now(&mut self, now: Duration, settled: Duration) -> Option<String> {
        if let StopRule::Unobserved { limit, of_value } = self.condition.rule {
            return self.blind(now, limit, of_value);
        }
        for seen in self.window.settle(settled) {
            self.last = self.broken_by(seen);
        }
        self.last.clone()
    }

    /// Whether it is broken right after an attempt, which comes after those before it.
    fn broken_by(&mut self, seen: Seen) -> Option<String> {
        let until = seen.began;
        match self.condition.rule {
            StopRule::Success { comparison, basis_points, over } => {
                self.window.push(seen);
                self.few(until, comparison, basis_points, over)
            }
            StopRule::Latency { quantile, comparison, bound, over } => {
                self.window.push(seen);
                self.slow(until, quantile, comparison, bound, over)
            }
            StopRule::Value { comparison, bound, lasting } => {
                self.beyond(seen, comparison, bound, lasting)
            }
            StopRule::Unobserved { .. } => None,
        }
    }

    fn blind(&self, now: Duration, limit: Duration, of_value: bool) -> Option<String> {
        let blind = now.saturating_sub(self.observed);
        (blind >= limit).then(|| {
            let what = if of_value { "gave no number" } else { "observed nothing" };
            let (name, limit) = (&self.condition.probe.value, units::duration(limit));
            format!("probe `{name}` {what} for {}; stop at {limit}", time(blind))
        })
    }

    fn beyond(
        &mut self,
        seen: Seen,
        comparison: Comparison,
        bound: f64,
        lasting: Duration,
    ) -> Option<String> {
        let value = seen.value?;
        if !comparison.holds(&value, &bound) {
            self.beyond_since = None;
            return None;
        }
        let since = *self.beyond_since.get_or_insert(seen.began);
        let lasted = seen.began.saturating_sub(since);
        (lasted >= lasting).then(|| {
            let lasted = if lasting.is_zero() {
                String::new()
            } else {
                format!(", beyond its bound for {}", time(lasted))
            };
            let (name, sign) = (&self.condition.probe.value, comparison.sign());
            format!("the value of probe `{name}` is {value}{lasted}; stop at {sign} {bound}")
        })
    }

    /// Attempts that would have been made in the window before the probe began. They count as good: a
    /// short look is no reason to end a run, and a long outage is noticed before the window is full.
    fn before(&self, until: Duration, over: Duration) -> u64 {
        let missing = (self.from + over).saturating_sub(until + MOMENT);
        let count = missing.as_nanos() / self.every.as_nanos().max(1);
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    fn few(
        &self,
        until: Duration,
        comparison: Comparison,
        basis_points: u32,
        over: Duration,
    ) -> Option<String> {
        let (attempts, good) = (self.window.attempts, self.window.good);
        let before = self.before(until, over);
        let share = u128::from(good + before) * 10_000;
        let bound = u128::from(basis_points) * u128::from(attempts + before);
        if attempts == 0 || !comparison.holds(&share, &bound) {
            return None;
        }
        let points = u32::try_from(good * 10_000 / attempts).unwrap_or(u32::MAX);
        let (name, share) = (&self.condition.probe.value, units::percent(points));
        let asked = format!("{} {}", comparison.sign(), units::percent(basis_points));
        let over = units::duration(over);
        Some(format!(
            "probe `{name}` succeeded {good} of {attempts} times ({share}) over {over}; stop at {asked}"
        ))
    }

    fn slow(
        &self,
        until: Duration,
        quantile: Quantile,
        comparison: Comparison,
        bound: Duration,
        over: Duration,
    ) -> Option<String> {
        let (good, slow) = (self.window.good, self.window.slow);
        let all = good + self.before(until, over);
        // By nearest rank, the quantile is beyond the bound if too few are within it.
        let within = u128::from(all - slow) * 1000;
        let is_beyond = slow > 0 && within < u128::from(quantile.per_mille) * u128::from(all);
        is_beyond.then(|| {
            let (name, of) = (&self.condition.probe.value, quantile.name);
            let found = time(self.window.latency(quantile.per_mille, all - good));
            let asked = format!("{} {}", comparison.sign(), units::duration(bound));
            let over = units::duration(over);
            format!(
                "the {of} of the latency of probe `{name}` is {found} over {over}; stop at {asked}"
            )
        })
    }
}

#[cfg(test)]
mod tests;
