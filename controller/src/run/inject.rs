//! One step of the method: prepare everywhere, commit at one instant, hold while leases are renewed,
//! revert, and have the kernels say that nothing is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use faultline_proto::{
    boottime::BootTime,
    fault::Hold,
    id::FaultId,
    pb,
    status::{Proof, RevertReason, State},
};
use tokio::time;

use super::{
    Doing, Ended, LOOK_EVERY, Run, one_line, one_lines,
    renew::Renewer,
    tracked::{
        Shared, Tracked, ends_at, ids_by_node, is_over, is_reverted, lock, proof, reason, take_in,
        track,
    },
};
use crate::{
    agents::{AgentError, ByNode, Fleet},
    plan::{PlannedFault, PlannedInjection},
    report::{InjectionReport, millis},
};

/// From Prepare to Commit, at most: what a deadline is later than the planned end.
const COMMIT_SLACK: Duration = Duration::from_secs(5);
/// How long after the end of its leases a node that cannot be reached is asked again.
const REACH_AFTER_LEASE_MAX: Duration = Duration::from_secs(10);

/// The wire form of a step's injections, by node, each with a new id.
pub(super) fn wire(
    fleet: &Fleet,
    lease: Duration,
    faults: &[PlannedFault],
) -> Result<ByNode<pb::Injection>, String> {
    let mut by_node: ByNode<pb::Injection> = BTreeMap::new();
    for (fault, injection) in each(faults) {
        let id = FaultId::random().map_err(|e| e.to_string())?;
        by_node
            .entry(injection.node.clone())
            .or_default()
            .push(wire_one(fleet, lease, id, fault, injection));
    }
    Ok(by_node)
}

fn wire_one(
    fleet: &Fleet,
    lease: Duration,
    id: FaultId,
    fault: &PlannedFault,
    injection: &PlannedInjection,
) -> pb::Injection {
    let lasts = match injection.fault.hold() {
        Hold::Lasts => fault.inject.duration,
        Hold::Instant => injection.fault.proof_window(),
    };
    let end = Instant::now() + COMMIT_SLACK + lasts;
    // Where there is no agent, Prepare says so.
    let deadline = fleet.get(&injection.node).map(|agent| agent.clock().to_agent(end));
    pb::Injection {
        fault_id: id.to_string(),
        target: Some(injection.target.clone().into()),
        fault: Some(injection.fault.clone().into()),
        lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
        deadline_boottime_ns: deadline.map_or(0, BootTime::as_nanos),
    }
}

pub(super) fn each(
    faults: &[PlannedFault],
) -> impl Iterator<Item = (&PlannedFault, &PlannedInjection)> {
    faults.iter().flat_map(|fault| fault.injections.iter().map(move |injection| (fault, injection)))
}

impl Run<'_> {
    pub(super) async fn inject_step(&mut self, faults: &[PlannedFault]) -> Result<(), Ended> {
        let injections = wire(&self.fleet, self.experiment.lease, faults)
            .map_err(|e| Ended::Refused(vec![e]))?;
        let prepared = self.fleet.prepare(self.id, &injections, false).await;
        let prepared = prepared.map_err(|errors| Ended::Refused(one_lines(&errors)))?;
        let plans: BTreeMap<String, String> =
            prepared.into_iter().map(|item| (item.fault_id, item.plan)).collect();
        let tracked: Shared = Arc::new(Mutex::new(track(faults, &injections, &plans)));
        for item in lock(&tracked).values() {
            self.console.say("inject", &format!("{}: {}", item.target, item.plan));
        }
        if self.interrupt.is_set() {
            return Err(Ended::Interrupted);
        }
        let renewer = Renewer::start(&self.fleet, self.experiment.lease, &tracked);
        let outcome = self.commit_and_hold(&tracked).await;
        // Whatever happened: what is still there is taken back.
        let ids: BTreeSet<String> = lock(&tracked).keys().cloned().collect();
        self.revert(&tracked, &ids).await;
        drop(renewer);
        self.finish_step(&tracked);
        outcome
    }

    async fn commit_and_hold(&mut self, tracked: &Shared) -> Result<(), Ended> {
        let ordered = Instant::now();
        self.times.injected.get_or_insert(ordered);
        for item in lock(tracked).values_mut() {
            item.ordered = Some(ordered);
        }
        self.times.ends_with_instant = lock(tracked).values().any(|t| t.hold == Hold::Instant);
        let answers = self.fleet.commit(&ids_by_node(tracked, |_| true)).await;
        let errors = take_in(tracked, answers);
        if !errors.is_empty() {
            return Err(Ended::Refused(one_lines(&errors)));
        }
        self.note_skew(tracked);
        let committed = self.committed(tracked).unwrap_or(ordered);
        self.times.injected =
            Some(self.times.injected.map_or(committed, |first| first.min(committed)));
        let mut told: BTreeSet<String> = BTreeSet::new();
        loop {
            self.tell_effects(tracked, &mut told)?;
            let now = Instant::now();
            let due: BTreeSet<String> = lock(tracked)
                .values()
                .filter(|t| t.revert_asked.is_none() && is_over(t, committed, now))
                .map(|t| t.id.clone())
                .collect();
            if !due.is_empty() {
                self.revert(tracked, &due).await;
            }
            let next = lock(tracked)
                .values()
                .filter(|t| t.revert_asked.is_none())
                .map(|t| ends_at(t, committed))
                .min();
            let Some(next) = next else { return Ok(()) };
            self.check_held(tracked)?;
            let left = next.saturating_duration_since(Instant::now());
            // An effect that is still looked for is asked about often; the rest costs nothing.
            let pending = lock(tracked).values().any(|t| proof(t) == Some(Proof::Pending));
            let look = if pending { LOOK_EVERY / 5 } else { LOOK_EVERY };
            let over = lock(tracked).values().map(|t| ends_at(t, committed)).max();
            let doing = Doing { what: "in effect", end: over.unwrap_or(next) };
            self.pause(left.min(look), &doing).await?;
            if pending {
                let answers = self.fleet.list().await;
                // A node that does not answer now is noticed by its lease.
                drop(take_in(tracked, answers));
            }
        }
    }

    /// Says what has been proven since the last look. An effect that is not there ends the run: what
    /// did nothing is not called injected.
    fn tell_effects(&self, tracked: &Shared, told: &mut BTreeSet<String>) -> Result<(), Ended> {
        let mut missing = Vec::new();
        for item in lock(tracked).values() {
            let Some(status) = &item.status else {
                missing.push(format!(
                    "the agent of {} said nothing of the {} of {} that it was to inject",
                    item.node, item.kind, item.target
                ));
                continue;
            };
            let evidence = status.effect.as_ref().map(|e| e.evidence.as_str()).unwrap_or_default();
            match proof(item) {
                Some(Proof::Proven) if told.insert(item.id.clone()) => {
                    let after = self.time_to_effect(item);
                    let after = after
                        .map_or(String::new(), |d| format!(" after {}", crate::report::time(d)));
                    self.console
                        .say("effect", &format!("{}: proven{after}: {evidence}", item.target));
                }
                Some(Proof::Failed) => missing.push(format!(
                    "the {} of {} had no effect: {}",
                    item.kind,
                    item.target,
                    if status.failure.is_empty() { evidence } else { &status.failure }
                )),
                _ if !status.failure.is_empty() => missing.push(format!(
                    "the {} of {} failed: {}",
                    item.kind, item.target, status.failure
                )),
                _ => {}
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(Ended::Refused(missing)) }
    }

    /// Notices faults that ended before their time, and nodes whose leases ran out.
    fn check_held(&mut self, tracked: &Shared) -> Result<(), Ended> {
        if self.interrupt.is_set() {
            return Err(Ended::Interrupted);
        }
        let mut ended = Vec::new();
        for item in lock(tracked).values_mut() {
            let Some(status) = &item.status else { continue };
            let over = matches!(
                State::from_wire(status.state),
                Some(State::Reverting | State::Reverted | State::Stuck)
            );
            if over && item.revert_asked.is_none() {
                item.revert_asked = Some(Instant::now());
                ended.push(format!(
                    "the {} of {} ended before its time: {}",
                    item.kind,
                    item.target,
                    reason(status.revert_reason)
                ));
            }
        }
        for text in ended {
            self.console.warn("early", &text);
            self.deviations.push(text);
        }
        Ok(())
    }

    /// Reverts some injections and waits for the proof.
    async fn revert(&mut self, tracked: &Shared, ids: &BTreeSet<String>) {
        let now = Instant::now();
        for item in lock(tracked).values_mut().filter(|t| ids.contains(&t.id)) {
            item.revert_asked.get_or_insert(now);
        }
        let wanted = |t: &Tracked| ids.contains(&t.id) && !is_reverted(t);
        let mut latest = now + REACH_AFTER_LEASE_MAX;
        loop {
            let asked = ids_by_node(tracked, wanted);
            if asked.is_empty() {
                break;
            }
            let errors = take_in(tracked, self.fleet.revert(&asked).await);
            let unreachable: Vec<&AgentError> =
                errors.iter().filter(|e| matches!(e, AgentError::Unreachable { .. })).collect();
            if unreachable.is_empty() {
                break;
            }
            // Its leases end without us; afterwards its agent may be back and can be asked.
            for error in &unreachable {
                self.console.warn("revert", &one_line(*error));
                if let Some(end) = self.lease_end(tracked, error.node()) {
                    latest = latest.max(end + REACH_AFTER_LEASE_MAX);
                }
            }
            if Instant::now() >= latest {
                break;
            }
            time::sleep(Duration::from_millis(250)).await;
        }
        for item in lock(tracked).values_mut().filter(|t| ids.contains(&t.id)) {
            if is_reverted(item) && !item.revert_told {
                item.revert_told = true;
                let took = self.time_to_revert(item);
                let took =
                    took.map_or(String::new(), |d| format!(" in {}", crate::report::time(d)));
                self.console
                    .say("revert", &format!("{}: proven{took}, nothing is left", item.target));
            }
        }
        let reverted = lock(tracked).values().filter_map(|t| self.reverted_at(t)).max();
        let instant = self.times.ends_with_instant;
        self.times.recover_from = if instant {
            self.times.injected
        } else {
            reverted.or(self.times.recover_from).or(Some(now))
        };
    }

    /// Puts the injections of a step into the report, and what is left of them.
    fn finish_step(&mut self, tracked: &Shared) {
        let items: Vec<Tracked> = lock(tracked).values().cloned().collect();
        for item in items {
            if !is_reverted(&item) {
                let left = item.status.as_ref().map(|s| s.residue.join("; ")).unwrap_or_default();
                let left = if left.is_empty() {
                    let lease = self.lease_end(tracked, &item.node);
                    let ends = lease.map_or(String::new(), |end| {
                        let left = end.saturating_duration_since(Instant::now());
                        format!(" (its lease ends in {})", crate::report::time(left))
                    });
                    format!("its agent did not say that it is reverted{ends}")
                } else {
                    left
                };
                self.residue
                    .push(format!("{} of {} on {}: {left}", item.kind, item.target, item.node));
            }
            let report = self.report_of(&item);
            self.injections.push(report);
        }
    }

    fn report_of(&self, item: &Tracked) -> InjectionReport {
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
            plan: item.plan.clone(),
            state: State::from_wire(status.state)
                .map_or("unknown".into(), |s| name(format!("{s:?}"))),
            effect: proof(item).map_or("unknown".into(), |p| name(format!("{p:?}"))),
            evidence: status.effect.clone().unwrap_or_default().evidence,
            time_to_effect_ms: self.time_to_effect(item).map(millis),
            lasted_ms: lasted.filter(|_| item.hold == Hold::Lasts).map(millis),
            time_to_revert_ms: self.time_to_revert(item).map(millis),
            revert_reason: RevertReason::from_wire(status.revert_reason)
                .map(|_| reason(status.revert_reason)),
            residue: status.residue,
            changed_by_others: status.changed_by_others,
            failure: Some(status.failure).filter(|f| !f.is_empty()),
        }
    }

    /// Asks every agent of the run once more whether anything of it is left.
    pub(super) async fn make_sure(&mut self) {
        let answers = self.fleet.revert_run(self.id).await;
        for (node, answer) in answers {
            match answer {
                Ok(statuses) => {
                    for status in statuses.iter().filter(|s| !s.residue.is_empty()) {
                        let text =
                            format!("{} on {node}: {}", status.kind, status.residue.join("; "));
                        if !self
                            .residue
                            .iter()
                            .any(|known| known.contains(&status.residue.join("; ")))
                        {
                            self.residue.push(text);
                        }
                    }
                }
                Err(e)
                    if self.injections.iter().any(|i| i.node == node && i.state != "reverted") =>
                {
                    self.residue.push(one_line(&e));
                }
                // It has proven that nothing is left, and need not say so twice.
                Err(e) => self.console.warn("revert", &one_line(&e)),
            }
        }
    }

    fn note_skew(&mut self, tracked: &Shared) {
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

    fn committed(&self, tracked: &Shared) -> Option<Instant> {
        let items = lock(tracked);
        let times = items
            .values()
            .filter_map(|t| self.here(&t.node, t.status.as_ref()?.committed_boottime_ns));
        times.min()
    }

    fn lease_end(&self, tracked: &Shared, node: &str) -> Option<Instant> {
        let items = lock(tracked);
        let of_node = items.values().filter(|t| t.node == node);
        of_node.filter_map(|t| self.here(node, t.status.as_ref()?.lease_end_boottime_ns)).max()
    }

    fn reverted_at(&self, item: &Tracked) -> Option<Instant> {
        self.here(&item.node, item.status.as_ref()?.reverted_boottime_ns)
    }

    fn time_to_effect(&self, item: &Tracked) -> Option<Duration> {
        let effect = item.status.as_ref()?.effect.as_ref()?;
        let proven = self.here(&item.node, effect.proven_boottime_ns)?;
        Some(proven.saturating_duration_since(item.ordered?))
    }

    fn time_to_revert(&self, item: &Tracked) -> Option<Duration> {
        Some(self.reverted_at(item)?.saturating_duration_since(item.revert_asked?))
    }

    /// A time of a node's clock, here; `None` for 0, which means that it has not come.
    fn here(&self, node: &str, boottime_ns: u64) -> Option<Instant> {
        let clock = self.fleet.get(node)?.clock();
        (boottime_ns > 0).then(|| clock.to_here(BootTime::from_nanos(boottime_ns)))
    }
}
