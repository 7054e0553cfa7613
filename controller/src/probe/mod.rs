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

use tokio::{sync::Semaphore, task::JoinHandle, time};

pub use attempt::{CurrentPod, Outcome, Target};
pub use measure::{Downtime, Share, downtime, first_failure_after, recovered_at, share};

use crate::experiment::Probe;

/// Attempts of one probe that may be under way at once.
const CONCURRENT_MAX: usize = 256;

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// `None`: it succeeded. Otherwise why not, in a few words.
    pub failure: Option<String>,
}

/// What a probe observed so far.
#[derive(Debug, Clone, Default)]
pub struct Samples(Arc<Mutex<Attempts>>);

#[derive(Debug, Default)]
struct Attempts {
    ended: Vec<Sample>,
    /// When those attempts began that have not ended.
    under_way: Vec<Instant>,
}

impl Samples {
    /// The attempts that have ended, in the order in which they began.
    pub fn snapshot(&self) -> Vec<Sample> {
        let mut samples = self.lock().ended.clone();
        samples.sort_by_key(|sample| sample.began);
        samples
    }

    /// Every attempt that began before this has ended.
    pub fn settled_until(&self) -> Instant {
        self.lock().under_way.iter().min().copied().unwrap_or_else(Instant::now)
    }

    /// Waits until every attempt that began before `time` has ended. Attempts end by their timeout.
    pub async fn settle(&self, time: Instant) {
        while self.settled_until() < time {
            time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The latest attempt that has ended: the one that began last, since one that began before it
    /// and waited for its timeout says nothing new.
    pub fn latest(&self) -> Option<Sample> {
        let attempts = self.lock();
        let recent = attempts.ended.iter().rev().take(CONCURRENT_MAX);
        recent.max_by_key(|sample| sample.began).cloned()
    }

    fn begin(&self, began: Instant) {
        self.lock().under_way.push(began);
    }

    fn end(&self, sample: Sample) {
        let mut attempts = self.lock();
        if let Some(at) = attempts.under_way.iter().position(|began| *began == sample.began) {
            attempts.under_way.swap_remove(at);
        }
        attempts.ended.push(sample);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Starts a probe.
    pub fn start(probe: Probe, target: Target) -> Self {
        let samples = Samples::default();
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
        let began = Instant::now();
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            let failure = Some(format!("{CONCURRENT_MAX} attempts wait for an answer already"));
            samples.end(Sample { began, took: Duration::ZERO, failure });
            continue;
        };
        samples.begin(began);
        let (target, samples, timeout) = (Arc::clone(&target), samples.clone(), probe.timeout);
        tokio::spawn(async move {
            let outcome = time::timeout(timeout, target.attempt(timeout)).await;
            let failure = match outcome {
                Ok(Outcome::Success) => None,
                Ok(Outcome::Failure(why)) => Some(why),
                Err(_late) => {
                    Some(format!("no answer within {}", faultline_proto::units::duration(timeout)))
                }
            };
            samples.end(Sample { began, took: began.elapsed(), failure });
            drop(place);
        });
    }
}
