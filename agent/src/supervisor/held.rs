//! One injection that the supervisor holds, and what it tells of it.

use std::time::Duration;

use faultline_proto::{
    boottime::BootTime,
    fault::Fault,
    id::{FaultId, RunId},
    status::{Proof, RevertReason, State},
    target::Target,
};

use crate::{
    fault::{Live, Observation},
    journal::{Journalled, Record},
    lifecycle::Lifecycle,
};

/// The pause before the second look for an effect; it doubles with every further one.
const PROOF_DELAY_MIN: Duration = Duration::from_micros(100);
/// The longest pause between two looks.
const PROOF_DELAY_MAX: Duration = Duration::from_millis(20);

/// An injection and all that is known of it.
pub(super) struct Held {
    pub(super) record: Journalled,
    pub(super) life: Lifecycle,
    /// What is alive of it in this process; none before the injection and after a restart.
    pub(super) live: Option<Box<dyn Live>>,
    pub(super) proof: ProofState,
    /// When a commit is to take place that was asked for a later time.
    pub(super) commit_at: Option<BootTime>,
    /// After this it is not injected any more.
    pub(super) commit_not_after: Option<BootTime>,
    pub(super) next_wake: Option<BootTime>,
    pub(super) committed: Option<BootTime>,
    /// When it was first tried to take it back.
    pub(super) revert_begun: Option<BootTime>,
    pub(super) reverted: Option<BootTime>,
    pub(super) residue: Vec<String>,
    pub(super) changed_by_others: Vec<String>,
    pub(super) failure: String,
    /// How it came out was counted: a change of it later is no further injection.
    pub(super) is_counted: bool,
}

/// The search for the effect.
#[derive(Debug, Clone)]
pub(super) struct ProofState {
    pub(super) proof: Proof,
    pub(super) evidence: String,
    pub(super) proven: Option<BootTime>,
    pub(super) next_look: Option<BootTime>,
    /// When what is looked for was put into the kernel.
    pub(super) begun: Option<BootTime>,
    delay: Duration,
}

/// What is known of an injection, for whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub fault_id: FaultId,
    /// The run it belongs to.
    pub run_id: RunId,
    /// Its kind's name.
    pub kind: &'static str,
    /// What it is on.
    pub target: Target,
    /// Where it is in its life.
    pub state: State,
    /// Whether its effect is known.
    pub proof: Proof,
    /// What was observed of the effect.
    pub evidence: String,
    /// When the effect was observed.
    pub proven: Option<BootTime>,
    /// When it ends without a renewal.
    pub lease_end: BootTime,
    /// Its absolute latest end.
    pub deadline: BootTime,
    /// When it was injected.
    pub committed: Option<BootTime>,
    /// When it was proven to be gone.
    pub reverted: Option<BootTime>,
    /// Why it was taken back.
    pub reason: Option<RevertReason>,
    /// What the kernel still holds of it.
    pub residue: Vec<String>,
    /// What somebody else changed meanwhile.
    pub changed_by_others: Vec<String>,
    /// Why injecting it failed, or changing it; empty if neither did.
    pub failure: String,
}

impl Held {
    pub(super) fn new(record: Journalled, life: Lifecycle) -> Self {
        Self {
            record,
            life,
            live: None,
            proof: ProofState::new(),
            commit_at: None,
            commit_not_after: None,
            next_wake: None,
            committed: None,
            revert_begun: None,
            reverted: None,
            residue: Vec::new(),
            changed_by_others: Vec::new(),
            failure: String::new(),
            is_counted: false,
        }
    }

    /// The kernel has been given something else to do for it, which `record` takes back: its effect is
    /// to be seen anew.
    pub(super) fn become_other(&mut self, record: Journalled, live: Box<dyn Live>, now: BootTime) {
        (self.record, self.live) = (record, Some(live));
        self.failure.clear();
        self.proof = ProofState::new();
        self.proof.begin(now);
    }

    pub(super) fn record(&self) -> &Record {
        self.record.record()
    }

    pub(super) fn id(&self) -> FaultId {
        self.record().fault_id
    }

    pub(super) fn fault(&self) -> &Fault {
        &self.record().fault
    }

    /// Whether whoever committed it has all there is to know: no need to wait longer.
    pub(super) fn is_answered(&self) -> bool {
        match self.life.state() {
            State::Prepared | State::Injecting | State::Reverting => false,
            State::Active => self.proof.proof != Proof::Pending,
            State::Reverted | State::Stuck => true,
        }
    }

    /// Brings what was seen of a proven effect up to date: a signal may have been sent many times
    /// since. An effect that cannot be seen any more was there all the same.
    pub(super) fn last_look(&mut self) {
        if self.proof.proof == Proof::Proven
            && let Some(Ok(Observation::Proven(evidence))) = self.live.as_mut().map(|l| l.prove())
        {
            self.proof.evidence = evidence;
        }
    }

    /// The next time that something of it must be looked at.
    pub(super) fn next_timer(&self) -> Option<BootTime> {
        let active = self.life.state() == State::Active;
        [
            self.life.next_timer(),
            self.commit_at,
            self.proof.next_look.filter(|_| active),
            self.next_wake.filter(|_| active),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn status(&self) -> Status {
        let record = self.record();
        Status {
            fault_id: record.fault_id,
            run_id: record.run_id,
            kind: record.fault.kind(),
            target: record.target.clone(),
            state: self.life.state(),
            proof: self.proof.proof,
            evidence: self.proof.evidence.clone(),
            proven: self.proof.proven,
            lease_end: self.life.lease_end(),
            deadline: self.life.deadline(),
            committed: self.committed,
            reverted: self.reverted,
            reason: self.life.reason(),
            residue: self.residue.clone(),
            changed_by_others: self.changed_by_others.clone(),
            failure: self.failure.clone(),
        }
    }
}

impl ProofState {
    fn new() -> Self {
        Self {
            proof: Proof::Pending,
            evidence: String::new(),
            proven: None,
            next_look: None,
            begun: None,
            delay: PROOF_DELAY_MIN,
        }
    }

    /// The fault was injected: look at once.
    pub(super) fn begin(&mut self, now: BootTime) {
        (self.begun, self.next_look) = (Some(now), Some(now));
    }

    /// Takes in what a look showed. Returns whether that settled it.
    pub(super) fn looked(
        &mut self,
        now: BootTime,
        window_end: BootTime,
        seen: Result<Observation, String>,
    ) -> bool {
        match seen {
            Ok(Observation::Proven(evidence)) => {
                (self.proof, self.proven, self.next_look) = (Proof::Proven, Some(now), None);
                self.evidence = evidence;
                return true;
            }
            Ok(Observation::NotYet(evidence)) | Err(evidence) => self.evidence = evidence,
        }
        if now >= window_end {
            (self.proof, self.next_look) = (Proof::Failed, None);
            return true;
        }
        self.next_look = Some(now.after(self.delay).min(window_end));
        self.delay = (self.delay * 2).min(PROOF_DELAY_MAX);
        false
    }

    /// There will be no further look. What was not seen in a window that was cut short is not known to
    /// have failed: a process may die of its signal a moment later.
    pub(super) fn end(&mut self) {
        self.next_look = None;
        if self.proof == Proof::Pending && self.evidence.is_empty() {
            self.evidence = "it ended before its effect was seen".into();
        }
    }
}
