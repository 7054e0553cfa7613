//! The method: its steps in order, what is repeated, and the times in which nothing is done. What a step
//! injects is in `inject`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_proto::{
    status::State,
    units,
    yaml::{Span, Spanned},
};
use tokio::time;

use super::{Ended, Run, one_line};
use crate::{
    agents::Fleet,
    cluster::fault::API_SERVER,
    experiment::{Repeat, Step, Until},
    plan::Rounds,
    report::journal::Phase,
};

/// Between two looks at whether nodes were halted while nothing is done.
const HALT_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long an agent may take to say so.
const HALT_ANSWER_MAX: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Does everything that the experiment says, in order.
    pub(super) async fn method(&mut self) -> Result<(), Ended> {
        let experiment = self.experiment;
        self.steps(&experiment.method, 0).await?;
        self.reach(experiment.leaves().count());
        Ok(())
    }

    /// Does some steps, the first of which has this place in the method.
    async fn steps(&mut self, steps: &[Step], mut place: usize) -> Result<(), Ended> {
        for step in steps {
            self.reach(place);
            match step {
                Step::Inject(_) | Step::Parallel(_) => {
                    // A halt and resume since the last step would go unnoticed.
                    if self.times.injected.is_some() {
                        self.check_halted().await?;
                    }
                    self.inject_step(place).await?;
                }
                Step::Wait(duration) => {
                    self.phase(Phase::Wait, Some(place));
                    self.console.say("wait", &units::duration(*duration).to_string());
                    self.rest(*duration, "waiting").await?;
                }
                Step::Quiet(quiet) => {
                    self.phase(Phase::Quiet, Some(place));
                    self.quiet(quiet).await?;
                }
                Step::Repeat(repeat) => Box::pin(self.repeat(repeat, place)).await?,
            }
            place += step.leaves().count();
        }
        Ok(())
    }

    async fn repeat(&mut self, repeat: &Repeat, place: usize) -> Result<(), Ended> {
        let began = Instant::now();
        let mut rounds = Rounds::new(repeat, self.experiment.seed, place);
        while let Some(at) = rounds.next(began.elapsed()) {
            self.phase(Phase::Wait, Some(place));
            self.rest(at.saturating_sub(began.elapsed()), "until the next round").await?;
            let round = rounds.begun();
            self.console.say(
                "repeat",
                &match repeat.until {
                    Until::Times(times) => format!("round {round} of {times}"),
                    Until::For(time) => format!("round {round}, for {}", units::duration(time)),
                },
            );
            self.steps(&repeat.steps, place).await?;
        }
        Ok(())
    }

    /// Does nothing, and looks that nothing is in effect and the steady state holds again.
    async fn quiet(&mut self, quiet: &Spanned<Duration>) -> Result<(), Ended> {
        let duration = quiet.value;
        let from = self.now();
        self.in_effect(quiet.span).await?;
        self.rest(duration, "quiet").await?;
        let to = self.now();
        let unsteady = self.unsteady(from, to).await?;
        if unsteady.is_empty() {
            self.console.say("quiet", &format!("steady for {}", units::duration(duration)));
            return Ok(());
        }
        let place = self.experiment.place_of(quiet.span);
        let say = |text: &String| format!("after a fault, in a quiet time: {text} ({place})");
        Err(Ended::Stopped(unsteady.iter().map(say).collect()))
    }

    /// Asks the agents whether anything of this run is in effect.
    async fn in_effect(&mut self, quiet: Span) -> Result<(), Ended> {
        let run_id = self.id.to_string();
        let answers = self.ends.unless(self.fleet.list(HALT_ANSWER_MAX)).await?;
        let place = self.experiment.place_of(quiet);
        let mut found = Vec::new();
        for (node, answer) in &answers {
            let statuses = match answer {
                Ok(statuses) => statuses,
                Err(error) => {
                    let why = one_line(error);
                    found.push(format!(
                        "inconclusive: in a quiet time, nobody says what is in effect on {node}: {why} ({place})"
                    ));
                    continue;
                }
            };
            let live = statuses.iter().filter(|status| {
                let state = State::from_wire(status.state);
                status.run_id == run_id && !matches!(state, None | Some(State::Reverted))
            });
            found.extend(live.map(|status| {
                let kind = &status.kind;
                format!("in a quiet time, a {kind} of this run is there on {node} ({place})")
            }));
        }
        if found.is_empty() { Ok(()) } else { Err(Ended::Stopped(found)) }
    }

    /// Waits while nothing is in effect. Whoever halts a node meanwhile wants nothing more to happen,
    /// also when that has been ended again.
    async fn rest(&mut self, duration: Duration, what: &str) -> Result<(), Ended> {
        if duration.is_zero() {
            return Ok(());
        }
        let fleet = Arc::clone(&self.fleet);
        tokio::select! {
            biased;
            done = self.wait(duration, what) => done?,
            halted = wait_for_halt(&fleet) => return Err(self.halted(halted)),
        }
        self.check_halted().await
    }

    /// Ends the run if a node was halted since it began.
    async fn check_halted(&mut self) -> Result<(), Ended> {
        let fleet = Arc::clone(&self.fleet);
        let halted = self.ends.unless(fleet.halted_since(HALT_ANSWER_MAX)).await?;
        if halted.is_empty() { Ok(()) } else { Err(self.halted(halted)) }
    }

    fn halted(&self, nodes: Vec<String>) -> Ended {
        let say = |node: String| match node.as_str() {
            API_SERVER => {
                "what goes through the API server was halted between two steps".to_owned()
            }
            node => format!("node {node} was halted between two steps"),
        };
        let halted: Vec<String> = nodes.into_iter().map(say).collect();
        for text in &halted {
            self.console.warn("halted", text);
        }
        Ended::Halted(halted)
    }
}

/// Waits until a node is halted. Returns those that were.
async fn wait_for_halt(fleet: &Fleet) -> Vec<String> {
    loop {
        time::sleep(HALT_LOOK_EVERY).await;
        let halted = fleet.halted_since(HALT_ANSWER_MAX).await;
        if !halted.is_empty() {
            return halted;
        }
    }
}
