//! Probes: dense observation of the system under test on a monotonic clock.
//!
//! The schedule is open: an attempt begins when its time has come, whether or not the one before it
//! has been answered, so that a slow answer does not hide an outage. An attempt counts for the time
//! it began. What was observed is kept whole; measures are computed from it afterwards.

mod attempt;
mod measure;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use faultline_probe::{Failure, FailureKind, Sample};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time,
};

pub use attempt::{CurrentPod, Target};
pub use measure::{Downtime, Share, downtime, first_failure_after, recovered_at, share};

use crate::experiment::Probe;

/// Attempts of one probe that may be under way at once.
const CONCURRENT_MAX: usize = 256;

/// What a probe observed so far. Every time is counted from the beginning of the run.
#[derive(Debug, Clone)]
pub struct Samples {
    origin: Instant,
    attempts: Arc<Mutex<Attempts>>,
}

#[derive(Debug, Default)]
struct Attempts {
    ended: Vec<Sample>,
    /// When those attempts began that have not ended.
    under_way: Vec<Duration>,
    /// Who is handed every attempt as it ends.
    taps: Vec<mpsc::UnboundedSender<Sample>>,
}

impl Samples {
    /// Nothing yet, in a run that began at `origin`.
    pub fn new(origin: Instant) -> Self {
        Self { origin, attempts: Arc::default() }
    }

    /// The attempts that have ended, in the order in which they began.
    pub fn snapshot(&self) -> Vec<Sample> {
        let mut samples = self.lock().ended.clone();
        samples.sort_by_key(|sample| sample.began);
        samples
    }

    /// Every attempt that began before this has ended.
    pub fn settled_until(&self) -> Duration {
        let under_way = self.lock().under_way.iter().min().copied();
        under_way.unwrap_or_else(|| self.origin.elapsed())
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
        let attempts = self.lock();
        let recent = attempts.ended.iter().rev().take(CONCURRENT_MAX);
        recent.max_by_key(|sample| sample.began).cloned()
    }

    fn begin(&self, began: Duration) {
        self.lock().under_way.push(began);
    }

    fn end(&self, sample: Sample) {
        let mut attempts = self.lock();
        if let Some(at) = attempts.under_way.iter().position(|began| *began == sample.began) {
            attempts.under_way.swap_remove(at);
        }
        attempts.taps.retain(|tap| tap.send(sample.clone()).is_ok());
        attempts.ended.push(sample);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A probe that is running. It stops when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub probe: Probe,
    /// What it observed.
    pub samples: Samples,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts a probe in a run that began at `origin`.
    pub fn start(probe: Probe, target: Target, origin: Instant) -> Self {
        let samples = Samples::new(origin);
        let schedule = schedule(probe.clone(), Arc::new(target), samples.clone());
        Self { probe, samples, task: tokio::spawn(schedule) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn schedule(probe: Probe, target: Arc<Target>, samples: Samples) {
    let room = Arc::new(Semaphore::new(CONCURRENT_MAX));
    let mut ticks = time::interval(probe.every);
    // Late attempts are made up for at once: an outage must not be missed because we were busy.
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let began = samples.origin.elapsed();
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            let text = format!("{CONCURRENT_MAX} attempts wait for an answer already");
            let failure = Some(Failure::new(FailureKind::Other, text));
            samples.end(Sample { began, took: Duration::ZERO, failure, value: None });
            continue;
        };
        samples.begin(began);
        let (target, samples, timeout) = (Arc::clone(&target), samples.clone(), probe.timeout);
        tokio::spawn(async move {
            let outcome = time::timeout(timeout, target.attempt(timeout)).await;
            let late = || {
                let limit = faultline_proto::units::duration(timeout);
                Failure::new(FailureKind::Timeout, format!("no answer within {limit}"))
            };
            let (failure, value) = match outcome.unwrap_or_else(|_| Err(late())) {
                Ok(value) => (None, value),
                Err(failure) => (Some(failure), None),
            };
            let took = samples.origin.elapsed().saturating_sub(began);
            samples.end(Sample { began, took, failure, value });
            drop(place);
        });
    }
}
