//! One step of the method: prepare everywhere, commit at one instant, and hold while leases are
//! renewed. The way back is in `revert`.

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
    status::{Proof, State},
};

use super::{
    Ended, Run,
    ended::{
        ended_by_halt, ends_at, has_lost_target, is_halted, is_let_go, is_over, is_reverted,
        is_unproven, reason,
    },
    follow::UnderWay,
    observe::{Doing, LOOK_EVERY},
    one_lines,
    prepare::PreparedStep,
    renew::Renewer,
    tracked::{Shared, Tracked, ids_by_node, lasts, lock, proof, take_in, track},
};
use crate::{
    agents::{AgentError, Fleet, Orders},
    cluster::fault as api,
    plan::{On, PlannedFault, PlannedInjection, What},
    report::journal::{Event, Phase},
};

/// From Prepare to Commit, at most: what a deadline is later than the planned end.
const COMMIT_SLACK: Duration = Duration::from_secs(5);
/// How long an agent may take to revert while other faults of the step go on, at least.
const REVERT_ASIDE_MIN: Duration = Duration::from_millis(250);
/// What is said of faults through the API server where this program ends at once.
const LEFT_IN_API: &str = "what was changed through the API server has no lease: `faultline halt` restores it at once, and \
    `faultline controller`, where it stands by in the cluster, at its deadline";
/// How long an agent may take to tell of its effects while they are looked for.
const LIST_MAX: Duration = Duration::from_secs(1);

/// A step's injections as those are told who make them, each with a new id.
pub(super) fn wire(
    fleet: &Fleet,
    lease: Duration,
    faults: &[PlannedFault],
) -> Result<Orders, String> {
    let mut orders = Orders::default();
    for (fault, injection) in each(faults) {
        let id = FaultId::random().map_err(|e| e.to_string())?;
        let lasts = lasts(fault, injection);
        if let (On::Object(object), What::Api(spec)) = (&injection.target, &injection.fault) {
            let (object, spec) = (object.clone(), spec.clone());
            let (fault_id, hits) = (id.to_string(), injection.hits.clone());
            orders.api.push(api::Injection { fault_id, object, spec, lasts, hits });
        } else if let Some(wire) = wire_one(fleet, lease, id, lasts, injection) {
            orders.nodes.entry(injection.node.clone()).or_default().push(wire);
        }
    }
    Ok(orders)
}

/// The wire form of an injection that is to last so long from about now on; `None` for what is not for agents.
pub(super) fn wire_one(
    fleet: &Fleet,
    lease: Duration,
    id: FaultId,
    lasts: Duration,
    injection: &PlannedInjection,
) -> Option<pb::Injection> {
    let (On::Pod(target), What::Node(fault)) = (&injection.target, &injection.fault) else {
        return None;
    };
    let end = Instant::now() + COMMIT_SLACK + lasts;
    // Where there is no agent, Prepare says so.
    let deadline = fleet.get(&injection.node).map(|agent| agent.clock().to_agent(end));
    Some(pb::Injection {
        fault_id: id.to_string(),
        target: Some(target.clone().into()),
        fault: Some(fault.clone().into()),
        lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
        deadline_boottime_ns: deadline.map_or(0, BootTime::as_nanos),
    })
}

fn each(faults: &[PlannedFault]) -> impl Iterator<Item = (&PlannedFault, &PlannedInjection)> {
    faults.iter().flat_map(|fault| fault.injections.iter().map(move |injection| (fault, injection)))
}

impl Run<'_> {
    /// Does the step that has this place in the method.
    pub(super) async fn inject_step(&mut self, index: usize) -> Result<(), Ended> {
        self.phase(Phase::Inject, Some(index));
        self.start_watch()?;
        if self.times.injected.is_none() {
            self.pods.begin();
        }
        let PreparedStep { faults, injections, prepared } = self.prepare_step(index).await?;
        let faults = faults.as_slice();
        let plans: BTreeMap<String, String> =
            prepared.into_iter().map(|item| (item.fault_id, item.plan)).collect();
        let tracked: Shared = Arc::new(Mutex::new(track(faults, &injections, &plans)));
        let now = Instant::now();
        lock(&tracked).values_mut().for_each(|item| item.prepared = Some(now));
        self.mark_followed(&tracked, faults);
        self.record_prepared(&tracked, &injections);
        for item in lock(&tracked).values() {
            self.console.say("inject", &format!("{}: {}", item.target, item.plan));
        }
        self.ends.check()?;
        let mut renewer =
            Renewer::start(&self.fleet, self.experiment.lease, &tracked, self.recorder);
        // Until that is proven to be reverted, whoever ends this program at once leaves something.
        self.interrupt.holds(true);
        let through_api = !injections.api.is_empty();
        if through_api {
            self.interrupt.leaves(Some(LEFT_IN_API.into()));
        }
        let outcome = self.commit_and_hold(index, faults, &tracked, &mut renewer).await;
        if let Err(ended) = &outcome {
            self.record_end(ended);
        }
        self.phase(Phase::Revert, None);
        self.end_following(index, &tracked);
        // Whatever happened: what is still there is taken back.
        let ids: BTreeSet<String> = lock(&tracked).keys().cloned().collect();
        self.revert(&tracked, &ids, None).await;
        drop(renewer);
        if through_api && lock(&tracked).values().all(is_reverted) {
            self.interrupt.leaves(None);
        }
        self.finish_step(&tracked);
        self.note_stopped(&tracked);
        if outcome.is_ok() {
            self.note_what_did_not_last(&tracked);
        }
        let outcome = outcome.map_err(|ended| self.unless_lasting(ended, faults, &tracked));
        let outcome = outcome.and_then(|()| self.halted_at_its_end(&tracked));
        outcome.and_then(|()| self.ends.check())
    }

    async fn commit_and_hold(
        &mut self,
        index: usize,
        faults: &[PlannedFault],
        tracked: &Shared,
        renewer: &mut Renewer,
    ) -> Result<(), Ended> {
        let ordered = Instant::now();
        let ordered_at = self.run_time(ordered);
        self.times.injected.get_or_insert(ordered_at);
        self.times.step_injected = Some(ordered_at);
        for item in lock(tracked).values_mut() {
            item.ordered = Some(ordered);
        }
        self.times.ends_with_instant = lock(tracked).values().all(|t| t.hold == Hold::Instant);
        self.record_ordered(tracked);
        let (fleet, ends) = (Arc::clone(&self.fleet), self.ends.clone());
        let ids = ids_by_node(tracked, |_| true);
        let answers = ends.unless(fleet.commit(&ids)).await?;
        let errors = take_in(tracked, answers);
        self.record_committed(tracked);
        self.phase(Phase::Hold, None);
        if !errors.is_empty() {
            let mut why = one_lines(&errors);
            let is_instant = |t: &Tracked| t.node == api::API_SERVER && t.hold == Hold::Instant;
            if errors.iter().any(AgentError::may_be_done) && lock(tracked).values().any(is_instant)
            {
                why.push("nobody knows whether that was done, and it cannot be taken back".into());
                return Err(Ended::Stopped(why));
            }
            return Err(Ended::Refused(why));
        }
        self.note_skew(tracked);
        let committed = self.committed(tracked).unwrap_or(ordered);
        let committed_at = self.run_time(committed);
        self.times.step_injected = Some(committed_at);
        let injected = self.times.injected.map_or(committed_at, |first| first.min(committed_at));
        self.times.injected = Some(injected);
        let follow_end = self.following.as_ref().and_then(|f| f.end(faults, committed));
        let mut step = UnderWay { index, tracked, committed, renewer };
        let mut told: BTreeSet<String> = BTreeSet::new();
        loop {
            if follow_end.is_some() {
                self.follow(&mut step);
            }
            self.tell_effects(tracked, &mut told)?;
            let now = Instant::now();
            let due: BTreeSet<String> = lock(tracked)
                .values()
                .filter(|t| t.revert_asked.is_none() && is_over(t, committed, now))
                .map(|t| t.id.clone())
                .collect();
            let next = lock(tracked)
                .values()
                .filter(|t| t.revert_asked.is_none() && !due.contains(&t.id))
                .map(|t| ends_at(t, committed))
                // Also when all of them have gone: others may come.
                .chain(follow_end.filter(|end| *end > now))
                .min();
            self.check_proven(tracked, &due)?;
            // The last ones are left to the revert of the step, which has more patience.
            let Some(next) = next else { return Ok(()) };
            if !due.is_empty() {
                // Whoever does not answer is asked again in the end: nobody else waits for that.
                let until = next.max(now + REVERT_ASIDE_MIN);
                ends.unless(self.revert(tracked, &due, Some(until))).await?;
            }
            self.check_held(tracked)?;
            let left = next.saturating_duration_since(Instant::now());
            // An effect that is still looked for is asked about often; the rest costs nothing.
            let pending = lock(tracked).values().any(|t| proof(t) == Some(Proof::Pending));
            let look = if pending { LOOK_EVERY / 5 } else { LOOK_EVERY };
            let over = lock(tracked).values().map(|t| ends_at(t, committed)).max();
            let doing = Doing { what: "in effect", end: over.unwrap_or(next) };
            self.pause(left.min(look), &doing).await?;
            if pending {
                let limit = left.clamp(LOOK_EVERY, LIST_MAX);
                let nodes = lock(tracked).values().map(|t| t.node.clone()).collect();
                let answers = ends.unless(fleet.list_of(nodes, limit)).await?;
                // A node that does not answer now is noticed by its lease.
                drop(take_in(tracked, answers));
            }
        }
    }

    /// Says what has been proven since the last look. An effect that is not there ends the run: what
    /// did nothing is not called injected.
    /// On a target that came later, or after a change, it is a deviation.
    fn tell_effects(&mut self, tracked: &Shared, told: &mut BTreeSet<String>) -> Result<(), Ended> {
        let mut missing = Vec::new();
        let mut deviations = Vec::new();
        for item in lock(tracked).values_mut() {
            let is_later = item.came.is_some() || item.amending;
            if item.let_go.is_some() || item.told.failure {
                continue;
            }
            let Some(status) = &item.status else {
                if is_later {
                    continue;
                }
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
                    self.record_proven(item, evidence);
                }
                failed => {
                    let why = match failed {
                        Some(Proof::Failed) if status.failure.is_empty() => evidence,
                        _ => &status.failure,
                    };
                    let (kind, target) = (item.kind, &item.target);
                    let text = match failed {
                        // It was written: how far it got is what is known.
                        Some(Proof::Failed) if item.node == api::API_SERVER => {
                            format!("the {kind} of {target} was not complete in time: {why}")
                        }
                        Some(Proof::Failed) => {
                            format!("the {kind} of {target} had no effect: {why}")
                        }
                        _ if why.is_empty() => continue,
                        _ => format!("the {kind} of {target} failed: {why}"),
                    };
                    let why = text.clone();
                    self.recorder.tell(Event::NoEffect { fault: item.id.clone(), why });
                    if !is_later {
                        missing.push(text);
                    } else if !has_lost_target(item) {
                        item.told.failure = true;
                        deviations.push(text);
                    }
                }
            }
        }
        for text in deviations {
            self.deviate("effect", text);
        }
        if missing.is_empty() { Ok(()) } else { Err(Ended::Refused(missing)) }
    }

    /// Ends the run if one of these faults, whose time is over, was not seen to have its effect.
    fn check_proven(&self, tracked: &Shared, over: &BTreeSet<String>) -> Result<(), Ended> {
        let mut missing = Vec::new();
        for item in lock(tracked).values().filter(|t| over.contains(&t.id) && is_unproven(t)) {
            let effect = item.status.as_ref().and_then(|status| status.effect.as_ref());
            let seen = effect.map(|effect| effect.evidence.as_str()).unwrap_or_default();
            let seen = if seen.is_empty() { "nothing was seen of it" } else { seen };
            let (kind, target) = (item.kind, &item.target);
            let text = format!("the {kind} of {target} was over before its effect was: {seen}");
            self.recorder.tell(Event::NoEffect { fault: item.id.clone(), why: text.clone() });
            missing.push(text);
        }
        if missing.is_empty() { Ok(()) } else { Err(Ended::Refused(missing)) }
    }

    /// Notices faults that ended before their time, and nodes whose leases ran out.
    fn check_held(&mut self, tracked: &Shared) -> Result<(), Ended> {
        self.ends.check()?;
        let (mut ended, mut halted) = (Vec::new(), Vec::new());
        for item in lock(tracked).values_mut() {
            let Some(status) = &item.status else { continue };
            let over = matches!(
                State::from_wire(status.state),
                Some(State::Reverting | State::Reverted | State::Stuck)
            );
            if over && item.revert_asked.is_none() && item.followed && has_lost_target(item) {
                is_let_go(item, "its target has gone");
                self.console.say(
                    "end",
                    &format!("the {} of {}: its target has gone", item.kind, item.target),
                );
            } else if over && item.revert_asked.is_none() {
                item.revert_asked = Some(Instant::now());
                item.told.end = true;
                if is_halted(status.revert_reason) {
                    halted.push(ended_by_halt(item));
                    continue;
                }
                let (kind, target, why) = (item.kind, &item.target, reason(status.revert_reason));
                ended.push(format!("the {kind} of {target} ended before its time: {why}"));
            }
        }
        for text in ended {
            self.deviate("early", text);
        }
        if halted.is_empty() {
            return Ok(());
        }
        for text in &halted {
            self.console.warn("halted", text);
        }
        Err(Ended::Halted(halted))
    }
}
