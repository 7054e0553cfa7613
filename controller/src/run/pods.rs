//! The pods of the targets, looked at all the time: who is lost and comes back is told as it happens. It is a task of
//! its own, from the first probe until the run is judged.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    task::JoinHandle,
    time::{self, MissedTickBehavior},
};

use super::{
    Ended, Recorder, Run,
    observe::{self, Doing},
};
use crate::{
    comeback::{Comeback, Comebacks},
    experiment::{Assertion, Experiment, Limit, Measure, Selector},
    place::{Place, Seen},
    report::{PodReport, journal::Event},
};

/// Between two looks at the pods. In a cluster these are looks at what its watch has brought.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The pods of a run's targets; nothing where the place does not tell how pods are.
#[derive(Debug, Default)]
pub(super) struct Pods {
    shared: Option<Arc<Mutex<Comebacks>>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Pods {
    /// Looks at the pods that targets match, from now on.
    pub(super) fn watch(
        place: &Arc<Place>,
        targets: &BTreeMap<String, Selector>,
        recorder: &Recorder,
    ) -> Self {
        if place.pod_states().is_err() {
            return Self::default();
        }
        let shared = Arc::new(Mutex::new(Comebacks::new(targets)));
        let task = look_again(Arc::clone(place), Arc::clone(&shared), recorder.clone());
        Self { task: Some(tokio::spawn(task)), shared: Some(shared) }
    }

    /// From now on losses count: something is about to be injected.
    pub(super) fn begin(&self) {
        if let Some(shared) = &self.shared {
            lock(shared).begin();
        }
    }

    /// Every loss so far, and how many more there were; `None` where that is not told.
    pub(super) fn losses(&self) -> Option<(Vec<Comeback>, u64)> {
        let comebacks = lock(self.shared.as_ref()?);
        Some((comebacks.all().to_vec(), comebacks.unlisted()))
    }
}

fn lock(shared: &Mutex<Comebacks>) -> MutexGuard<'_, Comebacks> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look_again(place: Arc<Place>, shared: Arc<Mutex<Comebacks>>, recorder: Recorder) {
    let mut ticks = time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    loop {
        ticks.tick().await;
        let states = place.look_at_states(&mut seen);
        // After the look: what was seen was so before.
        let at = recorder.origin().elapsed();
        let mut comebacks = lock(&shared);
        match states {
            Ok(Some(states)) => {
                for number in comebacks.look(at, states) {
                    let pod = comebacks.all().get(number).map(PodReport::from);
                    if let Some(pod) = pod {
                        recorder.tell(Event::Pod { number, pod });
                    }
                }
            }
            Ok(None) => comebacks.unchanged(at),
            // The next look that sees something says how long nothing was seen.
            Err(_) => {}
        }
    }
}

impl Run<'_> {
    /// What is reported of pods that were lost.
    pub(super) fn pod_reports(&self) -> Vec<PodReport> {
        let losses = self.pods.losses().map(|(losses, _)| losses).unwrap_or_default();
        losses.iter().map(PodReport::from).collect()
    }

    /// Waits until the pods that something is asserted of are back, or it is too late for that.
    pub(super) async fn pods_back(&mut self) -> Result<(), Ended> {
        let asserted = self.experiment.assertions.iter().filter_map(time_limit);
        let asserted: Vec<(&Assertion, Duration)> = asserted.collect();
        let Some(injected) = self.times.injected.filter(|_| !asserted.is_empty()) else {
            return Ok(());
        };
        loop {
            let Some((losses, _)) = self.pods.losses() else { return Ok(()) };
            let waits = asserted.iter().filter_map(|(assertion, limit)| {
                let from =
                    waits_from(assertion, &losses, self.times.recover_from.unwrap_or(injected))?;
                // A moment that is seen a little late may still have been in time.
                Some(from + *limit + 2 * LOOK_EVERY)
            });
            let Some(end) = waits.max().filter(|end| *end > self.now()) else { return Ok(()) };
            let end = Instant::now() + end.saturating_sub(self.now());
            self.pause(observe::LOOK_EVERY / 2, &Doing { what: "waiting for pods", end }).await?;
        }
    }
}

/// The limit of an assertion on how long pods take to come back.
fn time_limit(assertion: &Assertion) -> Option<(&Assertion, Duration)> {
    match (assertion.measure.needs_pods(), assertion.bound) {
        (true, Limit::Time(bound)) => Some((assertion, bound.value)),
        _ => None,
    }
}

/// How long a run waits for pods at most.
pub(super) fn waits_at_most(experiment: &Experiment) -> Duration {
    let limits = experiment.assertions.iter().filter_map(time_limit);
    limits.map(|(_, limit)| limit).max().unwrap_or_default()
}

/// From when on an assertion is waited for: since the last pod was lost that is not back. Where nobody was lost that
/// should have been, `otherwise`; `None`: there is nothing to wait for.
fn waits_from(assertion: &Assertion, losses: &[Comeback], otherwise: Duration) -> Option<Duration> {
    let mut meant = losses.iter().filter(|loss| assertion.is_about(&loss.targets));
    let counts = |loss: &&Comeback| match assertion.measure {
        Measure::TimeToReady => true,
        _ => loss.needs_another(),
    };
    let all: Vec<&Comeback> = meant.by_ref().filter(counts).collect();
    if all.is_empty() {
        return Some(otherwise);
    }
    let open = all.into_iter().filter(|loss| match assertion.measure {
        Measure::TimeToReady => loss.ready.is_none(),
        Measure::TimeToScheduled => loss.scheduled.is_none(),
        _ => loss.recreated.is_none(),
    });
    open.map(|loss| loss.lost.at).max()
}
