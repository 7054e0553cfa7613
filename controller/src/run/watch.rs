//! The watch over a run's stop conditions, from right before the first injection until the run ends. It
//! is a task of its own: whatever the run waits for, it looks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use faultline_probe::Sample;
use faultline_proto::units;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinHandle,
    time::{self, MissedTickBehavior},
};

use super::{
    Ended, Run,
    ended::is_reverted,
    ends::Ends,
    tracked::{self, Shared},
};
use crate::{
    experiment::Experiment,
    probe::{Running, Samples, number},
    report::{StopReport, millis},
    stop::{Guard, Seen},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A condition, and what its probe sees.
pub(super) struct Watched {
    guard: Guard,
    samples: Samples,
    seen: UnboundedReceiver<Sample>,
    /// What the probe is called, also of which pod.
    name: String,
    /// Where it is written.
    place: String,
}

/// The conditions under watch.
type Conditions = Arc<Mutex<Vec<Watched>>>;

/// The task. It ends with this.
pub(super) struct Watch {
    task: JoinHandle<()>,
    watched: Conditions,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The conditions on the probe `name` of the experiment, which has just been started at `origin`; each
/// on what is seen from one pod alone, where it is seen from several.
pub(super) fn conditions_on(
    name: &str,
    running: &Running,
    experiment: &Experiment,
    origin: Instant,
) -> Vec<Watched> {
    let conditions = experiment.stop_conditions.iter();
    let of_probe = conditions.filter(|condition| condition.probe.value == name);
    let watched = of_probe.map(|condition| Watched {
        guard: Guard::new(condition.clone(), running.probe.every, origin.elapsed()),
        samples: running.samples.clone(),
        seen: running.samples.tap(),
        name: running.probe.name.clone(),
        place: experiment.place_of(condition.span),
    });
    watched.collect()
}

impl Run<'_> {
    /// Watches from now on, if that is not done yet.
    ///
    /// # Errors
    /// That a condition is broken already: nothing is injected into what is that bad without it.
    pub(super) fn start_watch(&mut self) -> Result<(), Ended> {
        if self.watch.is_none() {
            let mut watched = std::mem::take(&mut self.watched);
            let mut broken = Vec::new();
            for one in &mut watched {
                let why = one.look(self.origin, Guard::broken_now);
                broken.extend(why.map(|why| {
                    format!("stop condition, before anything is injected: {why} ({})", one.place)
                }));
            }
            if !broken.is_empty() {
                return Err(Ended::Refused(broken));
            }
            let watched = Arc::new(Mutex::new(watched));
            let task = watch(Arc::clone(&watched), self.origin, self.ends.clone());
            self.watch = Some(Watch { task: tokio::spawn(task), watched });
        }
        Ok(())
    }

    /// Takes in what the conditions have seen so far, so that it is not kept until something is injected.
    pub(super) fn keep_up(&mut self) {
        for one in &mut self.watched {
            one.look(self.origin, Guard::broken_now);
        }
    }

    /// Ends the watch. A condition on a number that never saw one could not have ended the run: that is
    /// said of a run that came to its end (`is_complete`).
    pub(super) fn end_watch(&mut self, is_complete: bool) {
        let Some(watch) = self.watch.take() else { return };
        let mut blind = Vec::new();
        for one in lock(&watch.watched).iter_mut().filter(|_| is_complete) {
            one.take_in();
            if one.guard.never_saw_number() {
                let (name, place) = (&one.name, &one.place);
                blind.push(format!(
                    "inconclusive: a stop condition never saw a number of probe `{name}` ({place})"
                ));
            }
        }
        for text in blind {
            self.deviate("stop", text);
        }
    }

    /// Ends the run when it has taken as long as it may.
    pub(super) fn start_limit(&self) -> Option<Watch> {
        let max = self.experiment.safety.max_duration.as_ref()?;
        let (limit, place) = (max.value, self.experiment.place_of(max.span));
        let ends = self.ends.clone();
        let task = tokio::spawn(async move {
            time::sleep(limit).await;
            let limit = units::duration(limit);
            ends.raise(format!(
                "maxDuration: the run has taken {limit}, and no more is allowed ({place})"
            ));
        });
        Some(Watch { task, watched: Conditions::default() })
    }

    /// Notes when the faults that were in effect as a condition was broken had gone.
    pub(super) fn note_stopped(&mut self, tracked: &Shared) {
        let Some(raised) = self.ends.raised() else { return };
        let items = tracked::lock(tracked);
        let mut reverted = Some(Duration::ZERO);
        for item in items.values().filter(|item| item.ordered.is_some()) {
            // What ended before the condition was broken takes no time.
            let took = self.reverted_at(item).filter(|_| is_reverted(item));
            let took = took.map(|at| at.saturating_duration_since(raised.at));
            reverted = reverted.zip(took).map(|(longest, took)| longest.max(took));
        }
        drop(items);
        self.stop_took = reverted.filter(|took| !took.is_zero());
    }

    /// What is reported of the condition that ended the run.
    pub(super) fn stop_report(&self) -> Option<StopReport> {
        // What ended a run before anything was injected has refused it.
        let raised = self.ends.raised().filter(|_| self.times.injected.is_some())?;
        Some(StopReport {
            reason: raised.why.clone(),
            at_ms: millis(raised.at.saturating_duration_since(self.origin)),
            time_to_reverted_ms: self.stop_took.map(millis),
        })
    }
}

fn lock(watched: &Conditions) -> MutexGuard<'_, Vec<Watched>> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(watched: Conditions, origin: Instant, ends: Ends) {
    let mut ticks = time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for one in lock(&watched).iter_mut() {
            if let Some(why) = one.look(origin, Guard::broken) {
                ends.raise(format!("stop condition: {why} ({})", one.place));
                return;
            }
        }
    }
}

impl Watched {
    /// Takes in what is new, and says why the run is to end, as the guard does.
    fn look(
        &mut self,
        origin: Instant,
        broken: fn(&mut Guard, Duration, Duration) -> Option<String>,
    ) -> Option<String> {
        // In this order: what began before that time has been handed over when it is read.
        let settled = self.samples.settled_until();
        self.take_in();
        broken(&mut self.guard, origin.elapsed(), settled)
    }

    fn take_in(&mut self) {
        while let Ok(sample) = self.seen.try_recv() {
            let is_good = sample.is_good();
            self.guard.take(Seen {
                began: sample.began,
                took: sample.took,
                is_good,
                is_observation: sample.is_observation(),
                value: sample.value.and_then(|value| number(value.trim())),
            });
        }
    }
}
