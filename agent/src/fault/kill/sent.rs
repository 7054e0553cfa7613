//! A plain signal: sent once, or again and again to whoever is there then.

use std::time::Duration;

use faultline_proto::{boottime::BootTime, fault::Processes};

use super::{
    KillPlan,
    evidence::{Effect, Signalled},
    select::{self, Follower},
};
use crate::{
    fault::{Live, Observation, Wake},
    kernel::{
        KernelError, clock,
        pidfd::PidFd,
        process::{self, ProcessId},
    },
};

/// How long a pod may have no process at all before it counts as gone for good.
const POD_EMPTY_MAX: Duration = Duration::from_secs(30);
/// How many times all processes of a container are looked for in one round: some may have been started
/// by those that were killed only now.
const PASSES_MAX: usize = 8;

/// A signal that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    plan: KillPlan,
    follower: Follower,
    /// Those of the first round that found any: the proof is about them.
    first: Vec<Signalled>,
    proven: Option<String>,
    rounds: u64,
    signals: u64,
    next: BootTime,
    last_present: BootTime,
}

impl Sent {
    /// Sends it for the first time.
    ///
    /// # Errors
    /// [`KernelError::Gone`] when none of the processes is left, unless it is sent again and again.
    pub(super) fn begin(plan: &KillPlan) -> Result<Self, KernelError> {
        let now = clock::now();
        let mut this = Self {
            plan: plan.clone(),
            follower: Follower::new(plan),
            first: Vec::new(),
            proven: None,
            rounds: 0,
            signals: 0,
            next: now,
            last_present: now,
        };
        this.round(now)?;
        if this.first.is_empty() && plan.every.is_none() {
            return Err(KernelError::Gone {
                what: format!(
                    "what was to be signalled of {plan_target}",
                    plan_target = plan.target
                ),
            });
        }
        Ok(this)
    }

    /// Sends it to whom it is meant for, as they are now.
    fn round(&mut self, now: BootTime) -> Result<(), KernelError> {
        let mut signalled: Vec<Signalled> = Vec::new();
        for _pass in 0..PASSES_MAX {
            let before = signalled.len();
            for process in self.find(now) {
                if signalled.iter().any(|s| s.handle.id() == process) {
                    continue;
                }
                signalled.extend(self.send(process)?);
            }
            // Only a container that is to be emptied may grow meanwhile.
            if signalled.len() == before || self.plan.processes != Processes::All {
                break;
            }
        }
        self.rounds += 1;
        self.signals += signalled.len() as u64;
        let (round, signals) = (self.rounds, signalled.len());
        tracing::debug!(id = %self.plan.id, round, signals, signal = %self.plan.signal, "sent");
        if self.first.is_empty() {
            self.first = signalled;
        }
        Ok(())
    }

    /// Whom it is meant for now.
    fn find(&mut self, now: BootTime) -> Vec<ProcessId> {
        let own = process::own_lineage();
        let inside = if self.plan.every.is_some() {
            let pod = self.plan.containers.in_pod(&self.plan.pod_uid);
            if !pod.is_empty() {
                self.last_present = now;
            }
            self.follower.find(&self.plan, &pod)
        } else {
            self.plan.containers.in_container(&self.plan.pod_uid, &self.plan.container_id)
        };
        let planned = self.plan.victims.iter().map(|victim| victim.process);
        let planned: Vec<ProcessId> = planned.filter(|process| inside.contains(process)).collect();
        let found = match self.plan.processes {
            // The one that was planned, as long as it is there; a restarted container's only after.
            Processes::Main if !planned.is_empty() || self.plan.every.is_none() => planned,
            ref which => select::matching(which, &inside),
        };
        found.into_iter().filter(|process| !own.contains(&process.pid)).collect()
    }

    /// Sends it to one process, if that is still the one meant; `None` if it has gone.
    fn send(&self, process: ProcessId) -> Result<Option<Signalled>, KernelError> {
        let Some(victim) = select::victim(process) else { return Ok(None) };
        let outcome = PidFd::open(process).and_then(|handle| {
            // Asked after the open: what is signalled is what was asked about.
            if !self.plan.containers.holds(&self.plan.pod_uid, self.follower.current(), process) {
                return Ok(None);
            }
            let at = clock::now();
            handle.send(self.plan.signal.number())?;
            Ok(Some(Signalled { handle, name: victim.name, at }))
        });
        match outcome {
            Err(error) if error.is_gone() => Ok(None),
            outcome => outcome,
        }
    }
}

impl Live for Sent {
    fn prove(&mut self) -> Result<Observation, KernelError> {
        if self.proven.is_none() {
            if self.first.is_empty() {
                let why = format!("there is no process of {} to signal", self.plan.target);
                return Ok(Observation::NotYet(why));
            }
            let mut seen = Vec::new();
            for signalled in &self.first {
                match signalled.effect(self.plan.signal)? {
                    Effect::Seen(how) => seen.push(how),
                    Effect::NotYet(why) => return Ok(Observation::NotYet(why)),
                }
            }
            self.proven = Some(summary(&seen));
        }
        let proven = self.proven.clone().unwrap_or_default();
        Ok(Observation::Proven(match self.plan.every {
            Some(_) => format!("{proven}; {} signals in {} rounds", self.signals, self.rounds),
            None => proven,
        }))
    }

    fn renew(&mut self, _lease_end: BootTime) -> Result<(), KernelError> {
        // Nothing outlives this process: without it no further signal is sent.
        Ok(())
    }

    fn wake(&mut self, now: BootTime) -> Result<Wake, KernelError> {
        let Some(every) = self.plan.every else { return Ok(Wake::Never) };
        self.round(now)?;
        if now.since(self.last_present) > POD_EMPTY_MAX {
            return Ok(Wake::TargetGone);
        }
        // In step with the first one, but not twice in a row after a delay.
        self.next = self.next.after(every);
        if self.next <= now {
            self.next = now.after(every);
        }
        Ok(Wake::At(self.next))
    }

    fn first_wake(&self) -> Option<Duration> {
        self.plan.every
    }
}

/// The first few of many sentences.
pub(super) fn summary(sentences: &[String]) -> String {
    const SHOWN_MAX: usize = 3;
    let shown = sentences.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
    match sentences.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
