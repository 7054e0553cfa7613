//! Signs of life: the task that renews the leases of a step from the moment of its commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use faultline_proto::{limits::RENEWALS_PER_LEASE, pb};
use tokio::{task::JoinSet, time};

use super::{
    one_line,
    record::Recorder,
    tracked::{Shared, Tracked, ids_by_node, lock, take_in},
};
use crate::{agents::Fleet, report::journal::Event};

/// The tasks that renew leases from the moment of the commit, one for each node: an agent that does
/// not answer costs nobody else a lease. They stop when this is dropped.
pub(super) struct Renewer {
    fleet: Arc<Fleet>,
    every: Duration,
    tracked: Shared,
    recorder: Recorder,
    nodes: BTreeSet<String>,
    tasks: JoinSet<()>,
}

impl Renewer {
    pub(super) fn start(
        fleet: &Arc<Fleet>,
        lease: Duration,
        tracked: &Shared,
        recorder: &Recorder,
    ) -> Self {
        let mut renewer = Self {
            fleet: Arc::clone(fleet),
            every: lease / RENEWALS_PER_LEASE,
            tracked: Arc::clone(tracked),
            recorder: recorder.clone(),
            nodes: BTreeSet::new(),
            tasks: JoinSet::new(),
        };
        let nodes: BTreeSet<String> = lock(tracked).values().map(|t| t.node.clone()).collect();
        for node in &nodes {
            renewer.cover(node);
        }
        renewer
    }

    /// Renews what is held on a node as well, from now on.
    pub(super) fn cover(&mut self, node: &str) {
        if !self.nodes.insert(node.to_owned()) {
            return;
        }
        let (fleet, tracked) = (Arc::clone(&self.fleet), Arc::clone(&self.tracked));
        let (node, every, recorder) = (node.to_owned(), self.every, self.recorder.clone());
        self.tasks.spawn(async move {
            let mut ticks = time::interval_at(time::Instant::now() + every, every);
            ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                renew(&fleet, &node, every, &tracked, &recorder).await;
            }
        });
    }
}

/// One renewal. It may take as long as the next one is away, so that two of them may be lost.
async fn renew(fleet: &Fleet, node: &str, every: Duration, tracked: &Shared, recorder: &Recorder) {
    // One that is only being prepared has no lease yet.
    let held = |t: &Tracked| t.node == node && t.ordered.is_some() && t.revert_asked.is_none();
    let Some(ids) = ids_by_node(tracked, held).remove(node) else { return };
    // One that does not answer is noticed by what becomes of its leases.
    let statuses = match fleet.renew(node, ids.clone(), every).await {
        Ok(statuses) => statuses,
        Err(error) => {
            let (node, why) = (node.to_owned(), one_line(&error));
            recorder.tell(Event::RenewalFailed { node, why });
            return;
        }
    };
    let lost = missing(&ids, &statuses);
    take_in(tracked, BTreeMap::from([(node.to_owned(), Ok(statuses))]));
    // What an agent that answers does not hold any more has ended; ask how.
    if lost.is_empty() {
        return;
    }
    let Some(agent) = fleet.get(node) else { return };
    let Ok(statuses) = agent.list().await else { return };
    let unknown = missing(&lost, &statuses);
    take_in(tracked, BTreeMap::from([(node.to_owned(), Ok(statuses))]));
    // One that was restarted meanwhile has taken back what it found, and knows nothing of it: it looks whether anything is
    // left when it is asked to take it back.
    if !unknown.is_empty() {
        let asked = BTreeMap::from([(node.to_owned(), unknown)]);
        take_in(tracked, fleet.revert(&asked, every).await);
    }
}

/// Those of which nothing was said.
fn missing(ids: &[String], statuses: &[pb::InjectionStatus]) -> Vec<String> {
    let is_told = |id: &&String| statuses.iter().any(|status| status.fault_id == **id);
    ids.iter().filter(|id| !is_told(id)).cloned().collect()
}
