//! The way back: revert, have the kernels say that nothing is left, and say so of every injection.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use faultline_proto::{pb, status::State};
use tokio::time;

use super::{
    Run,
    ended::{ended_otherwise, has_lost_target, is_reverted},
    one_line,
    tracked::{Shared, Tracked, ids_by_node, lock, take_in},
};
use crate::{
    agents::{ANSWER_MAX, AgentError},
    report::journal::Event,
};

/// How long what is answered to be under way may take, behind the end of its lease.
const UNFINISHED_MAX: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Reverts some injections and waits for the proof: until `until`, or as long as a node that
    /// cannot be reached may come back in.
    pub(super) async fn revert(
        &mut self,
        tracked: &Shared,
        ids: &BTreeSet<String>,
        until: Option<Instant>,
    ) {
        let now = Instant::now();
        let mut faults = Vec::new();
        for item in lock(tracked).values_mut().filter(|t| ids.contains(&t.id)) {
            if item.revert_asked.is_none() {
                faults.push(item.id.clone());
            }
            item.revert_asked.get_or_insert(now);
        }
        if !faults.is_empty() {
            self.recorder.tell(Event::RevertAsked { faults });
        }
        let wanted = |t: &Tracked| ids.contains(&t.id) && !is_reverted(t);
        let mut latest = now + UNFINISHED_MAX;
        let mut told = BTreeSet::new();
        loop {
            let asked = ids_by_node(tracked, wanted);
            if asked.is_empty() {
                break;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let limit = left.map_or(ANSWER_MAX, |left| left.min(ANSWER_MAX));
            let errors = take_in(tracked, self.fleet.revert(&asked, limit).await);
            let unreachable: Vec<&AgentError> =
                errors.iter().filter(|e| matches!(e, AgentError::Unreachable { .. })).collect();
            // Of what goes through the API server, whoever answers does not say that it is done.
            let unfinished = unfinished(tracked, wanted);
            if (unreachable.is_empty() && unfinished.is_empty()) || until.is_some() {
                break;
            }
            for (node, why) in unfinished {
                if told.insert(why.clone()) {
                    self.console.warn("revert", &why);
                }
                if let Some(end) = self.lease_end(tracked, &node) {
                    latest = latest.max(end + UNFINISHED_MAX);
                }
            }
            // Its leases end without us; afterwards its agent may be back and can be asked.
            for error in &unreachable {
                let end = self.lease_end(tracked, error.node()).unwrap_or(now);
                latest = latest.max(end + self.agents_return_within);
                let why = one_line(*error);
                if told.insert(why.clone()) {
                    let left = latest.saturating_duration_since(Instant::now());
                    let left = crate::report::time(left);
                    self.console.warn("revert", &format!("{why}; asked again for {left} at most"));
                }
            }
            if Instant::now() >= latest {
                break;
            }
            time::sleep(Duration::from_millis(250)).await;
        }
        let mut otherwise = Vec::new();
        for item in lock(tracked).values_mut().filter(|t| ids.contains(&t.id)) {
            if is_reverted(item) && !item.told.end {
                item.told.end = true;
                if item.followed && has_lost_target(item) {
                    item.let_go.get_or_insert("its target has gone");
                } else {
                    otherwise.extend(ended_otherwise(item));
                }
            }
            if is_reverted(item) && !item.told.revert {
                item.told.revert = true;
                let took = self.time_to_revert(item);
                let took =
                    took.map_or(String::new(), |d| format!(" in {}", crate::report::time(d)));
                self.console
                    .say("revert", &format!("{}: proven{took}, nothing is left", item.target));
                self.record_reverted(item);
            }
        }
        for text in otherwise {
            self.deviate("end", text);
        }
        let reverted = lock(tracked).values().filter_map(|t| self.reverted_at(t)).max();
        let reverted = reverted.map(|at| self.run_time(at));
        let instant = self.times.ends_with_instant;
        self.times.recover_from = if instant {
            self.times.step_injected
        } else {
            reverted.or(self.times.recover_from).or(Some(self.run_time(now)))
        };
    }

    /// Puts the injections of a step into the report, and what is left of them.
    pub(super) fn finish_step(&mut self, tracked: &Shared) {
        let items: Vec<Tracked> = lock(tracked).values().cloned().collect();
        for item in items {
            if !is_reverted(&item) {
                let left = item.status.as_ref().map(|s| s.residue.join("; ")).unwrap_or_default();
                let left = if left.is_empty() {
                    let lease = self.lease_end(tracked, &item.node);
                    let ends = lease.map_or(String::new(), |end| {
                        let now = Instant::now();
                        let left = end.saturating_duration_since(now);
                        let since = crate::report::time(now.saturating_duration_since(end));
                        if left.is_zero() {
                            format!(" (its lease ended {since} ago)")
                        } else {
                            format!(" (its lease ends in {})", crate::report::time(left))
                        }
                    });
                    format!("its agent did not say that it is reverted{ends}")
                } else {
                    left
                };
                self.left(format!("{} of {} on {}: {left}", item.kind, item.target, item.node));
            }
            let report = self.report_of(&item);
            self.recorder.tell(Event::Injection(Box::new(report.clone())));
            self.injections.push(report);
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
                            self.left(text);
                        }
                    }
                }
                Err(e)
                    if self.injections.iter().any(|i| i.node == node && i.state != "reverted") =>
                {
                    self.left(one_line(&e));
                }
                // It has proven that nothing is left, and need not say so twice.
                Err(e) => self.console.warn("revert", &one_line(&e)),
            }
        }
    }
}

/// What was asked to be reverted and is still being reverted, as was answered: where, and what is in the way.
fn unfinished(tracked: &Shared, wanted: impl Fn(&Tracked) -> bool) -> Vec<(String, String)> {
    let is_at_it =
        |status: &pb::InjectionStatus| State::from_wire(status.state) == Some(State::Reverting);
    let items = lock(tracked);
    let told = items.values().filter(|item| wanted(item)).filter_map(|item| {
        let status = item.status.as_ref().filter(|status| is_at_it(status))?;
        let why = status.residue.first().cloned().unwrap_or_else(|| status.failure.clone());
        Some((item.node.clone(), why))
    });
    told.collect()
}
