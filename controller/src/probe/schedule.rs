//! The schedule of a probe: when its attempts begin, and that each of them ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_probe::{Failure, FailureKind, Sample, with_lateness};
use faultline_proto::units;
use tokio::{sync::Semaphore, task::JoinHandle, time};

use super::{CONCURRENT_MAX, Remote, Samples, Target};
use crate::{experiment::Probe, place::Pod};

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
        let samples = Samples::new(&probe, origin);
        let schedule = schedule(probe.clone(), Arc::new(target), samples.clone());
        Self { probe, samples, task: tokio::spawn(schedule) }
    }
}

impl Running {
    /// Starts a probe that an agent makes from a pod, at first from `pod`, in a run that began at `origin`.
    pub fn start_from(probe: Probe, remote: Remote, pod: &Pod, origin: Instant) -> Self {
        let samples = Samples::new(&probe, origin);
        let from = pod.target().to_string();
        let observe = remote.observe(probe.clone(), samples.clone(), from);
        Self { probe, samples, task: tokio::spawn(observe) }
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
        let (due, began) = (Instant::now(), samples.now());
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            let text = format!("{CONCURRENT_MAX} attempts wait for an answer already");
            let failure = Some(Failure::new(FailureKind::Dropped, text));
            samples.end(Sample {
                uncertainty: Duration::ZERO,
                began,
                took: Duration::ZERO,
                failure,
                value: None,
            });
            continue;
        };
        samples.begin(began);
        let (target, samples, timeout) = (Arc::clone(&target), samples.clone(), probe.timeout);
        tokio::spawn(async move {
            let attempt = time::timeout(timeout, target.attempt(timeout));
            let (outcome, uncertainty) = with_lateness(due, attempt).await;
            let late = || {
                let limit = units::duration(timeout);
                Failure::new(FailureKind::Timeout, format!("no answer within {limit}"))
            };
            let (failure, value) = match outcome.unwrap_or_else(|_| Err(late())) {
                Ok(value) => (None, value),
                Err(failure) => (Some(failure), None),
            };
            let took = samples.now().saturating_sub(began);
            samples.end(Sample { uncertainty, began, took, failure, value });
            drop(place);
        });
    }
}
