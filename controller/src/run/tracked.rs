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
    status::{Proof, State},
    target::Target,
};

use crate::{
    agents::{AgentError, Answers, ByNode, Orders},
    cluster::fault::API_SERVER,
    plan::{On, PlannedFault, PlannedInjection, What},
};

/// An injection of this step, as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) id: String,
    pub(super) node: String,
    pub(super) kind: &'static str,
    pub(super) target: String,
    /// The target itself.
    pub(super) on: On,
    /// Which fault of its step it belongs to.
    pub(super) number: usize,
    /// What it does, as its agent was told last.
    pub(super) fault: What,
    pub(super) hold: Hold,
    /// When it is to be reverted, after the commit.
    pub(super) duration: Duration,
    pub(super) plan: String,
    pub(super) status: Option<pb::InjectionStatus>,
    /// When it and all others of its step had been prepared; not of one that came later.
    pub(super) prepared: Option<Instant>,
    /// When the injection was ordered.
    pub(super) ordered: Option<Instant>,
    /// When the revert was asked for.
    pub(super) revert_asked: Option<Instant>,
    /// What has been told of it.
    pub(super) told: Told,
    /// Its target is followed: that it goes is no deviation.
    pub(super) followed: bool,
    /// How its target came, where that was not there when the step began.
    pub(super) came: Option<Came>,
    /// An agent was asked to change it because its targets did.
    pub(super) amending: bool,
    /// How often that was done.
    pub(super) amended: u32,
    /// Why it was taken back before its time, where that is as it should be.
    pub(super) let_go: Option<&'static str>,
}

/// What has been told of an injection, once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// The proof of the revert.
    pub(super) revert: bool,
    /// That it ended otherwise than planned; or it has been looked at and did not.
    pub(super) end: bool,
    /// That its effect is missing, which does not end the run.
    pub(super) failure: bool,
}

/// How a target came to be one.
#[derive(Debug, Clone)]
pub(super) struct Came {
    /// When it was first seen.
    pub(super) appeared: Instant,
    /// Whose place it took.
    pub(super) instead_of: Option<String>,
}

impl Tracked {
    pub(super) fn new(
        id: &str,
        number: usize,
        fault: &PlannedFault,
        injection: &PlannedInjection,
    ) -> Self {
        Self {
            id: id.into(),
            node: injection.node.clone(),
            kind: injection.fault.kind(),
            target: injection.target.to_string(),
            on: injection.target.clone(),
            number,
            fault: injection.fault.clone(),
            hold: injection.fault.hold(),
            duration: lasts(fault, injection),
            plan: String::new(),
            status: None,
            prepared: None,
            ordered: None,
            revert_asked: None,
            told: Told::default(),
            followed: false,
            came: None,
            amending: false,
            amended: 0,
            let_go: None,
        }
    }
}

/// How long an injection is held: one that is over at once, for as long as its proof may take.
pub(super) fn lasts(fault: &PlannedFault, injection: &PlannedInjection) -> Duration {
    match injection.fault.hold() {
        Hold::Lasts => fault.inject.duration,
        Hold::Instant => injection.fault.proof_window(),
    }
}

/// The injections of a step, shared with the task that renews their leases.
pub(super) type Shared = Arc<Mutex<BTreeMap<String, Tracked>>>;

pub(super) fn track(
    faults: &[PlannedFault],
    orders: &Orders,
    plans: &BTreeMap<String, String>,
) -> BTreeMap<String, Tracked> {
    // `wire` went through the faults in the same order, node by node.
    let ids = |list: &[pb::Injection]| list.iter().map(|i| i.fault_id.clone()).collect::<Vec<_>>();
    let of_nodes = orders.nodes.iter().map(|(node, list)| (node.as_str(), ids(list).into_iter()));
    let of_api = orders.api.iter().map(|i| i.fault_id.clone()).collect::<Vec<_>>();
    let mut wired: BTreeMap<&str, std::vec::IntoIter<String>> =
        of_nodes.chain([(API_SERVER, of_api.into_iter())]).collect();
    let mut tracked = BTreeMap::new();
    for (number, fault) in faults.iter().enumerate() {
        for injection in &fault.injections {
            let id = wired.get_mut(injection.node.as_str()).and_then(Iterator::next);
            let Some(id) = id else { continue };
            let plan = plans.get(&id).cloned().unwrap_or_default();
            let item = Tracked::new(&id, number, fault, injection);
            tracked.insert(id, Tracked { plan, ..item });
        }
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
            new.effect.clone_from(&known.effect);
        }
        // A fault that was changed is proven again; it has had an effect since the first time.
        if let (Some(first), Some(again)) = (proven(&known), new.effect.as_mut())
            && again.proven_boottime_ns > first
        {
            again.proven_boottime_ns = first;
        }
        if new.committed_boottime_ns == 0 {
            new.committed_boottime_ns = known.committed_boottime_ns;
        }
    }
    item.status = Some(new);
}

/// When the effect of an injection was proven.
fn proven(status: &pb::InjectionStatus) -> Option<u64> {
    let effect = status.effect.as_ref()?;
    let is_proven = Proof::from_wire(effect.proof) == Some(Proof::Proven);
    is_proven.then_some(effect.proven_boottime_ns).filter(|time| *time > 0)
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
    if item.node == API_SERVER {
        // Told by this process itself, of an object that the wire has no form for.
        return status.kind == item.kind;
    }
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

pub(super) fn lock(tracked: &Shared) -> std::sync::MutexGuard<'_, BTreeMap<String, Tracked>> {
    tracked.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{super::ended::is_reverted, *};

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

    fn item() -> Tracked {
        super::super::tests::tracked(&super::super::tests::planned("1"))
    }

    fn after(statuses: impl IntoIterator<Item = pb::InjectionStatus>) -> Tracked {
        let mut item = item();
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
