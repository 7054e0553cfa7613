//! What is known of the injections of one step. Only what an agent said of the injection that it was
//! asked about is taken in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use faultline_proto::{
    fault::Hold,
    pb,
    status::{Proof, RevertReason, State},
    target::Target,
};

use super::inject::each;
use crate::agents::{AgentError, Answers, ByNode};
use crate::plan::PlannedFault;

/// An injection of this step, as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) id: String,
    pub(super) node: String,
    pub(super) kind: &'static str,
    pub(super) target: String,
    pub(super) hold: Hold,
    /// When it is to be reverted, after the commit.
    pub(super) duration: Duration,
    pub(super) plan: String,
    pub(super) status: Option<pb::InjectionStatus>,
    /// When the injection was ordered.
    pub(super) ordered: Option<Instant>,
    /// When the revert was asked for.
    pub(super) revert_asked: Option<Instant>,
    /// The proof of the revert has been told.
    pub(super) revert_told: bool,
    /// It has been looked at whether it ended as planned.
    pub(super) end_told: bool,
}

/// The injections of a step, shared with the task that renews their leases.
pub(super) type Shared = Arc<Mutex<BTreeMap<String, Tracked>>>;

pub(super) fn track(
    faults: &[PlannedFault],
    injections: &ByNode<pb::Injection>,
    plans: &BTreeMap<String, String>,
) -> BTreeMap<String, Tracked> {
    // `wire` went through the faults in the same order, node by node.
    let mut wired: BTreeMap<&String, std::slice::Iter<'_, pb::Injection>> =
        injections.iter().map(|(node, list)| (node, list.iter())).collect();
    let mut tracked = BTreeMap::new();
    for (fault, injection) in each(faults) {
        let Some(wire) = wired.get_mut(&injection.node).and_then(Iterator::next) else { continue };
        tracked.insert(
            wire.fault_id.clone(),
            Tracked {
                id: wire.fault_id.clone(),
                node: injection.node.clone(),
                kind: injection.fault.kind(),
                target: injection.target.to_string(),
                hold: injection.fault.hold(),
                duration: match injection.fault.hold() {
                    Hold::Lasts => fault.inject.duration,
                    Hold::Instant => injection.fault.proof_window(),
                },
                plan: plans.get(&wire.fault_id).cloned().unwrap_or_default(),
                status: None,
                ordered: None,
                revert_asked: None,
                revert_told: false,
                end_told: false,
            },
        );
    }
    tracked
}

/// Takes in what agents said. Returns what went wrong; statuses of other injections are left out, and
/// so is an answer about another target than was asked for: such an agent is not believed.
pub(super) fn take_in(
    tracked: &Shared,
    answers: Answers<Vec<pb::InjectionStatus>>,
) -> Vec<AgentError> {
    let mut errors = Vec::new();
    let mut items = lock(tracked);
    for (node, answer) in answers {
        match answer {
            Ok(statuses) => {
                for status in statuses {
                    if let Some(item) = items.get_mut(&status.fault_id)
                        && item.node == node
                        && is_about(&status, item)
                    {
                        take_in_one(item, status);
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// Takes in one status. Answers to requests that were under way at once come in any order, and an
/// agent that was restarted knows of no proof: what is known is not forgotten.
fn take_in_one(item: &mut Tracked, mut new: pb::InjectionStatus) {
    if let Some(known) = item.status.take() {
        if age(&new) < age(&known) {
            item.status = Some(known);
            return;
        }
        let settled = |status: &pb::InjectionStatus| {
            let proof = status.effect.as_ref().and_then(|effect| Proof::from_wire(effect.proof));
            matches!(proof, Some(Proof::Proven | Proof::Failed))
        };
        if settled(&known) && !settled(&new) {
            new.effect = known.effect;
        }
        if new.committed_boottime_ns == 0 {
            new.committed_boottime_ns = known.committed_boottime_ns;
        }
    }
    item.status = Some(new);
}

/// How far into the life of an injection a status is; a later one never has less.
fn age(status: &pb::InjectionStatus) -> u8 {
    match State::from_wire(status.state) {
        None | Some(State::Prepared) => 0,
        Some(State::Injecting) => 1,
        Some(State::Active) => 2,
        // Asking again makes one that is stuck revert again.
        Some(State::Reverting | State::Stuck) => 3,
        Some(State::Reverted) => 4,
    }
}

/// Whether a status is about the injection that was asked for. An agent that was restarted since has
/// no record of what had ended, and says no more than what its kernel holds by that name.
pub(super) fn is_about(status: &pb::InjectionStatus, item: &Tracked) -> bool {
    let is_over = matches!(State::from_wire(status.state), Some(State::Reverted | State::Stuck));
    if status.target.is_none() && status.kind.is_empty() && is_over {
        return true;
    }
    let target = status.target.clone().map(Target::try_from);
    let same = matches!(target, Some(Ok(target)) if target.to_string() == item.target);
    same && status.kind == item.kind
}

pub(super) fn ids_by_node(tracked: &Shared, wanted: impl Fn(&Tracked) -> bool) -> ByNode<String> {
    let mut by_node: ByNode<String> = BTreeMap::new();
    for item in lock(tracked).values().filter(|item| wanted(item)) {
        by_node.entry(item.node.clone()).or_default().push(item.id.clone());
    }
    by_node
}

pub(super) fn proof(item: &Tracked) -> Option<Proof> {
    Proof::from_wire(item.status.as_ref()?.effect.as_ref()?.proof)
}

/// Reverted, and the kernel said so: a state alone that names residue beside it is not believed.
pub(super) fn is_reverted(item: &Tracked) -> bool {
    item.status.as_ref().is_some_and(|status| {
        State::from_wire(status.state) == Some(State::Reverted) && status.residue.is_empty()
    })
}

/// When the controller takes it back by itself.
pub(super) fn ends_at(item: &Tracked, committed: Instant) -> Instant {
    committed + item.duration
}

/// Whether its time is over: what happens at one instant is, as soon as that is proven.
pub(super) fn is_over(item: &Tracked, committed: Instant, now: Instant) -> bool {
    let settled = matches!(proof(item), Some(Proof::Proven | Proof::Failed));
    (item.hold == Hold::Instant && settled) || now >= ends_at(item, committed)
}

/// That a fault which was to last was ended by something else than the controller, if it was: while its
/// agent could not be reached, say. One that failed has said so itself.
pub(super) fn ended_otherwise(item: &Tracked) -> Option<String> {
    let wire = item.status.as_ref()?.revert_reason;
    let otherwise = match RevertReason::from_wire(wire)? {
        RevertReason::Asked | RevertReason::InjectFailed | RevertReason::NeverCommitted => false,
        RevertReason::Deadline
        | RevertReason::LeaseLost
        | RevertReason::Shutdown
        | RevertReason::Restarted
        | RevertReason::Halted
        | RevertReason::TargetGone => true,
    };
    (otherwise && item.hold == Hold::Lasts).then(|| {
        let (kind, target, why) = (item.kind, &item.target, reason(wire));
        format!("the {kind} of {target} was not ended by this run: {why}")
    })
}

pub(super) fn reason(wire: i32) -> String {
    match RevertReason::from_wire(wire) {
        None => "no reason was given",
        Some(RevertReason::Asked) => "asked",
        Some(RevertReason::Deadline) => "its deadline came",
        Some(RevertReason::LeaseLost) => "its lease was not renewed",
        Some(RevertReason::InjectFailed) => "it failed",
        Some(RevertReason::Shutdown) => "its agent was told to end",
        Some(RevertReason::Restarted) => "its agent was restarted",
        Some(RevertReason::Halted) => "the node was halted",
        Some(RevertReason::TargetGone) => "its target has gone",
        Some(RevertReason::NeverCommitted) => "it was never committed",
    }
    .into()
}

pub(super) fn lock(tracked: &Shared) -> std::sync::MutexGuard<'_, BTreeMap<String, Tracked>> {
    tracked.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(
        state: pb::State,
        proof: pb::Proof,
        committed_boottime_ns: u64,
    ) -> pb::InjectionStatus {
        let effect = pb::Effect { proof: proof.into(), ..pb::Effect::default() };
        pb::InjectionStatus {
            state: state.into(),
            effect: Some(effect),
            committed_boottime_ns,
            ..pb::InjectionStatus::default()
        }
    }

    fn after(statuses: impl IntoIterator<Item = pb::InjectionStatus>) -> Tracked {
        let mut item = Tracked {
            id: String::new(),
            node: String::new(),
            kind: "partition",
            target: String::new(),
            hold: Hold::Lasts,
            duration: Duration::ZERO,
            plan: String::new(),
            status: None,
            ordered: None,
            revert_asked: None,
            revert_told: false,
            end_told: false,
        };
        for status in statuses {
            take_in_one(&mut item, status);
        }
        item
    }

    #[test]
    fn an_answer_that_was_held_up_does_not_bring_a_fault_back() {
        let active = status(pb::State::Active, pb::Proof::Proven, 1);
        let reverted = status(pb::State::Reverted, pb::Proof::Proven, 1);
        assert!(is_reverted(&after([active.clone(), reverted.clone(), active.clone()])));
        let pending = status(pb::State::Active, pb::Proof::Pending, 1);
        assert_eq!(proof(&after([active, pending])), Some(Proof::Proven));
    }

    #[test]
    fn an_agent_that_was_restarted_does_not_make_an_effect_unseen() {
        let active = status(pb::State::Active, pb::Proof::Proven, 1);
        let found = status(pb::State::Reverted, pb::Proof::Pending, 0);
        let item = after([active, found]);
        assert!(is_reverted(&item));
        assert_eq!(proof(&item), Some(Proof::Proven));
        assert_eq!(item.status.map(|status| status.committed_boottime_ns), Some(1));
    }
}
