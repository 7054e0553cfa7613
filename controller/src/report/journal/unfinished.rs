//! A run whose journal has no verdict: it still goes on, its controller was killed or crashed, its machine
//! went down, or its disk was full. What is said of it is what was known then, and until when at the latest
//! its faults can last. That nothing was done is said only where the journal says so: from lines that are
//! not there nothing follows.

use std::{collections::BTreeMap, time::Duration};

use super::{ALIVE_EVERY, Event, Journal, Phase, Prepared, observed};
use crate::{
    cluster::fault::{API_SERVER, DEADLINE_SLACK},
    experiment::Assertion,
    report::{
        AgentReport, AssertionReport, InjectionReport, PhaseReport, PodReport, Report,
        SCHEMA_VERSION, Verdict, time, utc,
    },
};

/// A fault, as far as the journal goes.
struct Known {
    prepared: Prepared,
    ordered_ms: Option<f64>,
    injected_ms: Option<f64>,
    proven: Option<(String, Option<f64>)>,
    no_effect: Option<String>,
    changes: u32,
    revert_asked: bool,
    reverted: Option<(Option<f64>, Option<String>)>,
    /// All that was known of it in the end.
    whole: Option<InjectionReport>,
}

impl Known {
    fn new(prepared: &Prepared) -> Self {
        Self {
            prepared: prepared.clone(),
            ordered_ms: None,
            injected_ms: None,
            proven: None,
            no_effect: None,
            changes: 0,
            revert_asked: false,
            reverted: None,
            whole: None,
        }
    }

    /// Whether it may have been in a kernel, and nothing says that it is not any more. That it was ordered
    /// may have happened after the last line.
    fn may_last(&self) -> bool {
        let is_reverted = self.whole.as_ref().map_or(self.reverted.is_some(), |whole| {
            whole.state == "reverted" && whole.residue.is_empty()
        });
        !is_reverted
    }

    fn report(&self) -> InjectionReport {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let Prepared { fault, kind, node, target, plan, .. } = self.prepared.clone();
        let (namespace, pod) = target.split_once('/').unwrap_or(("", &target));
        let pod = pod.split('[').next().unwrap_or(pod);
        let state = match (&self.reverted, self.ordered_ms) {
            (Some(_), _) => "reverted",
            (None, Some(_)) => "unknown",
            (None, None) => "prepared",
        };
        let (evidence, time_to_effect_ms) = self.proven.clone().unwrap_or_default();
        let effect = match (&self.proven, &self.no_effect) {
            (Some(_), _) => "proven",
            (None, Some(_)) => "failed",
            (None, None) => "pending",
        };
        let (reverted_at_ms, revert_reason) = self.reverted.clone().unwrap_or_default();
        let lasted_ms = self.injected_ms.zip(reverted_at_ms).map(|(from, to)| (to - from).max(0.0));
        InjectionReport {
            fault_id: fault,
            kind,
            node,
            namespace: namespace.into(),
            pod: pod.into(),
            app: None,
            counted: None,
            target: target.clone(),
            plan,
            state: state.into(),
            effect: effect.into(),
            evidence,
            prepared_at_ms: None,
            ordered_at_ms: self.ordered_ms,
            injected_at_ms: self.injected_ms,
            reverted_at_ms,
            time_to_effect_ms,
            time_to_effect_uncertainty_ms: None,
            lasted_ms,
            time_to_revert_ms: None,
            revert_reason,
            follow: None,
            changes: self.changes,
            let_go: None,
            residue: Vec::new(),
            changed_by_others: Vec::new(),
            failure: self.no_effect.clone(),
        }
    }
}

/// What was known.
#[derive(Default)]
struct State {
    faults: Vec<Known>,
    agents: Vec<AgentReport>,
    pods: BTreeMap<usize, PodReport>,
    phases: Vec<PhaseReport>,
    phase: Option<(Phase, Option<usize>)>,
    /// What was prepared when that began.
    faults_before: usize,
    reasons: Vec<String>,
    residue: Vec<String>,
    /// Nothing is injected any more: the run was ended, or its method is over.
    is_over: bool,
    /// The disk had no room for everything.
    is_full: bool,
}

impl State {
    fn of(journal: &Journal) -> Self {
        let mut state = Self::default();
        journal.lines.iter().for_each(|line| state.take(&line.event, line.at_ms));
        state
    }

    fn take(&mut self, event: &Event, at_ms: f64) {
        match event {
            Event::Agent(agent) => self.agents.push(agent.clone()),
            Event::Phase { phase, step } => {
                self.phase = Some((*phase, *step));
                let (phase, step, began_ms) = (*phase, *step, at_ms);
                self.phases.push(PhaseReport { phase, step, began_ms });
                self.is_over |= matches!(phase, Phase::Recovery | Phase::Judge);
                self.faults_before = self.faults.len();
            }
            Event::Prepared(prepared) => self.faults.push(Known::new(prepared)),
            Event::Ordered { faults } => {
                self.each(faults, |known| known.ordered_ms = Some(at_ms));
            }
            Event::Committed { fault, injected_ms } => {
                self.one(fault, |known| known.injected_ms = Some(*injected_ms));
            }
            Event::Proven { fault, evidence, time_to_effect_ms } => {
                let proven = (evidence.clone(), *time_to_effect_ms);
                self.one(fault, |known| known.proven = Some(proven));
            }
            Event::NoEffect { fault, why } => {
                self.one(fault, |known| known.no_effect = Some(why.clone()));
            }
            Event::Amended { fault } => self.one(fault, |known| known.changes += 1),
            Event::RevertAsked { faults } => self.each(faults, |known| known.revert_asked = true),
            Event::Reverted { fault, reverted_ms, reason } => {
                let reverted = (*reverted_ms, reason.clone());
                self.one(fault, |known| known.reverted = Some(reverted));
            }
            Event::Injection(report) => {
                self.one(&report.fault_id, |known| known.whole = Some(report.as_ref().clone()));
            }
            Event::Pod { number, pod } => drop(self.pods.insert(*number, pod.clone())),
            Event::Deviation { text, .. } => self.reasons.push(text.clone()),
            Event::Stopped { reasons } => {
                self.reasons.extend(reasons.iter().cloned());
                self.is_over = true;
            }
            Event::Full { .. } => self.is_full = true,
            Event::Residue { text } => self.residue.push(text.clone()),
            Event::Begun(_)
            | Event::Target { .. }
            | Event::RenewalFailed { .. }
            | Event::Sample(_)
            | Event::Moved { .. }
            | Event::Alive
            | Event::Lost { .. }
            | Event::Verdict(_)
            | Event::Ended { .. } => {}
        }
    }

    fn one(&mut self, fault: &str, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.faults.iter_mut().find(|known| known.prepared.fault == fault) {
            change(known);
        }
    }

    fn each(&mut self, faults: &[String], change: impl Fn(&mut Known)) {
        for fault in faults {
            self.one(fault, &change);
        }
    }

    /// Whether agents had been asked to prepare, and what came of it is not known.
    fn is_preparing(&self) -> bool {
        let is_inject = self.phase.is_some_and(|(phase, _)| phase == Phase::Inject);
        is_inject && self.faults.len() == self.faults_before
    }

    /// What was being done: `while step 1 was in effect`.
    fn doing(&self) -> String {
        let Some((phase, step)) = self.phase else { return "before its first phase".into() };
        let step = step.map_or("a step".to_owned(), |step| format!("step {step}"));
        match phase {
            Phase::Preflight => "while the agents were asked".into(),
            Phase::Steady => "in the look at the steady state".into(),
            Phase::Wait => format!("in the wait of {step}"),
            Phase::Quiet => format!("in the quiet time of {step}"),
            Phase::Inject => format!("while {step} was injected"),
            Phase::Hold => format!("while {step} was in effect"),
            Phase::Revert => format!("while {step} was reverted"),
            Phase::Recovery => "while the system was to recover".into(),
            Phase::Judge => "before it was judged".into(),
        }
    }
}

/// What was known of a run that has no end.
pub(super) fn report(journal: &Journal) -> Report {
    let state = State::of(journal);
    let begun = &journal.begun;
    let last_ms = journal.lines.last().map_or(0.0, |line| line.at_ms);
    let origin_ms = origin_ms(journal);
    let wall = |at_ms: f64| utc(from_ms(origin_ms + at_ms));
    let mut reasons = vec![ending(journal, &state, last_ms, &wall)];
    let lasting: Vec<&Known> = state.faults.iter().filter(|known| known.may_last()).collect();
    reasons.extend(
        lasting.iter().map(|known| may_last(known, journal, last_ms, state.is_full, &wall)),
    );
    if state.is_preparing() {
        reasons.push(
            "agents had been asked to prepare, and what came of it is not known: `faultline ps` shows what \
             there is now"
                .into(),
        );
    }
    if !state.is_over && !state.is_preparing() {
        reasons.push(
            "the journal does not tell whether anything more was injected after that: `faultline ps` shows \
             what there is now"
                .into(),
        );
    }
    reasons.extend(state.reasons.iter().cloned());
    let was_ordered = state.faults.iter().any(|known| known.ordered_ms.is_some());
    let is_clean =
        state.is_over && lasting.is_empty() && state.residue.is_empty() && !state.is_preparing();
    // As a run that came to this would have ended: what may be left comes first, then that nothing was
    // observed to the end.
    let like = match (is_clean, was_ordered) {
        (false, _) => Verdict::Residue,
        (true, true) => Verdict::Deviated,
        (true, false) => Verdict::Refused,
    };
    let experiment = observed::experiment(begun);
    let (probes, downtime) =
        experiment.as_ref().map(|e| observed::probes(journal, e)).unwrap_or_default();
    let assertions = experiment.iter().flat_map(|experiment| {
        let not_judged =
            |a: &Assertion| AssertionReport::not_judged(a, experiment.place_of(a.span));
        experiment.assertions.iter().map(not_judged)
    });
    let assertions = assertions.collect();
    Report {
        schema_version: SCHEMA_VERSION,
        experiment: begun.experiment.clone(),
        file: begun.file.clone(),
        labels: experiment.map(|e| e.labels.clone()).unwrap_or_default(),
        hypothesis: begun.hypothesis.clone(),
        run_id: begun.run_id.clone(),
        seed: begun.seed,
        place: begun.place.clone(),
        started_unix_seconds: begun.started_unix_seconds,
        started_unix_ms: journal.lines.first().map_or(0, |line| line.wall_unix_ms),
        trace_id: None,
        phases: state.phases,
        duration_ms: last_ms,
        verdict: Verdict::Unfinished,
        reasons,
        injections: state.faults.iter().map(Known::report).collect(),
        not_followed: Vec::new(),
        commit_skew_ms: None,
        probes,
        pods: state.pods.into_values().collect(),
        downtime,
        assertions,
        stopped: None,
        residue: state.residue,
        environment: begun.environment.clone(),
        agents: state.agents,
        exit_code: like.exit_code(),
    }
}

/// Where the journal ends, and why that can be.
fn ending(journal: &Journal, state: &State, last_ms: f64, wall: &impl Fn(f64) -> String) -> String {
    let (after, wall, doing) = (time(from_ms(last_ms)), wall(last_ms), state.doing());
    if journal.is_live {
        return format!(
            "the run is still going on; this is what was known {after} after it began ({wall}), {doing}"
        );
    }
    let why = if state.is_full {
        "its disk was full, or its controller was killed or crashed, or its machine went down"
    } else {
        "its controller was killed or crashed, its machine went down, or its disk was full"
    };
    format!("the journal ends {after} after the run began ({wall}), {doing}: {why}")
}

/// Until when at the latest a fault is in effect of which nothing says that it was reverted.
fn may_last(
    known: &Known,
    journal: &Journal,
    last_ms: f64,
    is_full: bool,
    wall: &impl Fn(f64) -> String,
) -> String {
    let Prepared { kind, target, node, deadline_ms, .. } = &known.prepared;
    let since = known.injected_ms.map_or_else(
        || "was prepared, and may have been injected".to_owned(),
        |at| format!("was in effect from {} on", time(from_ms(at))),
    );
    let asked = if known.revert_asked { " Its revert had been asked for." } else { "" };
    if node == API_SERVER {
        let end = api_end(known, last_ms, wall);
        return format!(
            "the {kind} of {target} through the {node} {since}, and nothing says that it was reverted.{asked} {end}. \
             `faultline ps` shows what there is now"
        );
    }
    let now_ms = millis_of(journal.read_at.as_millis()) - origin_ms(journal);
    let by = |end_ms: f64| {
        let ended =
            if journal.is_live || end_ms > now_ms { "will have ended" } else { "had ended" };
        let after = time(from_ms(end_ms));
        format!("{ended} by {after} after the run began at the latest ({})", wall(end_ms))
    };
    let lease_end_ms = last_ms + millis_of(ALIVE_EVERY.as_millis()) + journal.begun.lease_ms;
    // A lease is renewed while the controller lives, whatever becomes of its journal.
    let end = if journal.is_live || is_full || lease_end_ms >= *deadline_ms {
        format!("It {}: at its deadline", by(*deadline_ms))
    } else {
        format!(
            "If its controller ended with the journal, it {}: with its lease. If not, it {}: at its deadline",
            by(lease_end_ms),
            by(*deadline_ms)
        )
    };
    format!(
        "the {kind} of {target} on {node} {since}, and nothing says that it was reverted.{asked} {end}. \
         `faultline ps` shows what there is now"
    )
}

/// What takes a change of an object back: it has no lease.
fn api_end(known: &Known, last_ms: f64, wall: &impl Fn(f64) -> String) -> String {
    let lasts_ms = known.prepared.lasts_ms;
    if lasts_ms <= 0.0 {
        return "It was over at once, where it was done at all".into();
    }
    let from_ms = known.injected_ms.or(known.ordered_ms).unwrap_or(last_ms);
    let end_ms = from_ms + lasts_ms + millis_of(DEADLINE_SLACK.as_millis());
    format!(
        "No lease ends it: `faultline controller`, where it stands by in the cluster, takes it back at its deadline, {} \
         after the run began ({}), and `faultline halt` at once",
        time(self::from_ms(end_ms)),
        wall(end_ms)
    )
}

/// When the run began by the wall clock, in milliseconds since 1970.
fn origin_ms(journal: &Journal) -> f64 {
    journal.lines.first().map_or(0.0, |line| millis_of(line.wall_unix_ms) - line.at_ms)
}

fn from_ms(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds are far below 2^52")]
fn millis_of(ms: impl TryInto<u64>) -> f64 {
    ms.try_into().unwrap_or(u64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(lasts_ms: f64) -> Known {
        Known::new(&Prepared {
            fault: "00000000000000a1".into(),
            kind: "scale".into(),
            node: API_SERVER.into(),
            target: "shop/deployment/api".into(),
            plan: "scale it to 0".into(),
            lasts_ms,
            deadline_ms: 0.0,
        })
    }

    #[test]
    fn what_was_changed_through_the_api_server_has_a_deadline_and_no_lease() {
        let wall = |at_ms: f64| format!("wall {at_ms}");
        let mut known = prepared(8_000.0);
        known.injected_ms = Some(2_000.0);
        let end = api_end(&known, 3_000.0, &wall);
        assert!(end.contains("faultline controller") && end.contains("faultline halt"), "{end}");
        assert!(end.contains("wall 20000"), "8 s from second 2 on, and 10 s: {end}");
        assert!(!end.contains("with its lease"), "{end}");
        assert!(api_end(&prepared(0.0), 3_000.0, &wall).contains("at once"));
    }
}
