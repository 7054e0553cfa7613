//! All measures of one probe, taken in attempt by attempt and kept in a size that does not depend on
//! how many there were. What is recorded can be measured again by the same code.

mod share;
#[cfg(test)]
pub(super) mod tests;

use std::{collections::BTreeMap, time::Duration};

use faultline_probe::{Failure, FailureKind, Sample};

pub use share::Share;

use super::{
    latency::Latency,
    outage::{Finder, Outage},
    series::Series,
    times::{Times, Window},
    value::{Values, check},
};
use crate::experiment::{Probe, Recovery, ValueRule};

/// Outages that are kept one by one; of more than that only the sums are.
const OUTAGES_MAX: usize = 1024;
/// Different texts of failures that are counted apart.
const TEXTS_MAX: usize = 32;
/// Characters that are kept of such a text.
const TEXT_CHARS_MAX: usize = 200;

/// What one probe has observed.
#[derive(Debug, Clone)]
pub struct Fold {
    every: Duration,
    /// How far times of attempts may be off, at most.
    off: Duration,
    recovery: Option<Recovery>,
    /// What values must be while faults are in effect.
    during: Option<ValueRule>,
    windows: [InWindow; 3],
    /// How long attempts took that failed.
    failing: Latency,
    series: Series,
    texts: BTreeMap<String, u64>,
    last_failure: Option<Failure>,
    /// When the last attempt began that was observed.
    last_began: Option<Duration>,
    /// When the first one did since the last that was not; `None` where that is the last of all.
    seen_since: Option<Duration>,
    /// Why the last one that was not observed was not.
    unseen: Option<String>,
    /// An attempt after the last step succeeded: what a fault did that is over at once is over, too.
    is_after: bool,
    finder: Finder,
    outages: Vec<Outage>,
    /// Of those that are not in `outages`.
    unlisted: Downtime,
    unobserved: Duration,
    values: Values,
    failed: Since<Option<Duration>>,
    /// Whether the last attempt that was over before the first injection failed.
    was_failing: bool,
    recovering: Since<Recovering>,
}

/// What was observed in one window of the run.
#[derive(Debug, Clone, Default)]
pub struct InWindow {
    /// How many attempts began in it, and succeeded.
    pub share: Share,
    /// How many failed, by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// How many say nothing of the system, by why; they neither succeeded nor failed.
    pub unobserved: BTreeMap<FailureKind, u64>,
    /// How long those took that succeeded.
    pub latency: Latency,
}

/// For how long a probe failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Downtime {
    /// The sum of its outages.
    pub total: Duration,
    /// The truth is within this of `total`.
    pub uncertainty: Duration,
    /// How many there were.
    pub outages: u64,
    /// The longest of them.
    pub longest: Duration,
    /// The last one has not ended.
    pub ongoing: bool,
    /// Time in which nothing was observed that should have been: part of `uncertainty`.
    pub unobserved: Duration,
}

/// What is looked for from a point in time on: looked for anew when that moves.
#[derive(Debug, Clone, Default)]
struct Since<T> {
    from: Option<Duration>,
    state: T,
}

#[derive(Debug, Clone, Default)]
struct Recovering {
    well_since: Option<Duration>,
    /// When the last attempt began that does not show that it is well.
    unwell: Option<Duration>,
    recovered: Option<Duration>,
    /// Why the last attempt does not count as well, although it succeeded.
    wrong: Option<String>,
}

impl Downtime {
    fn add(&mut self, outage: &Outage) {
        self.total += outage.duration();
        self.uncertainty += outage.uncertainty();
        self.outages += 1;
        self.longest = self.longest.max(outage.duration());
        self.ongoing |= outage.ongoing;
    }

    /// Of outages that do not overlap.
    pub fn of(outages: &[Outage]) -> Self {
        let mut downtime = Self::default();
        for outage in outages {
            downtime.add(outage);
        }
        downtime
    }
}

impl Fold {
    /// Of a probe that has observed nothing yet.
    pub fn new(probe: &Probe) -> Self {
        Self {
            every: probe.every,
            off: Duration::ZERO,
            recovery: probe.recovery.clone(),
            during: probe.during.as_ref().and_then(|during| during.value.clone()),
            windows: Default::default(),
            failing: Latency::default(),
            series: Series::default(),
            texts: BTreeMap::new(),
            last_failure: None,
            last_began: None,
            seen_since: None,
            unseen: None,
            is_after: false,
            finder: Finder::default(),
            outages: Vec::new(),
            unlisted: Downtime::default(),
            unobserved: Duration::ZERO,
            values: Values::default(),
            failed: Since::default(),
            was_failing: false,
            recovering: Since::default(),
        }
    }

    /// Takes in an attempt that began no earlier than all before it.
    pub fn push(&mut self, sample: &Sample, times: &Times) {
        if !sample.is_observation() {
            self.miss(sample, times);
            return;
        }
        self.off = self.off.max(sample.uncertainty);
        if let Some(last) = self.last_began {
            // Where outages are uncertain anyway, too: there may have been an end and a new beginning.
            let gap = sample.began.saturating_sub(last);
            if gap > self.every * 2 {
                self.unobserved += gap.saturating_sub(self.every);
            }
        }
        let window = self.window_of(sample, times);
        if let Some(window) = window {
            self.windows[window.index()].push(sample);
        }
        self.series.record(sample.began, sample.is_good().then_some(sample.took));
        if let Some(failure) = &sample.failure {
            self.failing.record(sample.took);
            self.count(failure);
            self.last_failure = Some(failure.clone());
        }
        self.observe(sample, window, times);
        self.detect(sample, times.injected);
        self.recover(sample, times.recover_from);
        if let Some(outage) = self.finder.push(sample) {
            self.list(outage);
        }
        self.last_began = Some(sample.began);
        self.seen_since.get_or_insert(sample.began);
    }

    /// Takes in an attempt that says nothing of the system.
    fn miss(&mut self, sample: &Sample, times: &Times) {
        if let Some(window) = self.window_of(sample, times) {
            self.windows[window.index()].push(sample);
        }
        self.recover(sample, times.recover_from);
        self.unseen = sample.failure.as_ref().map(|failure| failure.text.clone());
        // From here on nothing is known, if nothing was before.
        self.last_began.get_or_insert(sample.began);
        self.seen_since = None;
    }

    /// What a fault that is over at once did belongs to it, for as long as it goes on.
    fn window_of(&mut self, sample: &Sample, times: &Times) -> Option<Window> {
        let window = times.window(sample.began)?;
        if window == Window::After && times.ends_with_instant {
            self.is_after |= sample.is_good();
            return Some(if self.is_after { Window::After } else { Window::During });
        }
        Some(window)
    }

    fn count(&mut self, failure: &Failure) {
        let text: String = failure.text.chars().take(TEXT_CHARS_MAX).collect();
        if self.texts.len() < TEXTS_MAX || self.texts.contains_key(&text) {
            *self.texts.entry(text).or_default() += 1;
        }
    }

    fn list(&mut self, outage: Outage) {
        if self.outages.len() < OUTAGES_MAX {
            self.outages.push(outage);
        } else {
            self.unlisted.add(&outage);
        }
    }

    /// Before what follows, which compares with it.
    fn observe(&mut self, sample: &Sample, window: Option<Window>, times: &Times) {
        let Some(value) = sample.value.as_ref().filter(|_| sample.is_good()) else { return };
        let values = &mut self.values;
        if times.injected.is_none_or(|injected| sample.began < injected) {
            values.before = Some(value.clone());
        }
        if window == Some(Window::During) {
            if let Some(rule) = &self.during
                && values.wrong_during.is_none()
                && let Err(why) = check(rule, Some(value), values.before.as_deref())
            {
                values.wrong_during = Some(why);
            }
            values.during = Some(value.clone());
        }
        if times.recover_from.is_some_and(|from| sample.began >= from) {
            values.after = Some(value.clone());
        }
    }

    fn detect(&mut self, sample: &Sample, injected: Option<Duration>) {
        if self.failed.from != injected {
            self.failed = Since { from: injected, state: None };
        }
        if injected.is_none_or(|injected| sample.began + sample.took <= injected) {
            self.was_failing = !sample.is_good();
        }
        if !sample.is_good() && injected.is_some_and(|injected| sample.began >= injected) {
            self.failed.state.get_or_insert(sample.began);
        }
    }

    fn recover(&mut self, sample: &Sample, from: Option<Duration>) {
        self.recovering = self.recovering_from(from);
        self.recovering.push(sample, self.recovery.as_ref(), self.values.before.as_deref());
    }

    fn recovering_from(&self, from: Option<Duration>) -> Since<Recovering> {
        if self.recovering.from == from {
            self.recovering.clone()
        } else {
            Since { from, state: self.well_from(from) }
        }
    }

    /// As [`Self::recovered`], after these attempts as well.
    pub(super) fn recovered_with<'s>(
        &self,
        samples: impl Iterator<Item = &'s Sample>,
        times: &Times,
    ) -> Option<Duration> {
        let mut recovering = self.recovering_from(times.recover_from);
        let mut before = self.values.before.as_deref();
        for sample in samples {
            if sample.is_good() && times.injected.is_none_or(|injected| sample.began < injected) {
                before = sample.value.as_deref().or(before);
            }
            recovering.push(sample, self.recovery.as_ref(), before);
        }
        recovering.state.recovered
    }

    /// What was taken in already of the time from `from` on, where that is learnt late.
    fn well_from(&self, from: Option<Duration>) -> Recovering {
        // What values were then is not known any more.
        let has_value = self.recovery.as_ref().is_some_and(|recovery| recovery.value.is_some());
        let is_past = |from: &Duration| self.last_began.is_some_and(|last| last >= *from);
        let from = from.filter(is_past);
        if has_value {
            return Recovering { unwell: from, ..Recovering::default() };
        }
        let unwell = from.filter(|from| self.seen_since.is_none_or(|since| since > *from));
        let from = from.filter(|_| !self.finder.is_failing());
        // Whether it was well where nothing was observed is not known.
        let well_since = from.zip(self.seen_since).map(|(from, seen_since)| {
            let began = self.finder.well_since().or(self.outages.last().map(|last| last.ended));
            began.map_or(from, |began| began.max(from)).max(seen_since)
        });
        Recovering { well_since, unwell, recovered: None, wrong: None }
    }

    /// What was observed in a window.
    pub fn window(&self, window: Window) -> &InWindow {
        &self.windows[window.index()]
    }

    /// What was observed from the first injection on.
    pub fn since_injection(&self) -> Share {
        let [_, during, after] = &self.windows;
        Share {
            attempts: during.share.attempts + after.share.attempts,
            successes: during.share.successes + after.share.successes,
            unobserved: during.share.unobserved + after.share.unobserved,
        }
    }

    /// How long attempts took that failed.
    pub fn failing(&self) -> &Latency {
        &self.failing
    }

    /// What was observed, over time.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Outages, in order; what has not ended ends at `until`. If there were very many, the first ones.
    pub fn outages(&self, until: Duration) -> Vec<Outage> {
        let last = self.finder.clone().finish(until);
        self.outages.iter().copied().chain(last).collect()
    }

    /// For how long it failed in all; what has not ended ends at `until`.
    pub fn downtime(&self, until: Duration) -> Downtime {
        let mut downtime = self.unlisted;
        for outage in self.outages(until) {
            downtime.add(&outage);
        }
        // Nothing was looked at after the last attempt either.
        let silent = self.last_began.map_or(Duration::ZERO, |last| until.saturating_sub(last));
        let silent =
            if silent > self.every * 2 && !downtime.ongoing { silent } else { Duration::ZERO };
        downtime.unobserved = self.unobserved + silent;
        downtime.uncertainty += downtime.unobserved;
        downtime
    }

    /// Sums of outages that are not among [`Self::outages`].
    pub fn unlisted(&self) -> Downtime {
        self.unlisted
    }

    /// When the first attempt that failed began, from the first injection on. `None` where the probe
    /// failed already right before it: there was nothing to detect.
    pub fn detected(&self) -> Option<Duration> {
        self.failed.state.filter(|_| !self.was_failing)
    }

    /// Whether an attempt failed from the first injection on.
    pub fn has_failed(&self) -> bool {
        self.failed.state.is_some()
    }

    /// When it was well again for good: the beginning of the first attempt from which on every attempt
    /// succeeded for as long as is asked. `None` while that cannot be said, and where nothing is asked.
    pub fn recovered(&self) -> Option<Duration> {
        self.recovering.state.recovered
    }

    /// How much earlier than [`Self::recovered`] says it may have been well again, at most.
    pub fn recovery_uncertainty(&self) -> Duration {
        let recovering = &self.recovering;
        let unwell = recovering.state.unwell.or(recovering.from);
        let earlier = recovering.state.recovered.zip(unwell);
        let earlier = earlier.map(|(recovered, unwell)| recovered.saturating_sub(unwell));
        // The end of the fault is told by another clock.
        earlier.unwrap_or_default().max(self.every) + self.off
    }

    /// What the truth is within of the time at which a failure was first detected.
    pub fn detection_uncertainty(&self) -> Duration {
        self.every + self.off
    }

    /// Whether anything was not as it has to be: an attempt failed since the first injection, or one did
    /// not show that the system was well again when it had to recover.
    pub fn was_unwell(&self) -> bool {
        self.has_failed() || self.recovering.state.unwell.is_some()
    }

    /// The last values that it observed.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Why the last attempt, which succeeded, does not count as well: its value is not as is asked.
    pub fn wrong_value(&self) -> Option<&str> {
        self.recovering.state.wrong.as_deref()
    }

    /// The commonest failure, where there was one.
    pub fn commonest_failure(&self) -> Option<&str> {
        let (text, _) = self.texts.iter().max_by_key(|(_, count)| **count)?;
        Some(text)
    }

    /// Why the last attempt that says nothing of the system does not.
    pub fn unseen(&self) -> Option<&str> {
        self.unseen.as_deref()
    }

    /// The last failure.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }
}

impl Since<Recovering> {
    fn push(&mut self, sample: &Sample, recovery: Option<&Recovery>, before: Option<&str>) {
        let (Some(from), Some(recovery)) = (self.from, recovery) else { return };
        if sample.began < from || self.state.recovered.is_some() {
            return;
        }
        let value = recovery.value.as_ref().filter(|_| sample.is_good());
        let wrong = value.and_then(|rule| check(rule, sample.value.as_deref(), before).err());
        let is_well = sample.is_good() && wrong.is_none();
        self.state.wrong = wrong;
        if !is_well {
            self.state.well_since = None;
            self.state.unwell = Some(sample.began);
            return;
        }
        let since = *self.state.well_since.get_or_insert(sample.began);
        if sample.began.saturating_sub(since) >= recovery.stable_for {
            self.state.recovered = Some(since);
        }
    }
}

impl InWindow {
    fn push(&mut self, sample: &Sample) {
        if let Some(failure) = sample.failure.as_ref().filter(|_| !sample.is_observation()) {
            self.share.unobserved += 1;
            *self.unobserved.entry(failure.kind).or_default() += 1;
            return;
        }
        self.share.attempts += 1;
        match &sample.failure {
            None => {
                self.share.successes += 1;
                self.latency.record(sample.took);
            }
            Some(failure) => *self.failures.entry(failure.kind).or_default() += 1,
        }
    }
}
