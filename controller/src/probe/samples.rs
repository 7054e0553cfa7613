//! What a probe observed so far: its latest attempts, and what older ones came to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use faultline_probe::Sample;
use tokio::{sync::mpsc, time};

use super::{CONCURRENT_MAX, Fold, Times};
use crate::experiment::Probe;

/// How long attempts are kept whole: until what they are measured between is known for sure.
const KEPT: Duration = Duration::from_mins(2);

/// What a probe observed so far. Every time is counted from the beginning of the run.
#[derive(Debug, Clone)]
pub struct Samples {
    origin: Instant,
    attempts: Arc<Mutex<Attempts>>,
}

#[derive(Debug)]
struct Attempts {
    /// Those that have ended, in the order in which they began.
    recent: VecDeque<Sample>,
    /// When those began that have not ended.
    under_way: Vec<Duration>,
    /// What came of those before.
    fold: Fold,
    /// Who is handed every attempt as it ends.
    taps: Vec<mpsc::UnboundedSender<Sample>>,
}

impl Samples {
    /// Nothing yet, in a run that began at `origin`.
    pub fn new(probe: &Probe, origin: Instant) -> Self {
        let attempts = Attempts {
            recent: VecDeque::new(),
            under_way: Vec::new(),
            fold: Fold::new(probe),
            taps: Vec::new(),
        };
        Self { origin, attempts: Arc::new(Mutex::new(attempts)) }
    }

    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The attempts that have ended and began at this time or later, in the order in which they began.
    /// Those of the last two minutes are there; older ones may not be any more.
    pub fn since(&self, from: Duration) -> Vec<Sample> {
        let attempts = self.lock();
        let first = attempts.recent.partition_point(|sample| sample.began < from);
        attempts.recent.range(first..).cloned().collect()
    }

    /// All measures, of the attempts before which there is none that has not ended.
    pub fn measured(&self, times: &Times) -> Fold {
        let attempts = self.lock();
        let mut fold = attempts.fold.clone();
        attempts.settled(times).for_each(|sample| fold.push(sample, times));
        fold
    }

    /// When it was well again for good, as [`Fold::recovered`]; less work than all measures.
    pub fn recovered(&self, times: &Times) -> Option<Duration> {
        let attempts = self.lock();
        attempts.fold.recovered_with(attempts.settled(times), times)
    }

    /// Gives up the attempts that are too old to be kept whole, and takes them into the measures.
    pub fn settle_old(&self, times: &Times) {
        let mut attempts = self.lock();
        let oldest = self.now().saturating_sub(KEPT);
        attempts.give_up(oldest, times);
    }

    /// Every attempt that began before this has ended.
    pub fn settled_until(&self) -> Duration {
        self.lock().settled_until().unwrap_or_else(|| self.now())
    }

    /// Waits until every attempt that began before `time` has ended. Attempts end by their timeout.
    pub async fn settle(&self, time: Duration) {
        while self.settled_until() < time {
            time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every attempt that ends from now on, as it ends. One that began before
    /// [`Samples::settled_until`] has been handed over when that is asked.
    pub fn tap(&self) -> mpsc::UnboundedReceiver<Sample> {
        let (tap, attempts) = mpsc::unbounded_channel();
        self.lock().taps.push(tap);
        attempts
    }

    /// The latest attempt that has ended: the one that began last, since one that began before it
    /// and waited for its timeout says nothing new.
    pub fn latest(&self) -> Option<Sample> {
        self.lock().recent.back().cloned()
    }

    pub(super) fn begin(&self, began: Duration) {
        self.lock().under_way.push(began);
    }

    pub(super) fn end(&self, sample: Sample) {
        self.lock().end(sample);
    }

    /// A time, counted from the beginning of the run.
    pub(super) fn run_time(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }

    /// Takes in what is told from elsewhere: an attempt, and that those that began before `to` have all
    /// been told. Until now that was so `from` a time that was begun with [`Samples::begin`]. Returns `to`.
    pub(super) fn told(&self, sample: Option<Sample>, from: Duration, to: Duration) -> Duration {
        let mut attempts = self.lock();
        if let Some(at) = attempts.under_way.iter().position(|began| *began == from) {
            attempts.under_way.swap_remove(at);
        }
        if let Some(sample) = sample {
            attempts.end(sample);
        }
        attempts.under_way.push(to);
        to
    }

    fn lock(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempts {
    /// The latest attempts, up to the first that has not ended.
    fn settled(&self, times: &Times) -> impl Iterator<Item = &Sample> {
        let until = self.settled_until().into_iter().chain(times.ended).min();
        let counts = move |sample: &&Sample| until.is_none_or(|until| sample.began < until);
        self.recent.iter().take_while(counts)
    }

    fn settled_until(&self) -> Option<Duration> {
        self.under_way.iter().min().copied()
    }

    fn end(&mut self, sample: Sample) {
        if let Some(at) = self.under_way.iter().position(|began| *began == sample.began) {
            self.under_way.swap_remove(at);
        }
        self.taps.retain(|tap| tap.send(sample.clone()).is_ok());
        // Nearly always at the end: one that waited for its timeout goes before those that did not.
        let place = self.recent.partition_point(|other| other.began <= sample.began);
        self.recent.insert(place, sample);
    }

    fn give_up(&mut self, oldest: Duration, times: &Times) {
        let oldest = self.settled_until().map_or(oldest, |settled| settled.min(oldest));
        while self.recent.front().is_some_and(|sample| sample.began < oldest) {
            if let Some(sample) = self.recent.pop_front() {
                self.fold.push(&sample, times);
            }
        }
        if self.recent.capacity() > self.recent.len() * 4 + CONCURRENT_MAX {
            self.recent.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use faultline_probe::{Failure, FailureKind};

    use super::{super::fold::tests::probe, *};

    fn sample(i: u64) -> Sample {
        let (every, late) = (Duration::from_millis(10), i % 1000 < 30);
        let failure = late.then(|| Failure::new(FailureKind::Timeout, format!("late {i}")));
        // Those that failed end long after those that began later.
        let took = if late { every * 100 } else { every / 10 };
        Sample {
            uncertainty: Duration::ZERO,
            began: every * u32::try_from(i).expect("few"),
            took,
            failure,
            value: None,
        }
    }

    #[test]
    fn an_hour_is_kept_in_no_more_room_than_some_minutes_and_nothing_is_lost() {
        let samples = Samples::new(&probe(1000), Instant::now());
        let mut attempts = samples.lock();
        let times = Times { injected: Some(Duration::ZERO), ..Times::default() };
        let mut ending: VecDeque<Sample> = VecDeque::new();
        let mut most = 0;
        for i in 0..360_000 {
            let new = sample(i);
            attempts.under_way.push(new.began);
            if new.is_good() {
                attempts.end(new.clone());
            } else {
                ending.push_back(new.clone());
            }
            while ending.front().is_some_and(|late| late.ended() <= new.began) {
                let late = ending.pop_front().expect("there is one");
                attempts.end(late);
            }
            if i % 10 == 0 {
                attempts.give_up(new.began.saturating_sub(KEPT), &times);
                most = most.max(attempts.recent.len());
            }
        }
        for late in ending {
            attempts.end(late);
        }
        assert!(most <= 12_300, "two minutes at 100 per second, and what is waited for: {most}");
        assert!(attempts.recent.capacity() <= most * 4 + CONCURRENT_MAX);
        drop(attempts);
        let fold = samples.measured(&times);
        let share = fold.since_injection();
        assert_eq!((share.attempts, share.successes), (360_000, 360_000 - 360 * 30));
        let downtime = fold.downtime(Duration::from_hours(1));
        assert_eq!(downtime.outages, 360, "none is torn apart by what ended late");
        assert_eq!(downtime.unobserved, Duration::ZERO);
    }

    #[test]
    fn what_has_not_ended_holds_up_what_began_after_it() {
        let samples = Samples::new(&probe(1000), Instant::now());
        let began = Duration::from_millis;
        samples.begin(began(10));
        let good = |at| Sample {
            uncertainty: Duration::ZERO,
            began: began(at),
            took: began(1),
            failure: None,
            value: None,
        };
        samples.end(good(0));
        samples.end(good(20));
        let times = Times { injected: Some(Duration::ZERO), ..Times::default() };
        assert_eq!(samples.settled_until(), began(10));
        assert_eq!(samples.measured(&times).since_injection().attempts, 1);
        samples.lock().give_up(began(1000), &times);
        assert_eq!(samples.since(Duration::ZERO).len(), 1, "it is kept until then");
        samples.end(Sample { began: began(10), ..good(0) });
        assert_eq!(samples.measured(&times).since_injection().attempts, 3);
        let ended = Times { ended: Some(began(15)), ..times };
        assert_eq!(
            samples.measured(&ended).since_injection().attempts,
            2,
            "later ones do not count"
        );
    }
}
