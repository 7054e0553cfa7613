//! Waiting, and looking at the system meanwhile: before anything is done to it, while it is done, and
//! until it is well again.

use std::time::{Duration, Instant};

use faultline_proto::units;
use tokio::time;

use super::{Ended, Run, judge::beyond};
use crate::{
    experiment::Experiment,
    probe::{Fold, Running, Times, Window},
    report::{
        counted,
        journal::Phase,
        progress::{self, RECENT},
    },
};

/// The shortest look at the steady state.
const STEADY_MIN: Duration = Duration::from_secs(1);
/// The longest.
const STEADY_MAX: Duration = Duration::from_secs(30);
/// Attempts of the slowest probe that the look at the steady state should see.
const STEADY_ATTEMPTS: u32 = 10;
/// How long a run that ends before its time waits for attempts that are under way.
const SETTLE_EARLY_MAX: Duration = Duration::from_millis(250);
/// How often the live line is drawn and waits look around.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the live line says while time passes.
pub(super) struct Doing<'a> {
    pub(super) what: &'a str,
    /// When that will be over, or given up.
    pub(super) end: Instant,
}

/// How long the system is looked at before anything is done to it.
pub(super) fn steady_window(experiment: &Experiment) -> Duration {
    let Some(slowest) = experiment.probes.iter().map(|probe| probe.every).max() else {
        return Duration::ZERO;
    };
    (slowest * STEADY_ATTEMPTS).clamp(STEADY_MIN, STEADY_MAX)
}

impl Run<'_> {
    /// Looks at the system before anything is done to it: one that is not well is not experimented on.
    pub(super) async fn steady_state(&mut self) -> Result<(), Ended> {
        if self.probes.is_empty() {
            return Ok(());
        }
        let window = steady_window(self.experiment);
        self.phase(Phase::Steady, None);
        let from = self.now();
        self.times.steady_from = Some(from);
        self.wait(window, "looking at the steady state").await?;
        let to = self.now();
        self.times.steady_to = Some(to);
        let unsteady = self.unsteady(from, to).await?;
        if !unsteady.is_empty() {
            return Err(Ended::Refused(unsteady));
        }
        let probes = counted(self.probes.len(), "probe");
        self.console.say("steady", &format!("{probes} for {}", units::duration(window)));
        Ok(())
    }

    /// The steady tolerances that did not hold in a time that has passed, each in a sentence.
    pub(super) async fn unsteady(
        &self,
        from: Duration,
        to: Duration,
    ) -> Result<Vec<String>, Ended> {
        let (steady_from, steady_to) = (Some(from), Some(to));
        let times = Times { steady_from, steady_to, ..Times::default() };
        let mut unsteady = Vec::new();
        for running in &self.probes {
            self.ends.unless(running.samples.settle(to)).await?;
            let Some(asked) = &running.probe.steady else { continue };
            let mut measured = Fold::new(&running.probe);
            running.samples.since(from).iter().for_each(|sample| measured.push(sample, &times));
            let wrong = beyond(&measured, Window::Before, asked);
            let name = &running.probe.name;
            unsteady.extend(wrong.iter().map(|why| format!("not steady: probe `{name}` {why}")));
        }
        Ok(unsteady)
    }

    /// Waits until every probe that has to is well again for as long as it must be, or time is up.
    pub(super) async fn recovery(&mut self) -> Result<(), Ended> {
        let Some(from) = self.times.recover_from else { return Ok(()) };
        self.phase(Phase::Recovery, None);
        let waits = self.probes.iter().filter_map(|running| {
            let recovery = running.probe.recovery.as_ref()?;
            Some((running.samples.clone(), from + recovery.within + recovery.stable_for))
        });
        let mut waits: Vec<_> = waits.collect();
        // An attempt that began at the last moment has its timeout to end in.
        let grace = self.experiment.probes.iter().map(|p| p.timeout + p.every).max();
        let grace = grace.unwrap_or_default();
        let end = waits.iter().map(|(_, latest)| *latest).max().unwrap_or(from);
        let end = self.origin + end;
        while !waits.is_empty() {
            self.pause(LOOK_EVERY / 2, &Doing { what: "waiting for recovery", end }).await?;
            let now = self.now();
            waits.retain(|(samples, latest)| {
                samples.recovered(&self.times).is_none() && now < *latest + grace
            });
        }
        Ok(())
    }

    /// Sleeps, with a live line that says how long all of it takes.
    pub(super) async fn wait(&mut self, duration: Duration, what: &str) -> Result<(), Ended> {
        self.pause(duration, &Doing { what, end: Instant::now() + duration }).await
    }

    /// Sleeps, with the live line and an eye on targets that are followed, unless the run is to end.
    pub(super) async fn pause(
        &mut self,
        duration: Duration,
        doing: &Doing<'_>,
    ) -> Result<(), Ended> {
        let end = Instant::now() + duration;
        loop {
            self.ends.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.look_around();
            self.hear_moves();
            self.keep_up();
            self.probes.iter().for_each(|running| running.samples.settle_old(&self.times));
            if let Some(why) = self.recorder.complaint() {
                self.console.warn(
                    "journal",
                    &format!("the record of this run is not whole from here on: {why}"),
                );
            }
            self.draw(doing);
            self.ends.unless(time::sleep(left.min(LOOK_EVERY))).await?;
        }
    }

    /// Draws the live lines, where somebody sees them.
    fn draw(&self, doing: &Doing<'_>) {
        if !self.console.is_live() {
            return;
        }
        let now = self.now();
        let recent = |running: &Running| running.samples.since(now.saturating_sub(RECENT));
        let probes: Vec<_> =
            self.probes.iter().map(|r| (r.probe.name.as_str(), recent(r))).collect();
        let left = doing.end.saturating_duration_since(Instant::now());
        self.console.live(progress::lines(doing.what, left, &probes, now));
    }

    /// Waits for the attempts that are under way, so that none is judged before its end. A run that
    /// has ended `early` judges nothing, and waits for those only that are about to end.
    ///
    /// # Errors
    /// That the run is to end meanwhile.
    pub(super) async fn settle_probes(&mut self, early: bool) -> Result<(), Ended> {
        let now = self.now();
        self.times.ended = Some(now);
        let all = async {
            for running in &self.probes {
                // Attempts end by their timeout.
                drop(time::timeout(running.probe.timeout * 2, running.samples.settle(now)).await);
            }
        };
        if early {
            drop(time::timeout(SETTLE_EARLY_MAX, all).await);
            return Ok(());
        }
        self.ends.unless(all).await
    }
}
