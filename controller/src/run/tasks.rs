//! What agents are asked while targets are followed, each in a task of its own, and what is made of their
//! answers.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use faultline_proto::{
    id::RunId,
    pb,
    status::{Proof, State},
};
use tonic::Code;

use super::{
    Run,
    ended::is_reverted,
    one_line,
    tracked::{Shared, Tracked, is_about, lock, take_in},
};
use crate::{
    agents::{ANSWER_MAX, AgentError, Fleet, Orders},
    plan::What,
    report::journal::Event,
};

/// An answer, or that there will be none.
pub(super) enum Done {
    /// An injection on a new target was prepared and committed, or not.
    Injected { id: String, key: String, result: Result<(), Failure> },
    /// An injection was amended, or not.
    Amended { id: String, fault: What, result: Result<(), Failure> },
    /// An injection was let go.
    Reverted { id: String },
}

/// Why something did not work.
pub(super) struct Failure {
    why: String,
    /// Whether it may work later.
    of_use: bool,
    /// Whether nothing of it can be at the agent.
    nothing_done: bool,
}

/// What it takes to inject on a new target.
pub(super) struct Asked {
    pub(super) fleet: Arc<Fleet>,
    pub(super) run_id: RunId,
    pub(super) tracked: Shared,
    /// What its attempts are known by.
    pub(super) key: String,
}

/// Prepares and commits an injection that is tracked already.
pub(super) async fn inject(asked: Asked, node: String, wire: pb::Injection) -> Done {
    let Asked { fleet, run_id, tracked, key } = asked;
    let id = wire.fault_id.clone();
    let nodes = BTreeMap::from([(node.clone(), vec![wire])]);
    let orders = Orders { nodes, api: Vec::new() };
    let prepared = match fleet.prepare(run_id, &orders, false).await {
        Ok(prepared) => prepared,
        Err(errors) => {
            let result = Err(Failure { nothing_done: true, ..Failure::of(&errors) });
            return Done::Injected { id, key, result };
        }
    };
    if let Some(item) = lock(&tracked).get_mut(&id) {
        item.plan = prepared.into_iter().map(|item| item.plan).collect();
        if item.revert_asked.is_some() {
            // It has been let go meanwhile, which is reverted where it is told.
            return Done::Injected { id, key, result: Ok(()) };
        }
        item.ordered = Some(Instant::now());
    }
    let ids = BTreeMap::from([(node, vec![id.clone()])]);
    let errors = take_in(&tracked, fleet.commit(&ids).await);
    let result = match errors.as_slice() {
        [] => Ok(()),
        // It may have been done. It is renewed and reverted like the others, and not tried again.
        errors => Err(Failure { of_use: false, ..Failure::of(errors) }),
    };
    Done::Injected { id, key, result }
}

/// Amends an injection.
pub(super) async fn amend(
    fleet: Arc<Fleet>,
    tracked: Shared,
    node: String,
    amendment: pb::Amendment,
    fault: What,
) -> Done {
    let id = amendment.fault_id.clone();
    let mut answers = fleet.amend(&BTreeMap::from([(node.clone(), vec![amendment])])).await;
    let said = |why: &str| Failure { why: why.into(), of_use: true, nothing_done: false };
    let result = match answers.remove(&node) {
        None => Err(said("no agent is known there")),
        // One that has ended meanwhile is refused, too, and is told as such.
        Some(Err(error)) => {
            let is_unable = matches!(&error, AgentError::Refused { status, .. }
                if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument));
            Err(Failure { of_use: !is_unable, ..Failure::of(&[error]) })
        }
        Some(Ok(statuses)) => {
            let mut items = lock(&tracked);
            let item = items.get(&id);
            let status = statuses.iter().find(|status| {
                status.fault_id == id && item.is_some_and(|item| is_about(status, item))
            });
            let result = status.map_or_else(|| Err(said("its agent said nothing of it")), amended);
            if let (Err(_), Some(item)) = (&result, items.get_mut(&id)) {
                // Told as a change that failed, and not once more as an effect that is missing.
                item.told.failure = true;
            }
            drop(items);
            take_in(&tracked, BTreeMap::from([(node, Ok(statuses))]));
            result
        }
    };
    Done::Amended { id, fault, result }
}

/// Whether an injection does what it was amended to.
fn amended(status: &pb::InjectionStatus) -> Result<(), Failure> {
    let effect = status.effect.clone().unwrap_or_default();
    let why = match (State::from_wire(status.state), Proof::from_wire(effect.proof)) {
        // One that has ended meanwhile is told as such.
        (Some(State::Reverting | State::Reverted | State::Stuck), _) | (_, Some(Proof::Proven)) => {
            return Ok(());
        }
        _ if !status.failure.is_empty() => status.failure.clone(),
        _ => format!("the change had no effect: {}", effect.evidence),
    };
    Err(Failure { why, of_use: false, nothing_done: false })
}

/// Reverts an injection that is let go.
pub(super) async fn revert(fleet: Arc<Fleet>, tracked: Shared, item: Tracked) -> Done {
    let ids = BTreeMap::from([(item.node, vec![item.id.clone()])]);
    // Who does not answer is asked again at the end of the step.
    drop(take_in(&tracked, fleet.revert(&ids, ANSWER_MAX).await));
    Done::Reverted { id: item.id }
}

impl Failure {
    fn of(errors: &[AgentError]) -> Self {
        let why: Vec<String> = errors.iter().map(|error| one_line(error)).collect();
        let of_use = errors.iter().all(|error| match error {
            AgentError::Missing { .. } | AgentError::Api(_) => false,
            AgentError::Unreachable { .. } => true,
            // A pod may be known before its node sees its processes.
            AgentError::Refused { status, .. } => {
                matches!(status.code(), Code::NotFound | Code::ResourceExhausted | Code::Internal)
            }
        });
        Self { why: why.join("; "), of_use, nothing_done: false }
    }
}

impl Run<'_> {
    /// Takes in what has been answered since the last look.
    pub(super) fn take_done(&mut self, tracked: &Shared) {
        while let Some(done) =
            self.following.as_mut().and_then(|following| following.tasks.try_join_next())
        {
            // A task that was aborted has nothing to tell; its injection is reverted with the others.
            let Ok(done) = done else { continue };
            match done {
                Done::Injected { id, key, result } => {
                    if let (Ok(()), Some(item)) = (&result, lock(tracked).get(&id)) {
                        self.console.say("inject", &format!("{}: {}", item.target, item.plan));
                        self.record_committed_one(item);
                    }
                    if result.as_ref().is_err_and(|failure| failure.nothing_done) {
                        lock(tracked).remove(&id);
                        let reason = Some("it was never injected".into());
                        self.recorder.tell(Event::Reverted {
                            fault: id,
                            reverted_ms: None,
                            reason,
                        });
                    }
                    self.attempted(&key, result);
                }
                Done::Amended { id, fault, result } => {
                    if let (Ok(()), Some(item)) = (&result, lock(tracked).get_mut(&id)) {
                        item.fault = fault;
                        item.amended += 1;
                        let text = format!("{}: changed with its targets, proven", item.target);
                        self.console.say("amend", &text);
                        self.recorder.tell(Event::Amended { fault: id.clone() });
                    }
                    self.attempted(&id, result);
                }
                Done::Reverted { id } => {
                    let mut items = lock(tracked);
                    let Some(item) = items.get_mut(&id) else { continue };
                    if is_reverted(item) && !item.told.revert {
                        item.told.revert = true;
                        let text = format!("{}: let go, proven, nothing is left", item.target);
                        self.console.say("revert", &text);
                        self.record_reverted(item);
                    }
                }
            }
        }
    }

    fn attempted(&mut self, key: &str, result: Result<(), Failure>) {
        let Some(following) = &mut self.following else { return };
        let told = match result {
            Ok(()) => {
                following.attempts.succeeded(key);
                None
            }
            Err(failure) => following.attempts.failed(key, failure.why, failure.of_use),
        };
        if let Some(text) = told {
            self.deviate("follow", text);
        }
    }
}
