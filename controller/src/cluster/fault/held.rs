//! What is known of a fault through the API server, from its preparation to the proof that it is taken back.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use faultline_proto::{
    boottime::BootTime,
    pb,
    status::{Proof, RevertReason, State},
};
use serde_json::Value;
use tokio::{
    sync::Mutex,
    task::{AbortHandle, JoinHandle},
};

use super::{FaultError, Injection, Planned, Undo, hold::ASK_EVERY};
use crate::agents::AgentClock;

/// A fault of this run.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) run: String,
    pub(super) injection: Injection,
    pub(super) planned: Planned,
    /// The object as it was when it was planned.
    pub(super) object: Value,
    pub(super) state: State,
    pub(super) proof: Proof,
    pub(super) evidence: String,
    pub(super) failure: String,
    /// What an eviction waits for.
    pub(super) blocked: String,
    pub(super) committed: Option<Instant>,
    pub(super) proven: Option<Instant>,
    pub(super) reverted: Option<Instant>,
    pub(super) reason: Option<RevertReason>,
    pub(super) deadline: Option<Instant>,
    /// The record that was, or may have been, written.
    pub(super) undo: Option<Undo>,
    pub(super) residue: Vec<String>,
    pub(super) changed_by_others: Vec<String>,
    /// Whoever takes it back holds this.
    pub(super) reverting: Arc<Mutex<()>>,
    /// Who writes the change; whoever takes it back waits for that.
    pub(super) committing: Option<JoinHandle<()>>,
    /// Nobody knows whether the change was written.
    pub(super) is_unknown: bool,
    /// Who looks, and who evicts.
    pub(super) tasks: Vec<AbortHandle>,
}

impl Held {
    pub(super) fn new(run: &str, injection: Injection, planned: Planned, object: Value) -> Self {
        Self {
            run: run.into(),
            injection,
            planned,
            object,
            state: State::Prepared,
            proof: Proof::Pending,
            evidence: String::new(),
            failure: String::new(),
            blocked: String::new(),
            committed: None,
            proven: None,
            reverted: None,
            reason: None,
            deadline: None,
            undo: None,
            residue: Vec::new(),
            changed_by_others: Vec::new(),
            reverting: Arc::default(),
            committing: None,
            is_unknown: false,
            tasks: Vec::new(),
        }
    }

    /// The record of the change, if it is made at `now`.
    pub(super) fn record(&self, slack: Duration) -> Undo {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let deadline = now + self.injection.lasts + slack;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let Injection { fault_id, spec, .. } = &self.injection;
        let changes = self.planned.changes.clone();
        Undo::new(&self.run, fault_id, spec.kind(), deadline_ms, changes)
    }

    /// That it is over: nobody looks for it any more, and nobody is evicted for it.
    pub(super) fn end(&mut self, reason: RevertReason) {
        self.tasks.drain(..).for_each(|task| task.abort());
        self.state = State::Reverted;
        self.reason.get_or_insert(reason);
        self.reverted.get_or_insert_with(Instant::now);
        self.residue.clear();
    }

    /// That it could not be taken back yet: why, and who will.
    pub(super) fn remains(&mut self, error: &FaultError) {
        let until = self.undo.as_ref().map(super::error::deadline).unwrap_or_default();
        let why = crate::run::one_line(error);
        self.failure.clone_from(&why);
        self.residue = vec![format!(
            "{} bears the record of it still ({why}); `faultline halt` restores it at once, and `faultline controller`, \
             where it stands by in the cluster, at {until}",
            self.injection.object
        )];
    }

    /// As agents tell of theirs, in the time of `clock`.
    pub(super) fn status(&self, clock: &AgentClock) -> pb::InjectionStatus {
        let time = |at: Option<Instant>| at.map_or(0, |at| clock.to_agent(at).as_nanos());
        let effect = pb::Effect {
            proof: pb::Proof::from(self.proof).into(),
            evidence: self.evidence.clone(),
            proven_boottime_ns: time(self.proven),
        };
        pb::InjectionStatus {
            fault_id: self.injection.fault_id.clone(),
            run_id: self.run.clone(),
            kind: self.injection.spec.kind().into(),
            target: None,
            state: pb::State::from(self.state).into(),
            effect: Some(effect),
            lease_end_boottime_ns: time(self.deadline),
            deadline_boottime_ns: time(self.deadline),
            committed_boottime_ns: time(self.committed),
            reverted_boottime_ns: time(self.reverted),
            revert_reason: self.reason.map_or(0, |reason| pb::RevertReason::from(reason).into()),
            residue: self.residue.clone(),
            changed_by_others: self.changed_by_others.clone(),
            failure: self.failure.clone(),
        }
    }
}

/// The clock by which this process tells of its own faults.
pub(super) fn own_clock() -> AgentClock {
    let now = Instant::now();
    // 0 means that something has not happened. What is seen is seen by looks that are so far apart.
    AgentClock::new(now, now + 2 * ASK_EVERY, BootTime::from_nanos(u64::from(u32::MAX)))
}
