//! A stopping signal: sent and held by a stopper, which continues what it stopped.

use std::time::Duration;

use faultline_proto::boottime::BootTime;

use super::{
    KillPlan,
    evidence::{Effect, Signalled},
    sent::summary,
};
use crate::{
    fault::{Live, Observation, Wake},
    helper::{Helper, Kind, Report, Request, stopper::Start},
    kernel::{KernelError, clock, container::ContainerRef, pidfd::PidFd, process::ProcessId},
};

/// How often the stopper and the target are looked at.
const WATCH: Duration = Duration::from_millis(200);

/// Processes that are held.
#[derive(Debug)]
pub(super) struct Stopped {
    plan: KillPlan,
    helper: Helper,
    signalled: Vec<Signalled>,
    lease_end: BootTime,
    /// When the signal is sent again; `None`: it is not.
    next: Option<BootTime>,
}

impl Stopped {
    /// Starts the stopper and has it stop them.
    ///
    /// # Errors
    /// [`KernelError::Gone`] when none of the processes is left.
    pub(super) fn begin(plan: &KillPlan, lease_end: BootTime) -> Result<Self, KernelError> {
        let mut helper = Helper::start(Kind::Stopper, plan.id, &Start { lease_end })?;
        let at = clock::now();
        let sent = stop(plan, &mut helper)?;
        let mut signalled = Vec::new();
        for victim in plan.victims.iter().filter(|victim| sent.contains(&victim.process)) {
            match PidFd::open(victim.process) {
                Ok(handle) => {
                    signalled.push(Signalled { handle, name: victim.name.clone(), at });
                }
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        if signalled.is_empty() {
            return Err(KernelError::Gone {
                what: format!("what was to be stopped of {}", plan.target),
            });
        }
        let next = plan.every.map(|every| at.after(every));
        Ok(Self { plan: plan.clone(), helper, signalled, lease_end, next })
    }
}

fn stop(plan: &KillPlan, helper: &mut Helper) -> Result<Vec<ProcessId>, KernelError> {
    let request = Request::Stop {
        signal: plan.signal.number(),
        processes: plan.victims.iter().map(|victim| victim.process).collect(),
        container: ContainerRef {
            pod_uid: plan.pod_uid.clone(),
            id: plan.container_id.clone(),
            containers: plan.containers.clone(),
        },
    };
    match helper.ask(&request)? {
        Report::Stopped { sent } => Ok(sent),
        other => Err(KernelError::Unexpected {
            verb: "ask",
            object: "the stopper".into(),
            problem: format!("it answered {other:?}"),
        }),
    }
}

impl Live for Stopped {
    fn prove(&mut self) -> Result<Observation, KernelError> {
        let mut seen = Vec::new();
        for signalled in &self.signalled {
            match signalled.effect(self.plan.signal)? {
                Effect::Seen(how) => seen.push(how),
                Effect::NotYet(why) => return Ok(Observation::NotYet(why)),
            }
        }
        Ok(Observation::Proven(summary(&seen)))
    }

    fn renew(&mut self, lease_end: BootTime) -> Result<(), KernelError> {
        self.helper.renew(lease_end)?;
        self.lease_end = lease_end;
        Ok(())
    }

    fn wake(&mut self, now: BootTime) -> Result<Wake, KernelError> {
        let mut all_ended = true;
        for signalled in &self.signalled {
            all_ended &= signalled.handle.has_ended()?;
        }
        if all_ended {
            return Ok(Wake::TargetGone);
        }
        if let Some(how) = self.helper.how_it_ended()? {
            // At the end of the lease it ends by itself, and the supervisor knows about the lease.
            if now >= self.lease_end {
                return Ok(Wake::At(now.after(WATCH)));
            }
            return Err(KernelError::Unexpected {
                verb: "hold",
                object: format!("the processes of {}", self.plan.target),
                problem: format!("the stopper has ended before its time: {how}"),
            });
        }
        if let (Some(next), Some(every)) = (self.next, self.plan.every)
            && next <= now
        {
            stop(&self.plan, &mut self.helper)?;
            let in_step = next.after(every);
            self.next = Some(if in_step <= now { now.after(every) } else { in_step });
        }
        let watch = now.after(WATCH);
        Ok(Wake::At(self.next.map_or(watch, |next| next.min(watch))))
    }

    fn first_wake(&self) -> Option<Duration> {
        Some(self.plan.every.map_or(WATCH, |every| every.min(WATCH)))
    }
}
