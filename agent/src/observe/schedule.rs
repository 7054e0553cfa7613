//! When attempts are made from a pod, and that each of them is told. The schedule is open, as the
//! controller's: an attempt begins when its time has come, whether or not the one before it was answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_probe::{Attempt, Failure, FailureKind, Sample, with_lateness};
use faultline_proto::units;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{self, MissedTickBehavior},
};

use super::{Observation, dialer::PodDialer};
use crate::kernel::{clock, process::ProcessId, sockets::Sockets};

/// Attempts of one probe that may be under way at once.
const CONCURRENT_MAX: usize = 64;
/// Observations that wait to be sent. Whoever reads no faster loses the stream, not single attempts.
pub(super) const TOLD_LEN_MAX: usize = 1024;
/// How often something is told where nothing has ended.
const SIGN_EVERY: Duration = Duration::from_millis(250);
/// How often the pod is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often, and for how long, something is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) every: Duration,
    pub(super) timeout: Duration,
}

/// Ends once a process has.
pub(super) async fn gone(process: ProcessId) {
    while process.is_alive() {
        time::sleep(LOOK_EVERY).await;
    }
}

/// Tries until nobody listens any more, or something fails that may have failed because the pod has gone
/// (`is_there`): that is not told, since it says nothing of what is tried.
pub(super) async fn run(
    attempt: Attempt,
    sockets: Sockets,
    times: Times,
    tell: mpsc::Sender<Observation>,
    is_there: impl Fn() -> bool,
) {
    let attempt = Arc::new(attempt);
    let mut ticks = time::interval(times.every);
    // Late attempts are made up for at once: an outage must not be missed because we were busy.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut signs = time::interval(SIGN_EVERY);
    signs.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // Dropped with this future: no attempt outlives it.
    let mut running: JoinSet<Sample> = JoinSet::new();
    let mut under_way: Vec<Duration> = Vec::new();
    loop {
        let sample = tokio::select! {
            Some(ended) = running.join_next() => match ended {
                Ok(sample) => Some(sample),
                // An attempt that panicked: without its outcome nothing more can be said.
                Err(_) => return,
            },
            _ = ticks.tick() => {
                let began = now();
                if running.len() >= CONCURRENT_MAX {
                    Some(not_made(began))
                } else {
                    under_way.push(began);
                    let due = (Instant::now(), began);
                    running.spawn(one(Arc::clone(&attempt), sockets.clone(), times.timeout, due));
                    continue;
                }
            },
            _ = signs.tick() => None,
            () = tell.closed() => return,
        };
        if sample.as_ref().is_some_and(|sample| sample.failure.is_some()) && !is_there() {
            return;
        }
        if let Some(at) = sample.as_ref().and_then(|s| under_way.iter().position(|b| *b == s.began))
        {
            under_way.swap_remove(at);
        }
        let settled_until = under_way.iter().min().copied().unwrap_or_else(now);
        if tell.try_send(Observation { sample, settled_until }).is_err() {
            return;
        }
    }
}

async fn one(
    attempt: Arc<Attempt>,
    sockets: Sockets,
    timeout: Duration,
    (due, began): (Instant, Duration),
) -> Sample {
    let outcome = time::timeout(timeout, async {
        let dialer = PodDialer::new(sockets).await?;
        attempt.run(&dialer).await
    });
    let (outcome, uncertainty) = with_lateness(due, outcome).await;
    let late = || {
        let text = format!("no answer within {}", units::duration(timeout));
        Failure::new(FailureKind::Timeout, text)
    };
    let (failure, value) = match outcome.unwrap_or_else(|_| Err(late())) {
        Ok(value) => (None, value),
        Err(failure) => (Some(failure), None),
    };
    Sample { uncertainty, began, took: now().saturating_sub(began), failure, value }
}

fn not_made(began: Duration) -> Sample {
    let text = format!("{CONCURRENT_MAX} attempts wait for an answer already");
    let failure = Some(Failure::new(FailureKind::Dropped, text));
    Sample { uncertainty: Duration::ZERO, began, took: Duration::ZERO, failure, value: None }
}

/// `CLOCK_BOOTTIME`.
fn now() -> Duration {
    Duration::from_nanos(clock::now().as_nanos())
}
