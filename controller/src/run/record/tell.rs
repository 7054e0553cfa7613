//! What a run tells its recorder.

use std::time::Instant;

use faultline_proto::{boottime::BootTime, pb, status::RevertReason};
use tokio::task::JoinSet;

use super::Recorder;
use crate::{
    agents::Orders,
    cluster::fault::DEADLINE_SLACK,
    probe::Running,
    report::{
        AgentReport, PhaseReport,
        journal::{Event, Phase, Prepared},
        millis,
    },
    run::{
        Ended, Run,
        ended::reason,
        tracked::{Shared, Tracked, lock},
    },
};

/// Parts of a run that its report tells.
const PHASES_MAX: usize = 10_000;

impl Run<'_> {
    /// Another part of the run begins; `index` is that of the step it belongs to.
    pub(in crate::run) fn phase(&mut self, phase: Phase, index: Option<usize>) {
        let is_of_step = !matches!(phase, Phase::Recovery | Phase::Judge);
        self.step = index.or(self.step).filter(|_| is_of_step);
        let step = self.step.map(|index| index + 1);
        if self.phases.len() < PHASES_MAX {
            self.phases.push(PhaseReport { phase, step, began_ms: millis(self.now()) });
        }
        self.recorder.tell(Event::Phase { phase, step });
    }

    /// The agents that the run is connected to.
    pub(in crate::run) fn agent_reports(&self) -> Vec<AgentReport> {
        let report = |agent: &crate::agents::Agent| {
            let clock = agent.clock();
            let boottime = clock.to_agent(self.origin).since(BootTime::from_nanos(0));
            AgentReport::new(agent.description(), clock.rtt(), boottime, clock.uncertainty())
        };
        self.fleet.agents().map(report).collect()
    }

    pub(in crate::run) fn record_agents(&self) {
        for agent in self.agent_reports() {
            self.recorder.tell(Event::Agent(agent));
        }
    }

    pub(in crate::run) fn record_prepared(&self, tracked: &Shared, orders: &Orders) {
        for wire in orders.nodes.values().flatten() {
            if let Some(item) = lock(tracked).get(&wire.fault_id) {
                let deadline = self.here(&item.node, wire.deadline_boottime_ns);
                self.recorder.tell(prepared(self, item, deadline));
            }
        }
        for injection in &orders.api {
            if let Some(item) = lock(tracked).get(&injection.fault_id) {
                let deadline = Instant::now() + injection.lasts + DEADLINE_SLACK;
                self.recorder.tell(prepared(self, item, Some(deadline)));
            }
        }
    }

    /// That an injection on a target that came is begun: it is ordered as soon as it is prepared.
    pub(in crate::run) fn record_coming(&self, item: &Tracked, wire: &pb::Injection) {
        let deadline = self.here(&item.node, wire.deadline_boottime_ns);
        self.recorder.tell(prepared(self, item, deadline));
        self.recorder.tell(Event::Ordered { faults: vec![item.id.clone()] });
    }

    pub(in crate::run) fn record_ordered(&self, tracked: &Shared) {
        let faults = lock(tracked).keys().cloned().collect();
        self.recorder.tell(Event::Ordered { faults });
    }

    pub(in crate::run) fn record_committed(&self, tracked: &Shared) {
        lock(tracked).values().for_each(|item| self.record_committed_one(item));
    }

    pub(in crate::run) fn record_committed_one(&self, item: &Tracked) {
        let status = item.status.as_ref();
        let injected =
            status.and_then(|status| self.here(&item.node, status.committed_boottime_ns));
        if let Some(injected) = injected {
            let injected_ms = millis(self.run_time(injected));
            self.recorder.tell(Event::Committed { fault: item.id.clone(), injected_ms });
        }
    }

    pub(in crate::run) fn record_proven(&self, item: &Tracked, evidence: &str) {
        self.recorder.tell(Event::Proven {
            fault: item.id.clone(),
            evidence: evidence.into(),
            time_to_effect_ms: self.time_to_effect(item).map(millis),
        });
    }

    pub(in crate::run) fn record_reverted(&self, item: &Tracked) {
        let reason = item.status.as_ref().and_then(|status| {
            RevertReason::from_wire(status.revert_reason).map(|_| reason(status.revert_reason))
        });
        self.recorder.tell(Event::Reverted {
            fault: item.id.clone(),
            reverted_ms: self.reverted_at(item).map(|at| millis(self.run_time(at))),
            reason,
        });
    }

    /// That the run ends before its method does: once, as soon as that is known, and also to who looks on
    /// if things were too bad to go on.
    pub(in crate::run) fn record_end(&mut self, ended: &Ended) {
        if std::mem::replace(&mut self.end_recorded, true) {
            return;
        }
        if let Ended::Stopped(why) = ended {
            for why in why {
                self.console.warn("stop", why);
            }
        }
        let reasons = match ended {
            Ended::Refused(why) | Ended::Halted(why) | Ended::Stopped(why) => why.clone(),
            Ended::Interrupted => vec!["interrupted".into()],
        };
        self.recorder.tell(Event::Stopped { reasons });
    }

    /// Something is left, or could not be proven not to be.
    pub(in crate::run) fn left(&mut self, text: String) {
        self.recorder.tell(Event::Residue { text: text.clone() });
        self.residue.push(text);
    }
}

fn prepared(run: &Run<'_>, item: &Tracked, deadline: Option<Instant>) -> Event {
    Event::Prepared(Box::new(Prepared {
        fault: item.id.clone(),
        kind: item.kind.into(),
        node: item.node.clone(),
        target: item.target.clone(),
        plan: item.plan.clone(),
        lasts_ms: millis(item.duration),
        deadline_ms: deadline.map_or(0.0, |at| millis(run.run_time(at))),
    }))
}

/// Hands the attempts of probes to the recorder as they end.
#[derive(Debug, Default)]
pub(in crate::run) struct Taps(JoinSet<()>);

impl Taps {
    pub(in crate::run) fn add(&mut self, recorder: &Recorder, running: &Running) {
        if !recorder.is_on() {
            return;
        }
        let (mut samples, recorder) = (running.samples.tap(), recorder.clone());
        let name = running.probe.name.clone();
        self.0.spawn(async move {
            while let Some(sample) = samples.recv().await {
                recorder.sample(&name, sample);
            }
        });
    }

    /// Waits until all of them are handed over, which is when the probes have gone; but not for long.
    pub(in crate::run) async fn finish(mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        // Only an attempt that still waits for its timeout can be missing, which is in no measure.
        drop(tokio::time::timeout(std::time::Duration::from_secs(1), all).await);
    }
}
