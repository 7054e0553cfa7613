//! One run of one experiment: look, inject, hold, revert, and judge.
//!
//! ```text
//! plan ─► connect ─► prepare (dry) ─► probes ─► steady ─► step: prepare ─► commit ─► hold ─► revert ─┐
//!   │        │            │                       │        ▲    │ refused      │ no effect             │
//!   ▼        ▼            ▼                       ▼        └────┼──────────────┼─── next step ◄────────┤
//!                Refused (3), nothing changed ◄─────────────────┴──────────────┘                       ▼
//!                                                                  recovery ─► verdict (0, 1) · residue (4)
//! ```
//! Ctrl-C at any place goes to the revert, and from there to the end (130); so does a stop condition,
//! which is watched from the first injection on, and ends the run as deviated (1).

mod aftermath;
mod asserted;
mod attempts;
mod bounds;
mod connect;
mod ended;
mod ends;
mod figures;
mod follow;
mod ground;
mod inject;
mod interrupt;
mod judge;
mod lasting;
mod leaders;
mod measured;
mod method;
mod observe;
mod observers;
mod phases;
mod pods;
mod preflight;
mod prepare;
mod record;
mod renew;
mod revert;
mod tasks;
#[cfg(test)]
mod tests;
mod tracked;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_proto::id::RunId;

use self::{
    connect::connect_for,
    ends::Ends,
    follow::Following,
    judge::Judged,
    observers::FromPods,
    phases::and_the_plan,
    pods::Pods,
    preflight::Rules,
    record::Taps,
    watch::{Watch, Watched},
};
pub use interrupt::Interrupt;
pub use judge::{over_all, report as probe_report};
pub use record::{Heard, Listener, Recorder};

use crate::{
    agents::{AgentError, Fleet},
    cluster::Claims,
    experiment::Experiment,
    place::{Place, Pod},
    plan::{Plan, PlanError, PlannedStep},
    probe::{CurrentPod, Running, Times},
    report::{
        Console, Environment, InjectionReport, PhaseReport, Report, RuleReport, SCHEMA_VERSION,
        Verdict, cleaned,
        journal::{Event, Phase},
        millis,
    },
};

/// Why a run ended before its method did.
#[derive(Debug)]
enum Ended {
    /// Nothing is injected (any more): the reasons.
    Refused(Vec<String>),
    /// A node was halted meanwhile: what was ended by that. Whoever halts wants nothing more to happen.
    Halted(Vec<String>),
    /// Things became too bad to go on: the rules that say so, and where they are written.
    Stopped(Vec<String>),
    /// Somebody said so.
    Interrupted,
}

/// A run under way.
struct Run<'a> {
    experiment: &'a Experiment,
    console: &'a Console,
    recorder: &'a Recorder,
    /// What ends the run before its method does.
    ends: Ends,
    interrupt: &'a Interrupt,
    id: RunId,
    /// When it began: what is measured is counted from here.
    origin: Instant,
    fleet: Arc<Fleet>,
    probes: Vec<Running>,
    taps: Taps,
    /// The pods of the targets, as they are lost and come back.
    pods: Pods,
    phases: Vec<PhaseReport>,
    /// The step of the method that is under way.
    step: Option<usize>,
    /// The stop conditions, until the watch takes them.
    watched: Vec<Watched>,
    /// Pods that do not count as healthy: others are at work on them, or nobody can be asked.
    away: BTreeSet<String>,
    watch: Option<Watch>,
    /// From a broken condition until everything was reverted.
    stop_took: Option<Duration>,
    /// The pods that commands of probes run in, and which targets these are.
    exec_pods: Vec<(String, CurrentPod)>,
    /// Those that agents make probes from.
    from_pods: FromPods,
    injections: Vec<InjectionReport>,
    /// The app that each pod belongs to that was seen, by uid.
    apps: BTreeMap<String, String>,
    commit_skew: Option<Duration>,
    /// What ended otherwise than planned, without ending the run.
    deviations: Vec<String>,
    residue: Vec<String>,
    /// Who the targets are, once that has been planned.
    following: Option<Following<'a>>,
    /// Who would have been followed, and which limit was in the way.
    not_followed: Vec<String>,
    times: Times,
    /// Why it ended before its method did is in the record.
    end_recorded: bool,
    /// What it has claimed in a cluster.
    claims: Option<Claims>,
    /// How long after the end of its leases a node that cannot be reached is asked again.
    agents_return_within: Duration,
}

/// Runs an experiment, from the first look to the verdict. Nothing of it is kept.
pub async fn run(
    experiment: &Experiment,
    place: &Arc<Place>,
    console: &Console,
    interrupt: &Interrupt,
) -> Report {
    run_recorded(experiment, place, console, interrupt, &Recorder::nowhere()).await
}

/// As [`run`], and tells a recorder what happens.
pub async fn run_recorded(
    experiment: &Experiment,
    place: &Arc<Place>,
    console: &Console,
    interrupt: &Interrupt,
    recorder: &Recorder,
) -> Report {
    let (origin, run_id) = (recorder.origin(), recorder.run_id());
    recorder.begin(experiment, &place.describe());
    console.say("run", &format!("{} ({run_id}) in {}", experiment.name, place.describe()));
    if let Some(hypothesis) = &experiment.hypothesis {
        console.say("expect", hypothesis);
    }
    let mut run = Run {
        experiment,
        console,
        recorder,
        ends: Ends::new(interrupt),
        interrupt,
        id: run_id,
        origin,
        fleet: Arc::default(),
        probes: Vec::new(),
        taps: Taps::default(),
        pods: Pods::default(),
        phases: Vec::new(),
        step: None,
        watched: Vec::new(),
        away: BTreeSet::new(),
        watch: None,
        stop_took: None,
        exec_pods: Vec::new(),
        from_pods: FromPods::default(),
        injections: Vec::new(),
        apps: BTreeMap::new(),
        commit_skew: None,
        deviations: Vec::new(),
        residue: Vec::new(),
        following: None,
        not_followed: Vec::new(),
        times: Times::default(),
        end_recorded: false,
        claims: None,
        agents_return_within: place.agents_return_within(),
    };
    let limit = run.start_limit();
    let mut ended = run.phases(place).await.err().map(|ended| run.unless_untouched(ended));
    drop(limit);
    run.end_watch(ended.is_none());
    console.quiet();
    if let Some(ended) = &ended {
        run.record_end(ended);
    }
    // Whatever happened: nothing of this run is to stay, and the kernels are asked.
    run.make_sure().await;
    if let Some(claims) = run.claims.take() {
        claims.release().await;
    }
    run.interrupt.holds(false);
    if let Err(late) = run.settle_probes(ended.is_some()).await
        && ended.is_none()
    {
        run.record_end(&late);
        ended = Some(late);
    }
    run.hear_moves();
    run.phase(Phase::Judge, None);
    let Judged { verdict, reasons, probes, downtime, assertions } = run.judge(ended);
    let report = cleaned(Report {
        duration_ms: millis(origin.elapsed()),
        verdict,
        reasons,
        phases: std::mem::take(&mut run.phases),
        injections: std::mem::take(&mut run.injections),
        not_followed: std::mem::take(&mut run.not_followed),
        commit_skew_ms: run.commit_skew.map(millis),
        probes,
        pods: run.pod_reports(),
        stopped: run.stop_report(),
        downtime,
        assertions,
        residue: std::mem::take(&mut run.residue),
        agents: run.agent_reports(),
        exit_code: verdict.exit_code(),
        ..nothing_done(experiment, place.describe(), recorder)
    });
    drop(std::mem::take(&mut run.probes));
    std::mem::take(&mut run.taps).finish().await;
    recorder.tell(Event::Verdict(Box::new(report.clone())));
    report
}

/// The report of an experiment that could not be begun.
pub fn refused(
    experiment: &Experiment,
    place: &str,
    reason: String,
    recorder: &Recorder,
) -> Report {
    recorder.begin(experiment, place);
    let mut report = nothing_done(experiment, place.into(), recorder);
    report.reasons.push(reason);
    let report = cleaned(report);
    recorder.tell(Event::Verdict(Box::new(report.clone())));
    report
}

/// The report of a run in which nothing has been done.
fn nothing_done(experiment: &Experiment, place: String, recorder: &Recorder) -> Report {
    let verdict = Verdict::Refused;
    Report {
        schema_version: SCHEMA_VERSION,
        experiment: experiment.name.clone(),
        labels: experiment.labels.clone(),
        file: experiment.file.clone(),
        hypothesis: experiment.hypothesis.clone(),
        run_id: recorder.run_id().to_string(),
        seed: experiment.seed,
        place,
        started_unix_seconds: recorder.started().as_secs(),
        started_unix_ms: u64::try_from(recorder.started().as_millis()).unwrap_or(u64::MAX),
        trace_id: recorder.trace_id(),
        duration_ms: 0.0,
        verdict,
        reasons: Vec::new(),
        phases: Vec::new(),
        injections: Vec::new(),
        not_followed: Vec::new(),
        commit_skew_ms: None,
        probes: Vec::new(),
        pods: Vec::new(),
        stopped: None,
        downtime: None,
        assertions: Vec::new(),
        residue: Vec::new(),
        environment: Environment::here(),
        agents: Vec::new(),
        exit_code: verdict.exit_code(),
    }
}

/// Plans an experiment on the pods of a place, and has its agents plan it too. Nothing is changed. `rules`
/// take what was looked at, also where it is refused.
///
/// # Errors
/// What speaks against it, each in one sentence.
pub async fn dry_run(
    experiment: &Experiment,
    place: &Place,
    rules: &mut Vec<RuleReport>,
) -> Result<(Plan, Vec<String>), Vec<String>> {
    let mut note = |looked: Rules| {
        let refused = looked.check();
        rules.extend(looked.0);
        refused
    };
    let refused = note(preflight::fences(experiment, place).await);
    refused.map_err(|refused| and_the_plan(refused, experiment, place))?;
    note(preflight::objects(experiment, place).await.0)?;
    let (pods, ground) = ground::survey(experiment, place).await?;
    let plan = Plan::on(experiment, &pods, &ground).map_err(|e| vec![said_at(experiment, &e)])?;
    note(preflight::limits(experiment, &plan))?;
    note(preflight::budgets(experiment, place, &plan, &pods, true).await)?;
    let run_id = RunId::random().map_err(|e| vec![e.to_string()])?;
    let run = run_id.to_string();
    note(preflight::claims(experiment, place, &plan, &pods, &run).await)?;
    let fleet = connect_for(experiment, place, &plan, &pods).await?;
    note(preflight::agents(experiment, &plan, &pods, &fleet, run_id).await.0)?;
    let mut planned = Vec::new();
    for step in &plan.steps {
        if let PlannedStep::Inject(faults) = step {
            let wired = inject::wire(&fleet, experiment.lease, faults).map_err(|e| vec![e])?;
            let prepared = fleet.prepare(run_id, &wired, true).await.map_err(|e| one_lines(&e))?;
            planned.extend(prepared.into_iter().map(|item| item.plan));
        }
    }
    Ok((plan, planned))
}

impl Run<'_> {
    /// The time now, counted from the beginning of the run.
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// A time, counted from the beginning of the run.
    fn run_time(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }

    /// Remembers which apps pods belong to, also once they have gone.
    fn note_apps(&mut self, pods: &[Pod]) {
        let apps = pods.iter().filter_map(|pod| Some((pod.uid.clone(), pod.app()?.to_owned())));
        self.apps.extend(apps);
    }

    /// What ends a run before anything was injected refuses it: nothing has deviated.
    fn unless_untouched(&self, ended: Ended) -> Ended {
        match ended {
            Ended::Stopped(why) if self.times.injected.is_none() => Ended::Refused(why),
            other => other,
        }
    }
}

/// A reason against a plan, and where in the experiment it is written.
fn said_at(experiment: &Experiment, error: &PlanError) -> String {
    let text = one_line(error);
    error.span().map_or(text.clone(), |span| format!("{text} ({})", experiment.place_of(span)))
}

/// An error and all its causes, on one line.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn one_lines(errors: &[AgentError]) -> Vec<String> {
    errors.iter().map(|e| one_line(e)).collect()
}

impl From<&Ended> for Verdict {
    fn from(ended: &Ended) -> Self {
        match ended {
            Ended::Refused(_) => Self::Refused,
            Ended::Stopped(_) => Self::Deviated,
            Ended::Halted(_) | Ended::Interrupted => Self::Interrupted,
        }
    }
}
