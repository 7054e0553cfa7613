//! What the supervisor holds, and each thing that can be done to it. No queue, no waiting.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use faultline_proto::{
    boottime::BootTime,
    id::FaultId,
    status::{Proof, RevertReason, State},
};
use tokio::sync::broadcast;
use tracing::{error, info, warn};

use super::{
    handle::NotAllowedFault,
    held::{Held, Status},
    stuck::{ResumeError, Stuck},
};
use crate::{
    errors::chain,
    failpoint,
    fault::Wake,
    journal::Journal,
    kernel::clock,
    lifecycle::AfterFailure,
    metrics::{Injected, Metrics},
    resolve::Resolver,
};

/// How many injections are remembered after their end.
const ENDED_MAX: usize = 256;

/// Why a node takes no new faults until somebody says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltState {
    /// What whoever halted it wrote.
    pub reason: String,
}

/// What keeps a node from taking new injections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// When it was halted last, also where that has been ended; `None`: not since this agent started.
    pub last_halt: Option<BootTime>,
    /// Somebody halted it.
    pub halted: Option<HaltState>,
    /// What could not be reverted, or is not understood; what was acknowledged keeps it from nothing.
    pub stuck: Vec<Stuck>,
}

impl Condition {
    /// What keeps the node from taking new faults for being stuck, and the way out.
    pub fn stuck_reason(&self) -> Option<String> {
        self.stuck.iter().find(|stuck| !stuck.acknowledged).map(ToString::to_string)
    }
}

/// Everything the supervisor owns.
pub(super) struct NodeState {
    pub(super) resolver: Arc<Resolver>,
    pub(super) journal: Journal,
    pub(super) boot_id: String,
    /// The pid namespace that this process is in; `None` if that cannot be read.
    pub(super) pid_ns: Option<String>,
    pub(super) halt_file: PathBuf,
    pub(super) halt: Option<HaltState>,
    /// It is about to be removed from the node.
    pub(super) is_leaving: bool,
    pub(super) last_halt: Option<BootTime>,
    /// Journal files that nobody understands: the node is stuck while they are there.
    pub(super) unreadable: BTreeMap<PathBuf, String>,
    /// What is stuck and was acknowledged.
    pub(super) acknowledged: BTreeSet<FaultId>,
    pub(super) held: BTreeMap<FaultId, Held>,
    pub(super) ended: VecDeque<Status>,
    pub(super) changes: broadcast::Sender<Status>,
    /// A shutdown is under way: what is prepared now would outlive it.
    pub(super) is_closing: bool,
    /// When what carries our name without a record is looked for again; `None`: there was none.
    pub(super) sweep_at: Option<BootTime>,
    pub(super) metrics: Arc<Metrics>,
}

impl NodeState {
    /// Whether all of these can be committed. Changes nothing.
    pub(super) fn check_commit(
        &self,
        ids: &[FaultId],
        not_after: Option<BootTime>,
    ) -> Result<(), NotAllowedFault> {
        for id in ids {
            let held = self.held.get(id).ok_or(NotAllowedFault::Unknown(*id))?;
            let mut life = held.life.clone();
            life.commit(clock::now(), not_after)
                .map_err(|source| NotAllowedFault::NotAllowed { id: *id, source })?;
        }
        Ok(())
    }

    /// Injects one that was prepared. What goes wrong is in its status, and it is reverted.
    pub(super) fn inject(&mut self, id: FaultId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.commit_at = None;
        let now = clock::now();
        let lease_end = match held.life.commit(now, held.commit_not_after) {
            Ok(lease_end) => lease_end,
            Err(not_allowed) => {
                warn!(fault = %id, "not injected: {not_allowed}");
                if held.life.state() == State::Prepared {
                    held.failure = not_allowed.to_string();
                    self.revert(id, RevertReason::NeverCommitted);
                }
                return;
            }
        };
        failpoint::reach(failpoint::BEFORE_INJECT);
        let result = held.record.injection().as_injection().inject(lease_end);
        failpoint::reach(failpoint::INJECTED);
        let now = clock::now();
        held.committed = Some(now);
        match result {
            Ok(live) => {
                held.life.injected();
                held.next_wake = live.first_wake().map(|delay| now.after(delay));
                held.live = Some(live);
                held.proof.begin(now);
                info!(fault = %id, kind = held.fault().kind(), "injected");
                self.publish(id);
                self.look(id);
            }
            Err(e) => {
                held.failure = chain(&e);
                error!(fault = %id, error = %held.failure, "injecting failed");
                held.came_out(&self.metrics, Injected::Failed);
                self.revert(id, RevertReason::InjectFailed);
            }
        }
    }

    /// Looks once whether the effect of an active injection is there.
    pub(super) fn look(&mut self, id: FaultId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(live) = held.live.as_mut() else { return };
        let seen = live.prove().map_err(|e| chain(&e));
        failpoint::reach(failpoint::LOOKED);
        let now = clock::now();
        let window = held.fault().proof_window();
        let window_end = held.proof.begun.unwrap_or(now).after(window);
        if held.proof.looked(now, window_end, seen) {
            let evidence = &held.proof.evidence;
            match held.proof.proof {
                Proof::Proven => info!(fault = %id, %evidence, "effect proven"),
                Proof::Failed | Proof::Pending => warn!(fault = %id, %evidence, "effect not seen"),
            }
            held.proof_is_settled(&self.metrics);
            self.publish(id);
        }
    }

    /// Lets an active injection do what it does from time to time.
    pub(super) fn wake(&mut self, id: FaultId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let Some(live) = held.live.as_mut() else { return };
        match live.wake(clock::now()) {
            Ok(Wake::Never) => held.next_wake = None,
            Ok(Wake::At(at)) => held.next_wake = Some(at),
            Ok(Wake::TargetGone) => self.revert(id, RevertReason::TargetGone),
            Err(e) => {
                held.failure = chain(&e);
                warn!(fault = %id, error = %held.failure, "the fault ended by itself");
                self.revert(id, RevertReason::InjectFailed);
            }
        }
    }

    /// Extends the lease of one that is active.
    pub(super) fn renew(&mut self, id: FaultId) -> Option<Status> {
        let held = self.held.get_mut(&id)?;
        let now = clock::now();
        if let (Ok(lease_end), Some(live)) = (held.life.renew(now), held.live.as_mut()) {
            failpoint::reach(failpoint::BEFORE_RENEW);
            let renewed = live.renew(lease_end);
            failpoint::reach(failpoint::RENEWED);
            match renewed {
                Ok(()) => held.life.renewed(lease_end),
                Err(e) => warn!(fault = %id, error = %chain(&e), "the lease was not renewed"),
            }
        }
        Some(held.status())
    }

    /// Begins to take one back, from whatever state.
    pub(super) fn revert(&mut self, id: FaultId, reason: RevertReason) {
        let Some(held) = self.held.get_mut(&id) else { return };
        if held.life.revert(reason) {
            info!(fault = %id, ?reason, "reverting");
            held.commit_at = None;
            held.last_look();
            held.proof.end();
            held.proof_is_settled(&self.metrics);
            self.publish(id);
            self.attempt_revert(id);
        }
    }

    /// One attempt to take one back: undo, read the kernel, remove the record.
    pub(super) fn attempt_revert(&mut self, id: FaultId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.revert_begun.get_or_insert_with(clock::now);
        let injection = held.record.injection().as_injection();
        let mut problems = Vec::new();
        failpoint::reach(failpoint::BEFORE_REVERT);
        let reverted = injection.revert();
        failpoint::reach(failpoint::REVERTED);
        match reverted {
            Ok(changed) => {
                for change in changed {
                    if !held.changed_by_others.contains(&change) {
                        held.changed_by_others.push(change);
                    }
                }
            }
            Err(e) => problems.push(chain(&e)),
        }
        drop(held.live.take());
        problems.extend(cannot_look(held.record().pid_ns.as_deref(), self.pid_ns.as_deref()));
        match injection.residue() {
            Ok(residue) => problems.extend(residue),
            Err(e) => problems.push(format!("the kernel could not be read: {}", chain(&e))),
        }
        failpoint::reach(failpoint::BEFORE_REMOVE);
        // The kernel is clean before the record goes: a failure here leaves a record too many.
        if problems.is_empty()
            && let Err(problem) = self.forget(id)
        {
            problems.push(problem);
        }
        let Some(held) = self.held.get_mut(&id) else { return };
        let now = clock::now();
        if problems.is_empty() {
            held.residue.clear();
            held.reverted = Some(now);
            held.life.reverted();
            held.is_reverted(&self.metrics, now);
            info!(fault = %id, "reverted, nothing is left");
        } else {
            held.residue = problems;
            self.metrics.revert_failed(held.fault().kind());
            match held.life.revert_failed(now) {
                AfterFailure::RetryAt(_) => {
                    warn!(fault = %id, residue = ?held.residue, "not reverted yet");
                }
                AfterFailure::Stuck => error!(fault = %id, residue = ?held.residue, "stuck"),
            }
        }
        self.publish(id);
        if self.held.get(&id).is_some_and(|h| h.life.state() == State::Reverted) {
            self.remember(id);
        }
    }

    fn remember(&mut self, id: FaultId) {
        if let Some(held) = self.held.remove(&id) {
            self.ended.push_back(held.status());
            while self.ended.len() > ENDED_MAX {
                self.ended.pop_front();
            }
        }
    }

    /// Does what time demands; returns when it demands something next.
    pub(super) fn tick(&mut self) -> Option<BootTime> {
        let ids: Vec<FaultId> = self.held.keys().copied().collect();
        for id in ids {
            self.tick_one(id);
        }
        self.held.values().filter_map(Held::next_timer).min()
    }

    fn tick_one(&mut self, id: FaultId) {
        let now = clock::now();
        let is_due = |at: Option<BootTime>| at.is_some_and(|at| at <= now);
        let Some(held) = self.held.get(&id) else { return };
        if let Some(reason) = held.life.due(now) {
            return self.revert(id, reason);
        }
        if held.life.state() == State::Reverting && held.life.retry_due(now) {
            return self.attempt_revert(id);
        }
        if is_due(held.commit_at) {
            return self.inject(id);
        }
        if held.life.state() != State::Active {
            return;
        }
        let (look, wake) = (is_due(held.proof.next_look), is_due(held.next_wake));
        if look {
            self.look(id);
        }
        if wake {
            self.wake(id);
        }
    }

    pub(super) fn status(&self, id: FaultId) -> Option<Status> {
        let held = self.held.get(&id).map(Held::status);
        held.or_else(|| self.ended.iter().find(|status| status.fault_id == id).cloned())
    }

    pub(super) fn statuses(&self) -> Vec<Status> {
        self.held.values().map(Held::status).chain(self.ended.iter().cloned()).collect()
    }

    /// Halts the node, over restarts too: the word is on disk before anything is reverted.
    pub(super) fn halt(&mut self, reason: String, for_good: bool) -> Result<(), String> {
        self.is_leaving = for_good;
        let kept = write_synced(&self.halt_file, &reason);
        warn!(%reason, "halted");
        self.halt = Some(HaltState { reason });
        self.last_halt = Some(clock::now());
        kept.map_err(|e| {
            let path = self.halt_file.display();
            format!(
                "the node is halted, but only until its agent restarts: cannot write {path}: {e}"
            )
        })
    }

    /// Takes away what is kept on the node, if the agent was halted for good and nothing is held: then nobody needs it
    /// any more. The directory itself may be a mount, which stays.
    pub(super) fn leave(&self) {
        if !self.is_leaving || !self.held.is_empty() || !self.unreadable.is_empty() {
            return;
        }
        let Some(state_dir) = self.halt_file.parent() else { return };
        // Only empty directories are removed: a record that nobody knows of stays.
        let removed = fs::remove_dir(state_dir.join("journal"))
            .and_then(|()| fs::remove_file(&self.halt_file))
            .and_then(|()| fs::remove_file(state_dir.join("lock")));
        match removed {
            Ok(()) => drop(fs::remove_dir(state_dir)),
            Err(error) => warn!(%error, dir = %state_dir.display(), "something is left"),
        }
    }

    pub(super) fn end_halt(&mut self) -> Result<(), ResumeError> {
        self.is_leaving = false;
        match fs::remove_file(&self.halt_file) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = self.halt_file.display().to_string();
                return Err(ResumeError::StillHalted { path, source });
            }
        }
        if self.halt.take().is_some() {
            warn!("resumed");
        }
        Ok(())
    }

    pub(super) fn publish(&self, id: FaultId) {
        if let Some(held) = self.held.get(&id) {
            // Nobody may be listening; that is no failure.
            drop(self.changes.send(held.status()));
        }
    }
}

/// Why whoever is not seen from here must not be called gone, if that is so: the processes of the target
/// were known in another pid namespace than this one.
fn cannot_look(recorded: Option<&str>, own: Option<&str>) -> Option<String> {
    let (recorded, own) = (recorded?, own?);
    (recorded != own).then(|| {
        format!(
            "cannot look: it was injected from {recorded}, and this agent is in {own}; start it with \
             `hostPID: true`"
        )
    })
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// How long a commit waits for the proof before it answers that this is still open.
pub(super) const COMMIT_ANSWER_MAX: Duration = Duration::from_secs(2);
