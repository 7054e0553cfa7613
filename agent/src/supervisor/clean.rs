//! What an earlier process left: reverted from the journal, and swept where it has no record.

use std::{collections::BTreeSet, time::Duration};

use faultline_proto::{boottime::BootTime, id::FaultId};
use tracing::{debug, error, info, warn};

use super::{handle::Unrecorded, held::Held, node::NodeState};
use crate::{
    failpoint, fault,
    journal::{self, Found},
    kernel::clock,
    lifecycle::Lifecycle,
};

/// How long after a sweep that had to leave something alone the next one comes.
const SWEEP_AGAIN: Duration = Duration::from_secs(5);

impl NodeState {
    /// Reverts what the journal holds, then removes what carries our name without a record.
    pub(super) fn clean_up(&mut self, found: Found) {
        failpoint::reach(failpoint::JOURNAL_READ);
        for (path, why) in &found.unreadable {
            error!(path = %path.display(), %why, "a journal file is not understood; the node is stuck");
        }
        self.unreadable = found.unreadable;
        self.acknowledged = found.acknowledged;
        let now = clock::now();
        for journalled in found.records {
            let record = journalled.record();
            let id = record.fault_id;
            if record.boot_id != self.boot_id {
                info!(fault = %id, "the machine has been rebooted since; nothing is left of it");
                if let Err(problem) = self.forget(id) {
                    error!(fault = %id, %problem, "its record cannot be removed");
                }
                continue;
            }
            info!(fault = %id, kind = record.fault.kind(), "found in the journal; reverting");
            let life = Lifecycle::found(now, record.deadline);
            self.held.insert(id, Held::new(journalled, life));
            self.attempt_revert(id);
        }
        failpoint::reach(failpoint::BEFORE_SWEEP);
        self.sweep();
        failpoint::reach(failpoint::SWEPT);
    }

    /// Takes back those of these faults that have no record here: an earlier process reverted them, or
    /// they never were this node's. What is left of them is found by their names.
    pub(super) fn revert_unknown(&mut self, ids: &[FaultId]) -> Vec<Unrecorded> {
        let is_unknown = |id: &FaultId| self.status(*id).is_none();
        let unknown: BTreeSet<FaultId> = ids.iter().copied().filter(is_unknown).collect();
        if unknown.is_empty() {
            return Vec::new();
        }
        let mut left = fault::take_back_by_name(&self.resolver, &unknown);
        self.unreadable.retain(|path, _| self.journal.still_unreadable(path));
        for (path, why) in &self.unreadable {
            if let Some(left) = journal::id_of(path).and_then(|id| left.get_mut(&id)) {
                left.push(format!("the journal file {} ({why})", path.display()));
            }
        }
        let unrecorded = left.into_iter().map(|(fault_id, residue)| {
            info!(fault = %fault_id, ?residue, "asked to revert it, and there is no record of it");
            Unrecorded { fault_id, residue }
        });
        unrecorded.collect()
    }

    /// Sweeps again, if the last time something had to be left alone.
    pub(super) fn sweep_if_due(&mut self) -> Option<BootTime> {
        if self.sweep_at.is_some_and(|at| at <= clock::now()) {
            self.sweep();
        }
        self.sweep_at
    }

    fn sweep(&mut self) {
        // What has a record and could not be reverted yet is tried again by the loop.
        let known = self.held.keys().copied().collect();
        // A file that is not understood still says by its name whose it is.
        let lost: BTreeSet<FaultId> =
            self.unreadable.keys().filter_map(|path| journal::id_of(path)).collect();
        let swept = fault::sweep(&self.resolver, &known, &lost);
        self.metrics.swept(swept.removed.len());
        for what in &swept.removed {
            warn!(%what, "swept: it had no record");
        }
        for what in &swept.failed {
            error!(%what, "could not be swept");
        }
        for what in &swept.in_effect {
            debug!(%what, "left to its lease: it has no record here");
        }
        let again = if swept.is_too_early {
            Some(fault::CGROUP_AGE_MIN)
        } else {
            (!swept.in_effect.is_empty()).then_some(SWEEP_AGAIN)
        };
        self.sweep_at = again.map(|again| clock::now().after(again));
    }
}
