//! The fault kinds on Linux, and the contract between them and the supervisor.
//!
//! A kind has a plan, which is plain data and goes to the journal, and while it is in effect in this
//! process something that is alive. This module dispatches; a new kind is one more file and the arms
//! that the compiler then asks for.

pub mod kill;
pub mod memory_pressure;
pub mod partition;
mod sweep;

use std::time::Duration;

use faultline_proto::{boottime::BootTime, fault::Fault, id::FaultId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use sweep::{CGROUP_AGE_MIN, Swept, sweep, sweep_tables, take_back_by_name};

use crate::{
    kernel::{KernelError, rcu},
    node_info::Feature,
    resolve::{self, Resolved, Resolver},
};

/// A fault, planned: everything that is needed to inject it and to undo it, as plain data.
///
/// # Guarantees of the supervisor
/// - The plan is in the journal, on disk, before [`Injection::inject`] is called.
/// - [`Injection::revert`] is called at least once after `inject` was started, in this process or in
///   a later one, also when `inject` failed or never returned.
/// - What `inject` returned is dropped after `revert`, and before [`Injection::residue`].
///
/// # Contract of a kind
/// - Its `plan` function looks and touches nothing. It chooses every name before acting.
/// - `inject` stores nothing in `self`. Without a renewal the effect ends at `lease_end` with no
///   process of ours alive, or by a holder process outside the agent's own control group.
/// - A plan to change what is in effect, where the kind has one, takes back both: what is in effect
///   now and what it is to become. It is in the journal before [`Injection::amend`] is called.
/// - `revert` is idempotent, and accepts that `inject` never ran, ran halfway, ran in an earlier
///   process, or that the target is gone. It undoes only what is still ours.
/// - `residue` reads the kernel, not our memory, and changes nothing.
pub trait Injection {
    /// Changes the kernel. Returns as soon as the change is made; proving it comes after.
    ///
    /// # Errors
    /// When it could not be made completely. The supervisor then reverts.
    fn inject(&self, lease_end: BootTime) -> Result<Box<dyn Live>, KernelError>;

    /// Makes ready what [`AnyInjection::amended`] planned, beside what is in effect and without any
    /// effect of its own. Between this and [`Injection::switch`] comes [`settle`], once for all that is
    /// changed together: it takes a while.
    ///
    /// # Errors
    /// When it could not be made. What was in effect still is.
    fn make_ready(&self) -> Result<(), KernelError> {
        Err(cannot_be_changed())
    }

    /// Changes what is in effect into what was made ready, in one step and with the same end of its
    /// lease. Returns what takes the place of what is alive of it now.
    ///
    /// # Errors
    /// When it could not be made. What was in effect still is.
    fn switch(&self) -> Result<Box<dyn Live>, KernelError> {
        Err(cannot_be_changed())
    }

    /// All of a change, where it is the only one.
    ///
    /// # Errors
    /// As [`Injection::switch`].
    fn amend(&self) -> Result<Box<dyn Live>, KernelError> {
        self.make_ready()?;
        settle()?;
        self.switch()
    }

    /// Undoes the change. Returns what somebody else changed meanwhile and was left alone, each as
    /// one sentence.
    ///
    /// # Errors
    /// When something of ours could not be undone. The supervisor tries again.
    fn revert(&self) -> Result<Vec<String>, KernelError>;

    /// What the kernel holds of this fault now, each as one sentence. Empty: clean.
    ///
    /// # Errors
    /// When the kernel could not be read.
    fn residue(&self) -> Result<Vec<String>, KernelError>;
}

fn cannot_be_changed() -> KernelError {
    KernelError::Unexpected {
        verb: "change",
        object: "a fault in effect".into(),
        problem: "its kind cannot be changed".into(),
    }
}

/// Waits, some milliseconds, until nothing in the kernel looks at what was there before
/// [`Injection::make_ready`].
///
/// # Errors
/// When it cannot be waited for.
pub fn settle() -> Result<(), KernelError> {
    rcu::wait_for_packets()
}

/// A fault that is in effect, in the process that injected it.
pub trait Live: Send {
    /// Looks whether the effect is there, from outside of what made it. Does not wait.
    ///
    /// # Errors
    /// When the kernel could not be asked.
    fn prove(&mut self) -> Result<Observation, KernelError>;

    /// Moves the end of the lease. Not past the deadline: the supervisor sees to that.
    ///
    /// # Errors
    /// When the kernel refused. The lease then ends when it would have.
    fn renew(&mut self, lease_end: BootTime) -> Result<(), KernelError>;

    /// Does what has to be done from time to time, and looks whether the target is still there.
    /// Called when the time last returned by it (or by [`Live::first_wake`]) has come.
    ///
    /// # Errors
    /// When what has to be done could not be done.
    fn wake(&mut self, _now: BootTime) -> Result<Wake, KernelError> {
        Ok(Wake::Never)
    }

    /// How long after the injection [`Live::wake`] is to be called first; `None`: never.
    fn first_wake(&self) -> Option<Duration> {
        None
    }
}

/// What a look at the effect of a fault showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// It is there; one sentence says how that was seen.
    Proven(String),
    /// It is not there yet; one sentence says what was seen.
    NotYet(String),
}

/// When to call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Not at all.
    Never,
    /// At this time.
    At(BootTime),
    /// The target has gone for good: revert.
    TargetGone,
}

/// Why a fault is not prepared. Nothing has been changed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The target is not on this node.
    #[error("{what} is not on this node")]
    TargetGone {
        /// What was looked for.
        what: String,
    },
    /// The node lacks something.
    #[error("this node has no {needs}: {why}")]
    Unsupported {
        /// The feature.
        needs: &'static str,
        /// How that was found.
        why: String,
    },
    /// What is asked makes no sense on this target as it is.
    #[error("{0}")]
    NotPossible(String),
    /// Another fault is in the way.
    #[error("fault {with} {what}; revert it first, or wait for its end")]
    Conflict {
        /// That fault.
        with: FaultId,
        /// What it does.
        what: String,
    },
    /// A place that the fault needs is taken by something that is not ours.
    #[error("{what} is not Faultline's and is left alone")]
    Foreign {
        /// What it is.
        what: String,
    },
    /// This agent's policy protects the target.
    #[error("{what} is protected by this agent's policy")]
    Protected {
        /// What is protected.
        what: String,
    },
    /// The node could not be looked at.
    #[error("cannot plan the fault")]
    Kernel(#[from] KernelError),
}

impl Refusal {
    /// A stable word for each case, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TargetGone { .. } => "target_gone",
            Self::Unsupported { .. } => "unsupported",
            Self::NotPossible(_) => "not_possible",
            Self::Conflict { .. } => "conflict",
            Self::Foreign { .. } => "foreign",
            Self::Protected { .. } => "protected",
            Self::Kernel(_) => "kernel",
        }
    }
}

/// A planned fault of any kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AnyInjection {
    /// See [`partition`].
    Partition(partition::PartitionInjection),
    /// See [`kill`].
    Kill(kill::KillPlan),
    /// See [`memory_pressure`].
    MemoryPressure(memory_pressure::MemoryPressurePlan),
}

impl AnyInjection {
    /// Plans a fault on a target: looks, and touches nothing.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub fn plan(
        id: FaultId,
        fault: &Fault,
        target: &Resolved,
        resolver: &Resolver,
    ) -> Result<Self, Refusal> {
        match fault {
            Fault::Partition(fault) => {
                partition::PartitionInjection::plan(id, fault, target).map(Self::Partition)
            }
            Fault::Kill(fault) => kill::KillPlan::new(id, fault, target, resolver).map(Self::Kill),
            Fault::MemoryPressure(fault) => {
                memory_pressure::MemoryPressurePlan::new(id, fault, target, resolver)
                    .map(Self::MemoryPressure)
            }
        }
    }

    /// Plans what makes of this fault, which is in effect, another one: looks, and touches nothing.
    /// What it comes to takes back both.
    ///
    /// # Errors
    /// Why it cannot be done: of another kind, or a kind that cannot be changed while it acts.
    pub fn amended(&self, fault: &Fault) -> Result<Self, Refusal> {
        match (self, fault) {
            (Self::Partition(plan), Fault::Partition(fault)) => {
                plan.amended(fault, &resolve::node_addresses()?).map(Self::Partition)
            }
            // A signal has been sent, and held memory has its own level and ramp.
            (Self::Kill(_), Fault::Kill(_))
            | (Self::MemoryPressure(_), Fault::MemoryPressure(_)) => {
                let kind = fault.kind();
                Err(Refusal::NotPossible(format!(
                    "a {kind} cannot be changed while it is in effect; revert it and inject anew"
                )))
            }
            (Self::Partition(_) | Self::Kill(_) | Self::MemoryPressure(_), fault) => {
                let kind = fault.kind();
                Err(Refusal::NotPossible(format!(
                    "it cannot become a {kind}; revert it and inject that"
                )))
            }
        }
    }

    /// What will be done, in one sentence for a person.
    pub fn describe(&self) -> String {
        match self {
            Self::Partition(plan) => plan.describe(),
            Self::Kill(plan) => plan.describe(),
            Self::MemoryPressure(plan) => plan.describe(),
        }
    }

    /// What two faults that are in effect at once must not both have, of one that is only asked for;
    /// `None`: nothing. Asked before [`AnyInjection::plan`], which would take what the other one does for
    /// somebody else's doing.
    pub fn exclusive_key_of(fault: &Fault, target: &Resolved) -> Option<String> {
        match fault {
            // Rules in tables of their own compose.
            Fault::Partition(_) => None,
            Fault::Kill(fault) => kill::exclusive_key(fault, target),
            Fault::MemoryPressure(_) => memory_pressure::exclusive_key(target),
        }
    }

    /// The same, of one that is planned.
    pub fn exclusive_key(&self) -> Option<String> {
        match self {
            Self::Partition(_) => None,
            Self::Kill(plan) => plan.exclusive_key(),
            Self::MemoryPressure(plan) => Some(plan.exclusive_key()),
        }
    }

    /// The contract that every kind fulfils.
    pub fn as_injection(&self) -> &dyn Injection {
        match self {
            Self::Partition(plan) => plan,
            Self::Kill(plan) => plan,
            Self::MemoryPressure(plan) => plan,
        }
    }
}

/// What the fault kinds need of this node, and whether it is there.
pub fn features(resolver: &Resolver) -> Vec<Feature> {
    vec![partition::feature(), memory_pressure::feature(&resolver.cgroups)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_that_cannot_be_changed_says_so_and_none_becomes_another() {
        let kill = json!({ "kill": {
            "id": "00000000000000a1", "target": "shop/api-1", "podUid": "u", "containerId": "c",
            "containers": "cgroups", "signal": 9, "processes": "main", "every": null,
            "victims": [], "siblings": [], "mainName": null, "ownDirs": [],
        } });
        let kill: AnyInjection = serde_json::from_value(kill).expect("a plan");
        let kill_all = json!({ "kill": { "signal": 15, "processes": "all", "every": null } });
        let partition = json!({ "partition": {
            "egress": "everything", "ingress": null, "protocol": "any", "ports": [],
            "portSide": "either", "verdict": "drop", "kubelet": "cut",
        } });
        for (fault, expected) in [
            (kill_all, "a kill cannot be changed while it is in effect"),
            (partition, "it cannot become a partition"),
        ] {
            let fault: Fault = serde_json::from_value(fault).expect("a fault");
            let refusal = kill.amended(&fault).expect_err("refused");
            assert!(matches!(&refusal, Refusal::NotPossible(why) if why.starts_with(expected)));
        }
        assert!(kill.as_injection().amend().is_err());
    }
}
