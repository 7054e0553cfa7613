//! What happens before anything does: whether the node takes new injections, their plans, and their
//! undo records on disk.

use faultline_proto::{
    id::{FaultId, RunId},
    limits::{FAULTS_PER_NODE_MAX, INJECTIONS_PER_REQUEST_MAX},
};
use thiserror::Error;
use tracing::info;

use super::{handle::PrepareItem, held::Held, node::NodeState, stuck::Stuck};
use crate::{
    failpoint,
    fault::{AnyInjection, Refusal},
    journal::{JournalError, Record, id_of},
    kernel::clock,
    lifecycle::Lifecycle,
};

/// An injection that is, or would be, prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedItem {
    /// Its id.
    pub fault_id: FaultId,
    /// What would be done, in one sentence.
    pub plan: String,
}

/// Why nothing was prepared.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The node is halted.
    #[error("this node is halted ({0}); `faultline resume` allows new faults again")]
    Halted(String),
    /// Something on the node could not be reverted.
    #[error("{0}")]
    Stuck(Stuck),
    /// Everything is being reverted for good.
    #[error("the agent is shutting down")]
    ShuttingDown,
    /// A limit would be passed.
    #[error("{asked} {of} are more than {limit}")]
    TooMany {
        /// Of what.
        of: &'static str,
        /// How many there would be.
        asked: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The deadline is not in the future.
    #[error("the deadline of fault {0} is past")]
    DeadlinePast(FaultId),
    /// The id is known with other content.
    #[error("fault {0} was prepared with other content before; use a new id")]
    IdUsed(FaultId),
    /// A fault kind refused.
    #[error("fault {id} on {target} is refused")]
    Refused {
        /// Which.
        id: FaultId,
        /// On what.
        target: String,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// The undo records could not be written, so the kernel must not be touched.
    #[error("the journal cannot be written, and without it nothing is injected")]
    Journal(#[from] JournalError),
}

impl PrepareError {
    /// A stable word for each case, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Halted(_) => "halted",
            Self::Stuck(_) => "stuck",
            Self::ShuttingDown => "shutting_down",
            Self::TooMany { .. } => "too_many",
            Self::DeadlinePast(_) => "deadline_past",
            Self::IdUsed(_) => "id_used",
            Self::Refused { source, .. } => source.word(),
            Self::Journal(_) => "journal",
        }
    }
}

impl NodeState {
    /// Plans and journals injections: all or none.
    pub(super) fn prepare(
        &mut self,
        run_id: RunId,
        items: Vec<PrepareItem>,
        dry_run: bool,
    ) -> Result<Vec<PreparedItem>, PrepareError> {
        self.check_open(items.len())?;
        let now = clock::now();
        let mut prepared = Vec::with_capacity(items.len());
        let mut records: Vec<Record> = Vec::new();
        for item in items {
            if let Some(same) = self.find_same(run_id, &item)? {
                prepared.push(same);
                continue;
            }
            if item.deadline <= now {
                return Err(PrepareError::DeadlinePast(item.fault_id));
            }
            if records.iter().any(|record| record.fault_id == item.fault_id) {
                return Err(PrepareError::IdUsed(item.fault_id));
            }
            let injection = self.plan(&item, &records)?;
            prepared.push(PreparedItem { fault_id: item.fault_id, plan: injection.describe() });
            records.push(Record {
                fault_id: item.fault_id,
                run_id,
                boot_id: self.boot_id.clone(),
                pid_ns: self.pid_ns.clone(),
                target: item.target,
                fault: item.fault,
                lease: item.lease,
                deadline: item.deadline,
                injection,
            });
        }
        if dry_run {
            return Ok(prepared);
        }
        failpoint::reach(failpoint::BEFORE_APPEND);
        let appended = self.journal.append(records);
        let appended = appended.inspect_err(|_| self.metrics.journal_failed())?;
        failpoint::reach(failpoint::APPENDED);
        for journalled in appended {
            let record = journalled.record();
            let (id, life) =
                (record.fault_id, Lifecycle::prepared(now, record.lease, record.deadline));
            info!(fault = %id, run = %run_id, kind = record.fault.kind(), target = %record.target, "prepared");
            self.held.insert(id, Held::new(journalled, life));
            self.publish(id);
        }
        Ok(prepared)
    }

    /// Whether new faults are taken at all.
    fn check_open(&mut self, new: usize) -> Result<(), PrepareError> {
        if self.is_closing {
            return Err(PrepareError::ShuttingDown);
        }
        if let Some(halt) = &self.halt {
            return Err(PrepareError::Halted(halt.reason.clone()));
        }
        if let Some(stuck) = self.stuck().into_iter().find(|stuck| !stuck.acknowledged) {
            return Err(PrepareError::Stuck(stuck));
        }
        let limits = [
            ("injections in one request", new, INJECTIONS_PER_REQUEST_MAX),
            ("faults on this node", self.held.len() + new, FAULTS_PER_NODE_MAX),
        ];
        for (of, asked, limit) in limits {
            if asked > limit {
                return Err(PrepareError::TooMany { of, asked, limit });
            }
        }
        Ok(())
    }

    /// The answer to a Prepare that was answered before, if this is one.
    fn find_same(
        &self,
        run_id: RunId,
        item: &PrepareItem,
    ) -> Result<Option<PreparedItem>, PrepareError> {
        let used = PrepareError::IdUsed(item.fault_id);
        let Some(held) = self.held.get(&item.fault_id) else {
            let ended = self.ended.iter().any(|status| status.fault_id == item.fault_id);
            // The file of one that is not understood must not be written over.
            let kept = self.unreadable.keys().any(|path| id_of(path) == Some(item.fault_id));
            return if ended || kept { Err(used) } else { Ok(None) };
        };
        let record = held.record();
        let same = record.run_id == run_id
            && record.target == item.target
            && record.fault == item.fault
            && record.lease == item.lease
            && record.deadline == item.deadline;
        if !same {
            return Err(used);
        }
        let plan = record.injection.describe();
        Ok(Some(PreparedItem { fault_id: item.fault_id, plan }))
    }

    fn plan(&self, item: &PrepareItem, before: &[Record]) -> Result<AnyInjection, PrepareError> {
        let refused = |source| PrepareError::Refused {
            id: item.fault_id,
            target: item.target.to_string(),
            source,
        };
        let resolved = self.resolver.resolve(&item.target).map_err(refused)?;
        if let Some(key) = AnyInjection::exclusive_key_of(&item.fault, &resolved) {
            let others = self.held.values().map(Held::record).chain(before);
            let other =
                others.into_iter().find(|r| r.injection.exclusive_key().as_ref() == Some(&key));
            if let Some(other) = other {
                let what = format!("holds {key} already");
                return Err(refused(Refusal::Conflict { with: other.fault_id, what }));
            }
        }
        AnyInjection::plan(item.fault_id, &item.fault, &resolved, &self.resolver).map_err(refused)
    }
}
