//! What is reported of an injection: the times that its agent told, in the time of this machine.

use std::time::{Duration, Instant};

use faultline_proto::{
    boottime::BootTime,
    fault::Hold,
    status::{RevertReason, State},
};

use super::{
    Run,
    ended::{is_ended_by_others, reason},
    tracked::{Came, Shared, Tracked, lock, proof},
};
use crate::report::{FollowReport, InjectionReport, millis};

impl Run<'_> {
    /// What is reported of an injection that is over.
    pub(super) fn report_of(&self, item: &Tracked) -> InjectionReport {
        let status = item.status.clone().unwrap_or_default();
        let committed = self.here(&item.node, status.committed_boottime_ns);
        let reverted = self.here(&item.node, status.reverted_boottime_ns);
        let lasted = committed.zip(reverted).map(|(from, to)| to.saturating_duration_since(from));
        let name = |text: String| text.to_lowercase();
        InjectionReport {
            fault_id: item.id.clone(),
            kind: item.kind.into(),
            node: item.node.clone(),
            target: item.target.clone(),
            namespace: item.on.namespace().into(),
            pod: item.on.pod().into(),
            app: self.apps.get(item.on.uid()).cloned(),
            counted: item.fault.counted(),
            plan: item.plan.clone(),
            state: State::from_wire(status.state)
                .map_or("unknown".into(), |s| name(format!("{s:?}"))),
            effect: proof(item).map_or("unknown".into(), |p| name(format!("{p:?}"))),
            evidence: status.effect.clone().unwrap_or_default().evidence,
            prepared_at_ms: item.prepared.map(|at| millis(self.run_time(at))),
            ordered_at_ms: item.ordered.map(|at| millis(self.run_time(at))),
            injected_at_ms: committed.map(|at| millis(self.run_time(at))),
            reverted_at_ms: reverted.map(|at| millis(self.run_time(at))),
            time_to_effect_ms: self.time_to_effect(item).map(millis),
            time_to_effect_uncertainty_ms: self
                .time_to_effect(item)
                .and(self.clock_uncertainty(item)),
            lasted_ms: lasted
                .filter(|_| item.hold == Hold::Lasts && !is_ended_by_others(item))
                .map(millis),
            time_to_revert_ms: self.time_to_revert(item).map(millis),
            revert_reason: RevertReason::from_wire(status.revert_reason)
                .map(|_| reason(status.revert_reason)),
            follow: item.came.as_ref().map(|came| self.follow_report(item, came)),
            changes: item.amended,
            let_go: item.let_go.map(Into::into),
            residue: status.residue,
            changed_by_others: status.changed_by_others,
            failure: Some(status.failure).filter(|f| !f.is_empty()),
        }
    }

    fn follow_report(&self, item: &Tracked, came: &Came) -> FollowReport {
        let effect = item.status.as_ref().and_then(|status| status.effect.as_ref());
        let proven = effect.and_then(|effect| self.here(&item.node, effect.proven_boottime_ns));
        let began = self.times.step_injected.map_or(came.appeared, |began| self.origin + began);
        FollowReport {
            instead_of: came.instead_of.clone(),
            seen_ms: millis(came.appeared.saturating_duration_since(began)),
            time_to_effect_ms: proven.map(|p| millis(p.saturating_duration_since(came.appeared))),
        }
    }

    /// Notes how far apart the commits of a step were.
    pub(super) fn note_skew(&mut self, tracked: &Shared) {
        let times: Vec<Instant> = lock(tracked)
            .values()
            .filter_map(|t| self.here(&t.node, t.status.as_ref()?.committed_boottime_ns))
            .collect();
        if let (Some(first), Some(last), true) =
            (times.iter().min(), times.iter().max(), times.len() > 1)
        {
            let skew = *last - *first;
            self.commit_skew = Some(self.commit_skew.map_or(skew, |known| known.max(skew)));
        }
    }

    /// When the first injection of a step was injected.
    pub(super) fn committed(&self, tracked: &Shared) -> Option<Instant> {
        let items = lock(tracked);
        let times = items
            .values()
            .filter_map(|t| self.here(&t.node, t.status.as_ref()?.committed_boottime_ns));
        times.min()
    }

    /// When the last lease on a node ends.
    pub(super) fn lease_end(&self, tracked: &Shared, node: &str) -> Option<Instant> {
        let items = lock(tracked);
        let of_node = items.values().filter(|t| t.node == node);
        of_node.filter_map(|t| self.here(node, t.status.as_ref()?.lease_end_boottime_ns)).max()
    }

    /// When nothing was left of it.
    pub(super) fn reverted_at(&self, item: &Tracked) -> Option<Instant> {
        self.here(&item.node, item.status.as_ref()?.reverted_boottime_ns)
    }

    /// From the order to inject to the proof of the effect.
    pub(super) fn time_to_effect(&self, item: &Tracked) -> Option<Duration> {
        let effect = item.status.as_ref()?.effect.as_ref()?;
        let proven = self.here(&item.node, effect.proven_boottime_ns)?;
        Some(proven.saturating_duration_since(item.ordered?))
    }

    /// From the order to revert to the proof that nothing is left; `None` if it was over before.
    pub(super) fn time_to_revert(&self, item: &Tracked) -> Option<Duration> {
        self.reverted_at(item)?.checked_duration_since(item.revert_asked?)
    }

    /// How far times that the agent of an injection told may be off, in milliseconds.
    fn clock_uncertainty(&self, item: &Tracked) -> Option<f64> {
        let clock = self.fleet.clock(&item.node)?;
        Some(millis(clock.uncertainty_at(item.ordered?)))
    }

    /// A time of a node's clock, here; `None` for 0, which means that it has not come.
    pub(super) fn here(&self, node: &str, boottime_ns: u64) -> Option<Instant> {
        let clock = self.fleet.clock(node)?;
        (boottime_ns > 0).then(|| clock.to_here(BootTime::from_nanos(boottime_ns)))
    }
}
