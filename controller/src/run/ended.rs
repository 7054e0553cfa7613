//! How an injection ends, and whether that is as it should be.

use std::time::Instant;

use faultline_proto::{
    fault::Hold,
    pb,
    status::{Proof, RevertReason, State},
};

use super::tracked::{Tracked, proof};
use crate::cluster::fault::{API_SERVER, ENDED_BY_OTHERS};

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

/// That it goes through the API server and has neither been seen to work nor not to: what was not seen before its time
/// was over is not called injected. (An agent looks by itself, and says what it has seen when it takes the fault back.)
pub(super) fn is_unproven(item: &Tracked) -> bool {
    item.node == API_SERVER
        && item.revert_asked.is_none()
        && matches!(proof(item), None | Some(Proof::Pending))
}

/// That an agent took it back at its time, and cannot say whether it had its effect.
pub(super) fn is_unseen(item: &Tracked) -> bool {
    item.node != API_SERVER
        && item.let_go.is_none()
        && !item.told.failure
        && is_reverted(item)
        && !has_lost_target(item)
        && proof(item) == Some(Proof::Pending)
}

/// That what was changed through the API server was not there to its end.
pub(super) fn is_ended_by_others(item: &Tracked) -> bool {
    let says = |status: &pb::InjectionStatus| status.failure == ENDED_BY_OTHERS;
    item.node == API_SERVER && item.status.as_ref().is_some_and(says)
}

/// That its agent has taken it back because its target has gone.
pub(super) fn has_lost_target(item: &Tracked) -> bool {
    item.status.as_ref().is_some_and(|status| {
        let ended = matches!(
            State::from_wire(status.state),
            Some(State::Reverting | State::Reverted | State::Stuck)
        );
        ended && RevertReason::from_wire(status.revert_reason) == Some(RevertReason::TargetGone)
    })
}

/// Whether a revert was made because somebody halted the node.
pub(super) fn is_halted(revert_reason: i32) -> bool {
    RevertReason::from_wire(revert_reason) == Some(RevertReason::Halted)
}

/// That a halt ended it.
pub(super) fn ended_by_halt(item: &Tracked) -> String {
    let (kind, target, node) = (item.kind, &item.target, &item.node);
    if node == API_SERVER {
        return format!("the {kind} of {target} ended before its time: everything was halted");
    }
    format!("the {kind} of {target} on {node} ended before its time: the node was halted")
}

/// Notes that it is taken back before its time, and that this is as it should be.
pub(super) fn is_let_go(item: &mut Tracked, why: &'static str) {
    item.revert_asked.get_or_insert_with(Instant::now);
    item.told.end = true;
    item.let_go = Some(why);
}

/// That a fault which was to last was ended by something else than the controller, if it was: while its
/// agent could not be reached, say. One that failed has said so itself.
pub(super) fn ended_otherwise(item: &Tracked) -> Option<String> {
    let wire = item.status.as_ref()?.revert_reason;
    let otherwise = match RevertReason::from_wire(wire)? {
        // Whoever halts ends the run, and is told so.
        RevertReason::Asked
        | RevertReason::InjectFailed
        | RevertReason::NeverCommitted
        | RevertReason::Halted => false,
        RevertReason::Deadline
        | RevertReason::LeaseLost
        | RevertReason::Shutdown
        | RevertReason::Restarted
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
