//! Outages, from attempts in the order in which they began: each with what it may be off by.
//!
//! ```text
//!        answered        refused, or not answered in time           answered
//!   ──────●──────┬─────────✗─────────✗─────────✗──────────┬────────────●──────►
//!         │      A         │                   │          B            │
//!      earliest          began            not before                ended
//! ```
//! The truth, from A to B, is not seen. Known is: an attempt that was answered shows that it was well
//! some time between its begin and the answer; one that failed shows that it was not, some time between
//! its begin and when an answer would have come. So an outage begins after the last good attempt did, and
//! ends between the begin of the last attempt that failed and the first answer after it. An attempt that
//! was under way when the outage began, one that was answered only because the outage ended, and attempts
//! that were made late are all within these bounds. Times of another machine's clock may be off by what is known of
//! it: every bound is that much wider.

use std::{collections::VecDeque, time::Duration};

use faultline_probe::Sample;

/// Answers by which it is known how long one usually takes.
const USUAL_OF: usize = 64;

/// One outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Not before this: the last good attempt began.
    pub earliest: Duration,
    /// When its first failing attempt began.
    pub began: Duration,
    /// It had begun by then.
    pub latest: Duration,
    /// It had not ended by then: the last failing attempt began.
    pub not_before: Duration,
    /// When it ended, as far as can be said: with the first attempt that was answered again.
    pub ended: Duration,
    /// It had ended by then: the first answer came.
    pub answered: Duration,
    /// It had not ended when the run did.
    pub ongoing: bool,
}

impl Outage {
    /// How long it was, as measured. Never zero.
    pub fn duration(&self) -> Duration {
        self.ended.saturating_sub(self.began).max(Duration::from_micros(1))
    }

    /// The truth is within this of [`Self::duration`].
    pub fn uncertainty(&self) -> Duration {
        let shorter =
            self.latest.saturating_sub(self.began) + self.ended.saturating_sub(self.not_before);
        let longer =
            self.began.saturating_sub(self.earliest) + self.answered.saturating_sub(self.ended);
        shorter.min(self.duration()).max(longer)
    }

    /// The union with one that overlaps it: down is when either was.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            earliest: self.earliest.min(other.earliest),
            began: self.began.min(other.began),
            latest: self.latest.min(other.latest),
            not_before: self.not_before.max(other.not_before),
            ended: self.ended.max(other.ended),
            answered: self.answered.max(other.answered),
            ongoing: self.ongoing || other.ongoing,
        }
    }
}

/// Finds outages.
#[derive(Debug, Clone, Default)]
pub(super) struct Finder {
    /// When the latest good attempt began.
    good: Option<Duration>,
    /// How long the latest answers took.
    usual: VecDeque<Duration>,
    /// How far the times of the latest attempt may be off.
    off: Duration,
    open: Option<Open>,
}

/// An outage that has not ended, as far as is known.
#[derive(Debug, Clone)]
struct Open {
    earliest: Duration,
    began: Duration,
    latest: Duration,
    /// How far times of its attempts may be off, at most.
    off: Duration,
    /// When its last failing attempt began.
    failed: Duration,
    /// How long an answer takes at most, when all is well.
    usual: Duration,
    /// When the first attempt after that began which was answered, and when the first answer came.
    well: Option<(Duration, Duration)>,
}

impl Finder {
    /// Takes in an attempt that began no earlier than all before it. Returns an outage that has ended.
    pub(super) fn push(&mut self, sample: &Sample) -> Option<Outage> {
        let off = std::mem::replace(&mut self.off, sample.uncertainty).max(sample.uncertainty);
        if let Some(open) = &mut self.open {
            open.off = open.off.max(off);
        }
        // One that began before an answer came may yet have met the outage.
        let over = |open: &mut Open| open.well.is_some_and(|(_, answer)| sample.began >= answer);
        let ended = self.open.take_if(over).and_then(Open::end);
        if sample.is_good() {
            self.good(sample);
        } else {
            self.bad(sample, off);
        }
        ended
    }

    fn good(&mut self, sample: &Sample) {
        self.good = Some(sample.began);
        let answer = sample.ended();
        if let Some(open) = &mut self.open {
            let (began, earlier) = open.well.unwrap_or((sample.began, answer));
            open.well = Some((began, earlier.min(answer)));
            // What was answered because the outage ended says nothing of how long answers take.
            return;
        }
        if self.usual.len() == USUAL_OF {
            self.usual.pop_front();
        }
        self.usual.push_back(sample.took);
    }

    fn bad(&mut self, sample: &Sample, off: Duration) {
        if let Some(open) = &mut self.open {
            open.failed = sample.began;
            open.well = None;
            return;
        }
        // Without an answer ever seen, as long as was waited for one.
        let usual = self.usual.iter().max().copied().unwrap_or(sample.took);
        self.open = Some(Open {
            earliest: self.good.unwrap_or(sample.began),
            began: sample.began,
            latest: sample.began + sample.took.min(usual),
            off,
            failed: sample.began,
            usual,
            well: None,
        });
    }

    /// Whether the latest attempts failed.
    pub(super) fn is_failing(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.well.is_none())
    }

    /// When the first attempt after the last failing one began, while that is not known to be all.
    pub(super) fn well_since(&self) -> Option<Duration> {
        Some(self.open.as_ref()?.well?.0)
    }

    /// The last outage, if there is one that has not been returned; what has not ended ends here.
    pub(super) fn finish(mut self, until: Duration) -> Option<Outage> {
        let open = self.open.take()?;
        if open.well.is_some() {
            return open.end();
        }
        let ended = until.max(open.failed);
        Some(Outage { ongoing: true, ..open.outage(ended, ended) })
    }
}

/// Outages in order, with what overlaps put together: how long any of several probes failed.
pub fn union(mut outages: Vec<Outage>) -> Vec<Outage> {
    outages.sort_by_key(|outage| outage.began);
    let mut result: Vec<Outage> = Vec::new();
    for outage in outages {
        match result.last_mut() {
            Some(last) if outage.began <= last.ended => *last = last.union(&outage),
            _ => result.push(outage),
        }
    }
    result
}

impl Open {
    fn end(self) -> Option<Outage> {
        let (began, answer) = self.well?;
        let ended = began.max(answer.saturating_sub(self.usual));
        Some(self.outage(ended, answer))
    }

    fn outage(&self, ended: Duration, answered: Duration) -> Outage {
        Outage {
            earliest: self.earliest.saturating_sub(self.off),
            began: self.began,
            latest: self.latest + self.off,
            not_before: self.failed.saturating_sub(self.off),
            ended,
            answered: answered + self.off,
            ongoing: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use faultline_probe::{Failure, FailureKind};

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Attempts: when each began, how long it took, and whether it failed.
    fn outages(attempts: &[(u64, u64, bool)], until: u64) -> Vec<Outage> {
        told_by(Duration::ZERO, attempts, until)
    }

    /// The same, by a clock that is known so well.
    fn told_by(off: Duration, attempts: &[(u64, u64, bool)], until: u64) -> Vec<Outage> {
        let mut finder = Finder::default();
        let mut found = Vec::new();
        for (began, took, failed) in attempts {
            let failure = failed.then(|| Failure::new(FailureKind::Timeout, "late"));
            let (began, took) = (ms(*began), ms(*took));
            let sample = Sample { began, took, uncertainty: off, failure, value: None };
            found.extend(finder.push(&sample));
        }
        found.extend(finder.finish(ms(until)));
        found
    }

    #[test]
    fn what_is_told_by_another_clock_is_known_as_well_as_that() {
        let quick = [(0, 1, false), (10, 1, true), (20, 1, true), (30, 1, false), (40, 1, false)];
        let (ours, theirs) = (outages(&quick, 50)[0], told_by(ms(3), &quick, 50)[0]);
        assert_eq!((ours.duration(), theirs.duration()), (ms(20), ms(20)));
        // Either end may be off by it.
        assert_eq!(theirs.uncertainty(), ours.uncertainty() + ms(6));
        // Also of one that goes on.
        let open = [(0, 1, false), (10, 1, true), (45, 1, true)];
        let (ours, theirs) = (outages(&open, 50)[0], told_by(ms(3), &open, 50)[0]);
        assert!(theirs.ongoing);
        // Nothing began before the run did.
        assert_eq!(theirs.uncertainty(), ours.uncertainty() + ms(3));
    }

    #[test]
    fn an_outage_is_between_the_attempts_that_were_answered() {
        let quick = [(0, 1, false), (10, 1, true), (20, 1, true), (30, 1, false), (40, 1, false)];
        let found = outages(&quick, 50);
        assert_eq!((found.len(), found[0].duration()), (1, ms(20)));
        // From (0, 11) to (20, 31): 9 to 31 ms, said to be 20 ± 11.
        assert_eq!(found[0].uncertainty(), ms(11));
        assert!(outages(&[(0, 1, false), (10, 1, false)], 50).is_empty());
        let open = outages(&[(0, 1, false), (10, 1, true)], 50);
        assert!(open[0].ongoing && open[0].duration() == ms(40));
    }

    #[test]
    fn one_failing_attempt_is_an_outage_that_may_have_been_as_short_as_nothing() {
        let found = outages(&[(0, 1, false), (10, 1, true), (20, 1, false)], 50);
        assert_eq!((found[0].duration(), found[0].uncertainty()), (ms(10), ms(11)));
    }

    #[test]
    fn what_waited_for_its_timeout_is_not_late_by_that() {
        // Answers take 2 ms, and nothing is waited for longer than 100 ms.
        let mut attempts: Vec<(u64, u64, bool)> = (0..5).map(|i| (i * 10, 2, false)).collect();
        attempts.extend((5..25).map(|i| (i * 10, 100, true)));
        attempts.extend((25..40).map(|i| (i * 10, 2, false)));
        let found = outages(&attempts, 400);
        assert_eq!((found.len(), found[0].duration()), (1, ms(200)));
        assert_eq!(found[0].uncertainty(), ms(12), "the spacing, and an answer's usual time");
    }

    #[test]
    fn what_was_answered_because_the_outage_ended_does_not_end_it_earlier() {
        // Silent from 95 to 500; what waits is answered then, or given up after 300 ms.
        let attempts: Vec<(u64, u64, bool)> = (0..60)
            .map(|i| i * 10)
            .map(|at| match at {
                100..200 => (at, 300, true),
                200..500 => (at, 500 - at, false),
                _ => (at, 1, false),
            })
            .collect();
        let found = outages(&attempts, 700);
        assert_eq!(found.len(), 1, "{found:?}");
        let (measured, truth) = (found[0].duration(), ms(405));
        assert!(measured.abs_diff(truth) <= ms(10), "{measured:?}");
        assert!(measured.abs_diff(truth) <= found[0].uncertainty());
    }

    #[test]
    fn outages_of_several_probes_are_put_together() {
        let quick = |from: u64, to: u64| {
            let all = (0..20).map(|i| i * 10);
            all.map(|at| (at, 1, (from..to).contains(&at))).collect::<Vec<_>>()
        };
        let three = [quick(20, 50), quick(40, 80), quick(120, 140)];
        let all = three.iter().flat_map(|attempts| outages(attempts, 200)).collect();
        let union = union(all);
        let durations: Vec<Duration> = union.iter().map(Outage::duration).collect();
        assert_eq!(durations, [ms(60), ms(20)]);
    }
}
