//! When a run is to end because of what a probe sees. Pure: it is told what was seen and what time it
//! is, in run time. What is done then is the run's business.

mod window;

use std::time::Duration;

use faultline_proto::units;

use self::window::Window;
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
    /// The number that it gave.
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
    /// Since when the value has been beyond its bound, for how long, and what it was last.
    beyond: Option<(Duration, Duration, f64)>,
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
        Self { condition, every, from, window, observed: from, beyond: None }
    }

    /// Which condition it is.
    pub fn condition(&self) -> &StopCondition {
        &self.condition
    }

    /// Takes in an attempt that has ended. They may come in any order.
    pub fn take(&mut self, seen: Seen) {
        let of_value = matches!(self.condition.rule, StopRule::Unobserved { of_value: true, .. });
        if seen.is_observation && (!of_value || seen.value.is_some()) {
            self.observed = self.observed.max(seen.began + seen.took);
        }
        self.window.take(seen);
    }

    /// Says why the run is to end, if it is. `settled`: every attempt that began before this has been
    /// taken in.
    pub fn broken(&mut self, now: Duration, settled: Duration) -> Option<String> {
        match self.condition.rule.clone() {
            StopRule::Success { comparison, basis_points, over } => {
                self.window.settle(settled, |_| ());
                self.few(settled, comparison, basis_points, over)
            }
            StopRule::Latency { quantile, comparison, bound, over } => {
                self.window.settle(settled, |_| ());
                self.slow(settled, quantile, comparison, bound, over)
            }
            StopRule::Value { comparison, bound, lasting } => {
                let beyond = &mut self.beyond;
                self.window.settle(settled, |seen| {
                    let Some(value) = seen.value else { return };
                    *beyond = comparison.holds(&value, &bound).then(|| {
                        let since = beyond.map_or(seen.began, |(since, ..)| since);
                        (since, seen.began.saturating_sub(since), value)
                    });
                });
                let (_, lasted, value) = self.beyond.filter(|(_, lasted, _)| *lasted >= lasting)?;
                let lasted = if lasting.is_zero() {
                    String::new()
                } else {
                    format!(", beyond its bound for {}", time(lasted))
                };
                let (name, sign) = (&self.condition.probe.value, comparison.sign());
                Some(format!(
                    "the value of probe `{name}` is {value}{lasted}; stop at {sign} {bound}"
                ))
            }
            StopRule::Unobserved { limit, of_value } => {
                let blind = now.saturating_sub(self.observed);
                (blind >= limit).then(|| {
                    let what = if of_value { "gave no number" } else { "observed nothing" };
                    let (name, limit) = (&self.condition.probe.value, units::duration(limit));
                    format!("probe `{name}` {what} for {}; stop at {limit}", time(blind))
                })
            }
        }
    }

    /// Attempts that would have been made in the window before the probe began. They count as good: a
    /// short look is no reason to end a run, and a long outage is noticed before the window is full.
    fn before(&self, settled: Duration, over: Duration) -> u64 {
        let missing = (self.from + over).saturating_sub(settled);
        let count = missing.as_nanos() / self.every.as_nanos().max(1);
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    fn few(
        &self,
        settled: Duration,
        comparison: Comparison,
        basis_points: u32,
        over: Duration,
    ) -> Option<String> {
        let (attempts, good) = (self.window.attempts, self.window.good);
        let before = self.before(settled, over);
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
        settled: Duration,
        quantile: Quantile,
        comparison: Comparison,
        bound: Duration,
        over: Duration,
    ) -> Option<String> {
        let (good, slow) = (self.window.good, self.window.slow);
        let all = good + self.before(settled, over);
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
