//! What is asked of agents outside of a run: what is injected now, halt and resume.
//!
//! These work while some agents cannot be reached, and say which: an operator in a hurry must not be
//! held up by the node that is down.

use std::time::{Duration, Instant};

use faultline_proto::{
    boottime::BootTime,
    pb,
    status::{Proof, State},
    target::Target,
};
use serde::Serialize;

use crate::{
    agents::{ANSWER_MAX, AgentClock, AgentError, Answers, Fleet},
    place::Place,
    report::{millis, time},
    run::one_line,
    sandbox::StepError,
};

/// What came of asking every agent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Every injection on every node that answered.
    pub injections: Vec<Injected>,
    /// Nodes that refuse new injections, and why.
    pub halted: Vec<Halted>,
    /// Nodes where something could not be reverted, and what to do about it.
    pub stuck: Vec<Stuck>,
    /// Nodes that could not be asked, and why.
    pub unreachable: Vec<String>,
}

/// A node that refuses new injections.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Halted {
    /// The node.
    pub node: String,
    /// What whoever halted it wrote.
    pub reason: String,
}

/// A node where something could not be reverted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// The node.
    pub node: String,
    /// What its agent says of it.
    pub reason: String,
}

/// An injection on a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Injected {
    /// The node.
    pub node: String,
    /// Its id.
    pub fault_id: String,
    /// The run it belongs to.
    pub run_id: String,
    /// Its kind.
    pub kind: String,
    /// `namespace/pod`, or `namespace/pod[container]`.
    pub target: String,
    /// `active`, `stuck`, …
    pub state: String,
    /// `proven`, `pending` or `failed`.
    pub effect: String,
    /// Until its lease ends, if nobody renews it.
    pub lease_left_ms: Option<f64>,
    /// Until its absolute latest end.
    pub deadline_left_ms: Option<f64>,
    /// What the kernel still holds of it.
    pub residue: Vec<String>,
}

impl Overview {
    /// Whether a revert could not be proven somewhere.
    pub fn has_residue(&self) -> bool {
        !self.stuck.is_empty()
            || self.injections.iter().any(|injection| !injection.residue.is_empty())
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.injections.is_empty() {
            line(&mut out, "nothing is injected");
        }
        for i in &self.injections {
            let left = |ms: Option<f64>| {
                ms.map_or("-".into(), |ms| time(Duration::from_secs_f64(ms / 1e3)))
            };
            let text = format!(
                "{}  {} of {}  {}, effect {}, lease {}, deadline {}, fault {}",
                i.node,
                i.kind,
                i.target,
                i.state,
                i.effect,
                left(i.lease_left_ms),
                left(i.deadline_left_ms),
                i.fault_id
            );
            line(&mut out, &text);
            for residue in &i.residue {
                line(&mut out, &format!("    left: {residue}"));
            }
        }
        for halted in &self.halted {
            line(&mut out, &format!("{}  halted: {}", halted.node, halted.reason));
        }
        for stuck in &self.stuck {
            line(&mut out, &format!("{}  {}", stuck.node, stuck.reason));
        }
        for unreachable in &self.unreachable {
            line(&mut out, &format!("not asked: {unreachable}"));
        }
        out
    }
}

/// What is injected right now, on every node, and until when.
///
/// # Errors
/// When the controller's credentials cannot be read.
pub async fn ps(place: &Place) -> Result<Overview, StepError> {
    let (fleet, errors) = Fleet::connect_some(&place.agents(), &place.credentials()?).await;
    let answers = fleet.list(ANSWER_MAX).await;
    Ok(overview(&fleet, answers, &errors, |state| state != Some(State::Reverted)))
}

/// Reverts everything everywhere, and has the agents refuse new injections until they are resumed.
///
/// # Errors
/// When the controller's credentials cannot be read.
pub async fn halt(place: &Place, reason: &str) -> Result<Overview, StepError> {
    let (fleet, errors) = Fleet::connect_some(&place.agents(), &place.credentials()?).await;
    let answers = fleet.halt(reason).await;
    let mut overview = overview(&fleet, answers, &errors, |_| true);
    // Halting has just tried again what was stuck: its answer names what is left.
    overview.stuck.clear();
    overview.halted = fleet
        .agents()
        .filter(|agent| {
            !overview.unreachable.iter().any(|u| u.contains(&format!("node {}:", agent.node())))
        })
        .map(|agent| Halted { node: agent.node().into(), reason: reason.into() })
        .collect();
    Ok(overview)
}

/// Allows new injections again. Returns what could not be done.
///
/// # Errors
/// When the controller's credentials cannot be read.
pub async fn resume(place: &Place) -> Result<Vec<String>, StepError> {
    let (fleet, errors) = Fleet::connect_some(&place.agents(), &place.credentials()?).await;
    let answers = fleet.resume().await;
    let failed = answers.into_values().filter_map(Result::err).chain(errors);
    Ok(failed.map(|e| one_line(&e)).collect())
}

fn overview(
    fleet: &Fleet,
    answers: Answers<Vec<pb::InjectionStatus>>,
    errors: &[AgentError],
    wanted: impl Fn(Option<State>) -> bool,
) -> Overview {
    let mut unreachable: Vec<String> = errors.iter().map(|e| one_line(e)).collect();
    let mut injections = Vec::new();
    for (node, answer) in answers {
        match (answer, fleet.get(&node)) {
            (Ok(statuses), Some(agent)) => {
                let shown = statuses.into_iter().filter(|s| wanted(State::from_wire(s.state)));
                injections.extend(shown.map(|status| injected(&node, status, agent.clock())));
            }
            (Ok(_), None) => {}
            (Err(e), _) => unreachable.push(one_line(&e)),
        }
    }
    let halted = fleet.agents().filter_map(|agent| {
        let reason = agent.description().halted_reason.clone()?;
        Some(Halted { node: agent.node().into(), reason })
    });
    let stuck = fleet.agents().filter_map(|agent| {
        let reason = agent.description().stuck_reason.clone()?;
        Some(Stuck { node: agent.node().into(), reason })
    });
    Overview { injections, halted: halted.collect(), stuck: stuck.collect(), unreachable }
}

fn injected(node: &str, status: pb::InjectionStatus, clock: &AgentClock) -> Injected {
    let state = State::from_wire(status.state);
    let held = matches!(state, Some(State::Prepared | State::Injecting | State::Active));
    let left = |boottime_ns: u64| {
        let end = clock.to_here(BootTime::from_nanos(boottime_ns));
        held.then(|| millis(end.saturating_duration_since(Instant::now())))
    };
    let word = |shown: Option<String>| shown.unwrap_or("unknown".into()).to_lowercase();
    let proof = status.effect.as_ref().and_then(|effect| Proof::from_wire(effect.proof));
    let target = status.target.and_then(|target| Target::try_from(target).ok());
    Injected {
        node: node.into(),
        fault_id: status.fault_id,
        run_id: status.run_id,
        kind: status.kind,
        target: target.map_or("unknown".into(), |target| target.to_string()),
        state: word(state.map(|s| format!("{s:?}"))),
        effect: word(proof.map(|p| format!("{p:?}"))),
        lease_left_ms: left(status.lease_end_boottime_ns),
        deadline_left_ms: left(status.deadline_boottime_ns),
        residue: status.residue,
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}
