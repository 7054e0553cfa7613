//! How the rest of the agent speaks to the supervisor: requests on a bounded queue, answers by a
//! channel each.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use faultline_proto::{
    boottime::BootTime,
    fault::Fault,
    id::{FaultId, RunId},
    limits::QUEUE_LEN_MAX,
    target::Target,
};
use thiserror::Error;
use tokio::sync::{broadcast, oneshot};

use super::{
    amend::{AmendAnswer, AmendItem},
    held::Status,
    node::Condition,
    prepare::{PrepareError, PreparedItem},
    stuck::ResumeError,
};
use crate::{lifecycle::NotAllowed, metrics::Metrics};

/// An injection to prepare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareItem {
    /// Its id.
    pub fault_id: FaultId,
    /// What it is on.
    pub target: Target,
    /// What is to be done.
    pub fault: Fault,
    /// How long it lives without a renewal.
    pub lease: Duration,
    /// Its absolute latest end.
    pub deadline: BootTime,
}

/// When a commit is to take place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct When {
    /// At this time; at once if `None`.
    pub at: Option<BootTime>,
    /// After this time no more: whoever asked has given up by then. A request may have waited in an
    /// agent that was stopped.
    pub not_after: Option<BootTime>,
}

/// Which injections are to be reverted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevertScope {
    /// These.
    Faults(Vec<FaultId>),
    /// Those of a run.
    Run(RunId),
    /// All of them.
    Everything,
}

/// The answer to a revert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reverted {
    /// Those that were held here, in this process.
    pub injections: Vec<Status>,
    /// Those that were asked for by their ids and have no record here.
    pub unrecorded: Vec<Unrecorded>,
}

/// A fault without a record here: of it only its name can be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrecorded {
    /// Its id.
    pub fault_id: FaultId,
    /// What the kernel holds by that name, and could not be taken away.
    pub residue: Vec<String>,
}

/// The answer to a commit: how each injection stands, or why none was begun.
pub type CommitAnswer = Result<Vec<Status>, NotAllowedFault>;

/// A request about one injection that its state does not allow.
#[derive(Debug, Error)]
pub enum NotAllowedFault {
    /// There is no such injection.
    #[error("fault {0} is not known here; it was never prepared, or has been over for long")]
    Unknown(FaultId),
    /// There is, in another state.
    #[error("fault {id} cannot be committed")]
    NotAllowed {
        /// Which.
        id: FaultId,
        /// Why not.
        #[source]
        source: NotAllowed,
    },
}

/// The supervisor takes no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QueueError {
    /// Too many wait already.
    #[error("{QUEUE_LEN_MAX} requests are waiting already; try again")]
    Full,
    /// It is ending.
    #[error("the agent is shutting down")]
    Closed,
}

pub(super) enum Request {
    Prepare {
        run_id: RunId,
        items: Vec<PrepareItem>,
        dry_run: bool,
        reply: oneshot::Sender<Result<Vec<PreparedItem>, PrepareError>>,
    },
    Commit {
        ids: Vec<FaultId>,
        when: When,
        reply: oneshot::Sender<CommitAnswer>,
    },
    Renew {
        ids: Vec<FaultId>,
        reply: oneshot::Sender<Vec<Status>>,
    },
    Amend {
        items: Vec<AmendItem>,
        not_after: Option<BootTime>,
        reply: oneshot::Sender<AmendAnswer>,
    },
    Revert {
        scope: RevertScope,
        reply: oneshot::Sender<Reverted>,
    },
    List {
        reply: oneshot::Sender<Vec<Status>>,
    },
    Halt {
        reason: String,
        for_good: bool,
        reply: oneshot::Sender<Result<Vec<Status>, String>>,
    },
    Resume {
        acknowledged: Vec<FaultId>,
        not_after: Option<BootTime>,
        reply: oneshot::Sender<Result<(), ResumeError>>,
    },
    Condition {
        reply: oneshot::Sender<Condition>,
    },
    Shutdown {
        reply: oneshot::Sender<Vec<Status>>,
    },
}

/// The way to the supervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) queue: mpsc::SyncSender<Request>,
    pub(super) changes: broadcast::Sender<Status>,
    pub(super) metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

impl Handle {
    /// Plans and journals injections; all or none. With `dry_run`, only plans.
    ///
    /// # Errors
    /// When the supervisor takes no request; the inner error says why nothing was prepared.
    pub async fn prepare(
        &self,
        run_id: RunId,
        items: Vec<PrepareItem>,
        dry_run: bool,
    ) -> Result<Result<Vec<PreparedItem>, PrepareError>, QueueError> {
        self.ask(|reply| Request::Prepare { run_id, items, dry_run, reply }).await
    }

    /// Injects what was prepared. Answers when every effect is proven or known not to be, or after a
    /// while in which that is still open.
    ///
    /// # Errors
    /// When the supervisor takes no request.
    pub async fn commit(&self, ids: Vec<FaultId>, when: When) -> Result<CommitAnswer, QueueError> {
        self.ask(|reply| Request::Commit { ids, when, reply }).await
    }

    /// Extends leases. Ids that are not held any more are missing in the answer.
    ///
    /// # Errors
    /// When the supervisor takes no request.
    pub async fn renew(&self, ids: Vec<FaultId>) -> Result<Vec<Status>, QueueError> {
        self.ask(|reply| Request::Renew { ids, reply }).await
    }

    /// Changes what injections do that are in effect, but not after `not_after`: whoever asks has given
    /// up by then. Answers as [`Handle::commit`] does.
    ///
    /// # Errors
    /// When the supervisor takes no request.
    pub async fn amend(
        &self,
        items: Vec<AmendItem>,
        not_after: Option<BootTime>,
    ) -> Result<AmendAnswer, QueueError> {
        self.ask(|reply| Request::Amend { items, not_after, reply }).await
    }

    /// Takes injections back. Answers when each is reverted or stuck.
    ///
    /// # Errors
    /// When the supervisor takes no request.
    pub async fn revert(&self, scope: RevertScope) -> Result<Reverted, QueueError> {
        self.ask(|reply| Request::Revert { scope, reply }).await
    }

    /// Every injection known.
    ///
    /// # Errors
    /// When the supervisor takes no request.
    pub async fn list(&self) -> Result<Vec<Status>, QueueError> {
        self.ask(|reply| Request::List { reply }).await
    }

    /// Reverts everything and refuses new injections, over restarts; `for_good`: when it is shut down and holds nothing,
    /// it takes away what it keeps on the node.
    ///
    /// # Errors
    /// When the supervisor takes no request; the inner error when it could not be made to last.
    pub async fn halt(
        &self,
        reason: String,
        for_good: bool,
    ) -> Result<Result<Vec<Status>, String>, QueueError> {
        self.ask(|reply| Request::Halt { reason, for_good, reply }).await
    }

    /// Ends a halt, and takes new faults beside what is stuck of `acknowledged`; but not after
    /// `not_after`: whoever asks has given up by then.
    ///
    /// # Errors
    /// When the supervisor takes no request; the inner error says why it was not done.
    pub async fn resume(
        &self,
        acknowledged: Vec<FaultId>,
        not_after: Option<BootTime>,
    ) -> Result<Result<(), ResumeError>, QueueError> {
        self.ask(|reply| Request::Resume { acknowledged, not_after, reply }).await
    }

    /// Whether the node takes new injections.
    ///
    /// # Errors
    /// When the supervisor takes no request.
    pub async fn condition(&self) -> Result<Condition, QueueError> {
        self.ask(|reply| Request::Condition { reply }).await
    }

    /// Reverts everything and ends the supervisor.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn shut_down(&self) -> Result<Vec<Status>, QueueError> {
        self.ask(|reply| Request::Shutdown { reply }).await
    }

    /// What is counted on this node.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The changes from now on. A reader that is too slow loses the oldest and is told so.
    pub fn changes(&self) -> broadcast::Receiver<Status> {
        self.changes.subscribe()
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(request(reply)).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => QueueError::Full,
            mpsc::TrySendError::Disconnected(_) => QueueError::Closed,
        })?;
        answer.await.map_err(|_ended| QueueError::Closed)
    }
}
