//! Which processes a kill is about, as they are now.

use std::collections::{BTreeMap, BTreeSet};

use faultline_proto::fault::Processes;

use super::{KillPlan, Victim};
use crate::kernel::process::{self, ProcessId, ProcessName};

/// Those of `inside`, the processes of one container, that are meant.
pub(super) fn matching(which: &Processes, inside: &[ProcessId]) -> Vec<ProcessId> {
    match which {
        Processes::Main => process::main_of(inside).into_iter().collect(),
        Processes::All => inside.to_vec(),
        Processes::Named(name) => {
            let is_meant = |p: &&ProcessId| ProcessName::of(**p).is_some_and(|n| n.is(name));
            inside.iter().filter(is_meant).copied().collect()
        }
    }
}

/// The process with its name; `None` if it has gone.
pub(super) fn victim(process: ProcessId) -> Option<Victim> {
    Some(Victim { process, name: ProcessName::of(process)?.to_string() })
}

/// Follows a container through its restarts: a restarted container has another id.
#[derive(Debug)]
pub(super) struct Follower {
    /// The id of the container now, or of its last life.
    current: String,
    /// The ids that are known to be of other containers, or of earlier lives of this one.
    known: BTreeSet<String>,
}

impl Follower {
    pub(super) fn new(plan: &KillPlan) -> Self {
        Self { current: plan.container_id.clone(), known: plan.siblings.clone() }
    }

    /// The id of the container, as last seen.
    pub(super) fn current(&self) -> &str {
        &self.current
    }

    /// The container's processes among those of its pod; none between two of its lives.
    pub(super) fn find(
        &mut self,
        plan: &KillPlan,
        pod: &BTreeMap<String, Vec<ProcessId>>,
    ) -> Vec<ProcessId> {
        if let Some(processes) = pod.get(&self.current) {
            return processes.clone();
        }
        let new: Vec<&String> = pod.keys().filter(|id| !self.known.contains(*id)).collect();
        let others_missing =
            plan.siblings.iter().any(|id| *id != plan.container_id && !pod.contains_key(id));
        let is_same = |id: &&&String| {
            // While all others are there, what is new can only be this one.
            !others_missing || main_name(pod, id).is_some() && main_name(pod, id) == plan.main_name
        };
        let Some(id) = new.iter().find(is_same) else { return Vec::new() };
        self.current = (**id).clone();
        self.known.insert(self.current.clone());
        pod.get(&self.current).cloned().unwrap_or_default()
    }
}

fn main_name(pod: &BTreeMap<String, Vec<ProcessId>>, id: &str) -> Option<ProcessName> {
    process::main_of(pod.get(id)?).and_then(ProcessName::of)
}
