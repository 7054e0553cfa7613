//! Signs of life: the task that renews the leases of a step from the moment of its commit.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use faultline_proto::limits::RENEWALS_PER_LEASE;
use tokio::{task::JoinHandle, time};

use super::tracked::{Shared, Tracked, ids_by_node, take_in};
use crate::agents::Fleet;

/// The task that renews leases from the moment of the commit. It stops when this is dropped.
pub(super) struct Renewer(JoinHandle<()>);

impl Renewer {
    pub(super) fn start(fleet: &Arc<Fleet>, lease: Duration, tracked: &Shared) -> Self {
        let (fleet, tracked) = (Arc::clone(fleet), Arc::clone(tracked));
        let every = lease / RENEWALS_PER_LEASE;
        Self(tokio::spawn(async move {
            let mut ticks = time::interval_at(time::Instant::now() + every, every);
            ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let ids = ids_by_node(&tracked, |t| t.revert_asked.is_none());
                let asked: BTreeSet<String> = ids.values().flatten().cloned().collect();
                let answers = fleet.renew(&ids).await;
                let answered: BTreeSet<String> = answers
                    .values()
                    .filter_map(|answer| answer.as_ref().ok())
                    .flatten()
                    .map(|status| status.fault_id.clone())
                    .collect();
                let silent: BTreeSet<String> = answers
                    .iter()
                    .filter(|(_, a)| a.is_err())
                    .map(|(node, _)| node.clone())
                    .collect();
                drop(take_in(&tracked, answers));
                // What an agent that answers does not hold any more has ended; ask how.
                let lost = asked.difference(&answered);
                let lost: BTreeSet<String> = lost.cloned().collect();
                let ask = |t: &Tracked| lost.contains(&t.id) && !silent.contains(&t.node);
                if !ids_by_node(&tracked, ask).is_empty() {
                    drop(take_in(&tracked, fleet.list().await));
                }
            }
        }))
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
