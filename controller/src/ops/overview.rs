//! What the agents of all nodes answered, as one thing to print.

use std::time::{Duration, Instant};

use faultline_proto::{
    boottime::BootTime,
    pb,
    status::{Proof, State},
    target::Target,
};
use serde::Serialize;

use super::Unreachable;
use crate::{
    agents::{Agent, AgentClock, AgentError, Answers, Fleet},
    cluster::fault::API_SERVER,
    report::{millis, time},
};

/// What came of asking every agent.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Every injection on every node that answered.
    pub injections: Vec<Injected>,
    /// Nodes that refuse new injections, and why.
    pub halted: Vec<Halted>,
    /// What could not be reverted, and what to do about it.
    pub stuck: Vec<Stuck>,
    /// Nodes that could not be asked, why, and until when at most their faults last.
    pub unreachable: Vec<Unreachable>,
    /// Nodes that were asked and refused.
    pub refused: Vec<Refused>,
    /// What else is of interest, each in a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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

/// Something that could not be reverted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// The node.
    pub node: String,
    /// The fault; empty for a journal file whose name tells none.
    pub fault_id: String,
    /// What its agent says of it.
    pub reason: String,
    /// A person has looked at it: it keeps no new fault from the node.
    pub acknowledged: bool,
}

impl Stuck {
    /// What an agent said of it when it was connected to.
    pub(super) fn of(agent: &Agent) -> impl Iterator<Item = Self> {
        let stuck = agent.description().stuck.iter().cloned();
        stuck.map(|pb::StuckFault { fault_id, reason, acknowledged }| Self {
            node: agent.node().into(),
            fault_id,
            reason,
            acknowledged,
        })
    }
}

/// A node whose agent said no.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// The node.
    pub node: String,
    /// What its agent said, or why it could not be asked.
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
    /// Whether a revert could not be proven somewhere. An acknowledgement proves nothing.
    pub fn has_residue(&self) -> bool {
        !self.stuck.is_empty()
            || self.injections.iter().any(|injection| !injection.residue.is_empty())
    }

    /// Where it is not proven that nothing is left, a sentence for each.
    pub fn unproven(&self) -> Vec<String> {
        let left = self.injections.iter().flat_map(|injection| {
            let Injected { node, fault_id, .. } = injection;
            injection
                .residue
                .iter()
                .map(move |left| format!("{node}: {left} is left of {fault_id}"))
        });
        let stuck = self.stuck.iter().map(|Stuck { node, reason, .. }| format!("{node}: {reason}"));
        let silent = self.unreachable.iter().map(|silent| silent.reason.clone());
        let refused = self.refused.iter().map(|refused| refused.reason.clone());
        left.chain(stuck).chain(silent).chain(refused).collect()
    }

    /// Takes in what came of asking somebody else.
    pub(super) fn extend(&mut self, other: Self) {
        let Self { injections, halted, stuck, unreachable, refused, notes } = other;
        self.injections.extend(injections);
        self.halted.extend(halted);
        self.stuck.extend(stuck);
        self.unreachable.extend(unreachable);
        self.refused.extend(refused);
        self.notes.extend(notes);
    }

    /// Whether every agent did what it was asked.
    pub fn is_complete(&self) -> bool {
        self.unreachable.is_empty() && self.refused.is_empty()
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.injections.is_empty() {
            let where_asked = if self.is_complete() { "" } else { " on the nodes that answered" };
            lines.push(format!("nothing is injected{where_asked}"));
        }
        for injection in &self.injections {
            lines.push(injection.line());
            lines.extend(injection.residue.iter().map(|residue| format!("    left: {residue}")));
        }
        for Halted { node, reason } in &self.halted {
            lines.push(format!("{node}  halted: {reason}"));
        }
        for Stuck { node, reason, .. } in &self.stuck {
            lines.push(format!("{node}  {reason}"));
        }
        lines.extend(self.unreachable.iter().flat_map(Unreachable::lines));
        lines.extend(
            self.refused.iter().map(|Refused { reason, .. }| format!("not done: {reason}")),
        );
        lines.extend(self.notes.iter().cloned());
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

impl Injected {
    fn line(&self) -> String {
        let left =
            |ms: Option<f64>| ms.map_or("-".into(), |ms| time(Duration::from_secs_f64(ms / 1e3)));
        format!(
            "{}  {} of {}  {}, {}deadline {}, fault {}",
            self.node,
            self.kind,
            self.target,
            self.state,
            // What is on an object has no lease, and only its run knows what was seen of it.
            if self.node == API_SERVER {
                String::new()
            } else {
                format!("effect {}, lease {}, ", self.effect, left(self.lease_left_ms))
            },
            left(self.deadline_left_ms),
            self.fault_id
        )
    }
}

/// Puts together what agents answered. `held` is what they said of their injections before, where they
/// were asked.
pub(super) fn overview(
    fleet: &Fleet,
    answers: Answers<Vec<pb::InjectionStatus>>,
    errors: &[AgentError],
    held: &Answers<Vec<pb::InjectionStatus>>,
    wanted: impl Fn(Option<State>) -> bool,
) -> Overview {
    let mut unreachable: Vec<Unreachable> =
        errors.iter().map(|error| Unreachable::new(error, None)).collect();
    let mut refused = Vec::new();
    let mut injections = Vec::new();
    for (node, answer) in answers {
        let Some(agent) = fleet.get(&node) else { continue };
        match answer {
            Ok(statuses) => {
                let shown = statuses.into_iter().filter(|s| wanted(State::from_wire(s.state)));
                injections.extend(shown.map(|status| injected(&node, status, &agent.clock())));
            }
            Err(error @ AgentError::Refused { .. }) => refused.push(Refused::new(&error)),
            Err(error) => {
                let held = held.get(&node).and_then(|held| held.as_deref().ok());
                unreachable.push(Unreachable::new(&error, held.map(|held| (agent, held))));
            }
        }
    }
    let halted = fleet.agents().filter_map(|agent| {
        let reason = agent.description().halted_reason.clone()?;
        Some(Halted { node: agent.node().into(), reason })
    });
    let stuck = fleet.agents().flat_map(Stuck::of);
    let (halted, stuck) = (halted.collect(), stuck.collect());
    Overview { injections, halted, stuck, unreachable, refused, notes: Vec::new() }
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
