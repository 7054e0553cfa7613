//! A step, planned on whoever the targets are now and prepared everywhere.
//!
//! What an earlier step has taken down may be on its way back: until its kubelet has started a container again and the
//! API server tells of it, the plan is of one that has gone. That is waited for, for a while, and refused only then.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_proto::pb;

use super::{Ended, Run, inject::wire, observe::Doing, one_lines};
use crate::{
    agents::{AgentError, Orders},
    plan::PlannedFault,
};

/// How long a target may take to come back: a kubelet waits up to 10 s before it starts a container for the second time.
const BACK_MAX: Duration = Duration::from_secs(15);
/// How often is looked whether it has.
const BACK_LOOK_EVERY: Duration = Duration::from_millis(250);

/// A step that only has to be committed.
pub(super) struct PreparedStep {
    pub(super) faults: Vec<PlannedFault>,
    pub(super) injections: Orders,
    pub(super) prepared: Vec<pb::Prepared>,
}

/// Why a step could not be prepared.
enum NotPrepared {
    /// A target is not there (now): what is said of it.
    Away(Vec<String>),
    /// Waiting makes nothing better.
    Ended(Ended),
}

impl Run<'_> {
    /// Plans and prepares the step that has this place in the method.
    pub(super) async fn prepare_step(&mut self, index: usize) -> Result<PreparedStep, Ended> {
        let end = Instant::now() + BACK_MAX;
        let mut told = false;
        loop {
            let away = match self.try_to_prepare(index).await {
                Ok(prepared) => return Ok(prepared),
                Err(NotPrepared::Ended(ended)) => return Err(ended),
                Err(NotPrepared::Away(why)) => why,
            };
            // Before the first fault nobody has taken anything down that is to come back.
            if self.times.injected.is_none() || Instant::now() >= end {
                return Err(Ended::Refused(away));
            }
            if !std::mem::replace(&mut told, true) {
                self.console.say("wait", &format!("until it is back: {}", away.join("; ")));
            }
            let doing = Doing { what: "until targets are back", end };
            self.pause(BACK_LOOK_EVERY, &doing).await?;
        }
    }

    async fn try_to_prepare(&mut self, index: usize) -> Result<PreparedStep, NotPrepared> {
        let faults = self.step_now(index).map_err(|e| NotPrepared::Away(vec![e]))?;
        self.still_allowed(&faults).map_err(NotPrepared::Ended)?;
        let injections = wire(&self.fleet, self.experiment.lease, &faults)
            .map_err(|e| NotPrepared::Ended(Ended::Refused(vec![e])))?;
        let fleet = Arc::clone(&self.fleet);
        let prepared = self.ends.unless(fleet.prepare(self.id, &injections, false)).await;
        match prepared.map_err(NotPrepared::Ended)? {
            Ok(prepared) => Ok(PreparedStep { faults, injections, prepared }),
            Err(errors) if errors.iter().all(AgentError::is_target_gone) => {
                Err(NotPrepared::Away(one_lines(&errors)))
            }
            Err(errors) => Err(NotPrepared::Ended(Ended::Refused(one_lines(&errors)))),
        }
    }
}
