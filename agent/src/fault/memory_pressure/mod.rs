//! `memoryPressure`: a helper process in a control group below the container's holds as much memory as
//! brings the container's usage to the level.
//!
//! The group's name is chosen by the plan, so that the revert needs nothing else: kill what is in it,
//! remove it. What the container itself uses, and its limits, are never touched.

mod figures;
mod held;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use faultline_proto::{
    boottime::BootTime,
    fault::{MemoryPressure, OomVictim},
    id::FaultId,
    units::{duration, size},
};
use serde::{Deserialize, Serialize};

use self::{
    figures::Figures,
    held::{Held, Kills},
};
use super::{Injection, Live, Refusal};
use crate::{
    helper::{self, Helper, Kind, memory::Start},
    kernel::{
        KernelError,
        cgroup::CgroupFs,
        cgroup_dir,
        container::ContainerRef,
        memory::MachineMemory,
        memory_cgroup::MemoryCgroup,
        process::{self, ProcessId},
    },
    node_info::Feature,
    resolve::{Resolved, Resolver},
};

/// `oom_score_adj` of who goes first.
const OOM_FIRST: i16 = 1000;
/// How long the helper's end may take: what it holds has to be freed.
const END_MAX: Duration = Duration::from_secs(5);

/// Whether this node has what memory pressure needs.
pub fn feature(cgroups: &CgroupFs) -> Feature {
    let hierarchy = cgroups.with_controller("memory");
    Feature {
        name: "memory-cgroup",
        available: hierarchy.is_some(),
        detail: hierarchy.map_or_else(
            || "no mounted hierarchy has the memory controller".into(),
            |hierarchy| hierarchy.mount_point.display().to_string(),
        ),
    }
}

/// A memory pressure, planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryPressurePlan {
    id: FaultId,
    target: String,
    container: ContainerRef,
    /// With it everything ends.
    main: ProcessId,
    /// The container's.
    cgroup: MemoryCgroup,
    /// The group below it that the helper lives in.
    own_dir: PathBuf,
    level_bytes: u64,
    /// What the helper goes for: the level, but for a little less where that is the limit.
    aim_bytes: u64,
    limit_bytes: Option<u64>,
    usage_before_bytes: u64,
    ramp: Duration,
    oom_victim: OomVictim,
}

impl MemoryPressurePlan {
    /// Looks at the container's memory and the machine's, and chooses the group's name.
    ///
    /// # Errors
    /// Why it cannot be done, with the figures.
    pub fn new(
        id: FaultId,
        fault: &MemoryPressure,
        target: &Resolved,
        resolver: &Resolver,
    ) -> Result<Self, Refusal> {
        let container = target
            .container
            .as_ref()
            .ok_or_else(|| Refusal::NotPossible(format!("{} names no container", target.target)))?;
        let unsupported = |why: &str| Refusal::Unsupported {
            needs: "memory controller for the container's control group",
            why: why.into(),
        };
        let dir = container.memory_cgroup.as_deref();
        let dir = dir.ok_or_else(|| unsupported("none of its hierarchies has it"))?;
        let cgroup = MemoryCgroup::at(dir, &resolver.cgroups)
            .ok_or_else(|| unsupported("the container is in the root group"))?;
        if !cgroup.exists() {
            let what = format!("the memory control group of {}", target.target);
            return Err(Refusal::TargetGone { what });
        }
        if !cgroup.counts_groups_below() {
            return Err(unsupported("memory.use_hierarchy is 0"));
        }
        let own = process::own_lineage();
        if cgroup_dir::pids(dir).iter().any(|pid| own.contains(pid)) {
            return Err(Refusal::NotPossible(format!(
                "{} has no control group of its own: it is in this agent's, as in a sandbox without root",
                target.target
            )));
        }
        let figures = Figures {
            usage: cgroup.usage()?,
            limit: cgroup.limit()?,
            dies_together: cgroup.dies_together(),
            machine: MachineMemory::now()?,
        };
        let level_bytes = figures.level(fault.level)?;
        figures.check(level_bytes, fault.oom_victim)?;
        Ok(Self {
            id,
            target: target.target.to_string(),
            container: ContainerRef {
                pod_uid: target.target.uid.clone(),
                id: container.id.clone(),
                containers: resolver.containers.clone(),
            },
            main: container.main,
            own_dir: cgroup.dir.join(id.object_name()),
            cgroup,
            level_bytes,
            aim_bytes: figures.aim(level_bytes, fault.oom_victim),
            limit_bytes: figures.limit,
            usage_before_bytes: figures.usage,
            ramp: fault.ramp,
            oom_victim: fault.oom_victim,
        })
    }

    /// What will be done, in one sentence.
    pub fn describe(&self) -> String {
        let of_limit = match self.limit_bytes {
            Some(limit) => format!(" (limit {})", size(limit)),
            None => " (no limit)".to_owned(),
        };
        let ramp = match self.ramp {
            Duration::ZERO => "at once".to_owned(),
            ramp => format!("within {}", duration(ramp)),
        };
        let victim = match self.oom_victim {
            OomVictim::Helper => "the helper is killed first when memory runs out",
            OomVictim::Kernel => "the kernel chooses whom it kills when memory runs out",
        };
        format!(
            "fill the memory of {} from {} to {}{of_limit}, {ramp}; {victim}",
            self.target,
            size(self.usage_before_bytes),
            size(self.level_bytes)
        )
    }

    /// What no other fault may have while this one is in effect.
    pub fn exclusive_key(&self) -> String {
        key(&self.cgroup.dir)
    }

    /// Whether memory is to run out.
    fn is_beyond_limit(&self) -> bool {
        self.limit_bytes.is_some_and(|limit| self.level_bytes > limit)
    }

    fn oom_score_adj(&self) -> i16 {
        match self.oom_victim {
            OomVictim::Helper => OOM_FIRST,
            OomVictim::Kernel => process::oom_score_adj(self.main).unwrap_or(0),
        }
    }
}

/// What no two pressures may have at once.
pub fn exclusive_key(target: &Resolved) -> Option<String> {
    target.container.as_ref()?.memory_cgroup.as_deref().map(key)
}

/// Only one fault can hold the usage of a control group at a level.
fn key(dir: &Path) -> String {
    format!("the memory of control group {}", dir.display())
}

impl Injection for MemoryPressurePlan {
    fn inject(&self, lease_end: BootTime) -> Result<Box<dyn Live>, KernelError> {
        if !self.main.is_alive() || !self.cgroup.exists() {
            return Err(KernelError::Gone { what: self.target.clone() });
        }
        let before = Kills::now(self);
        cgroup_dir::create(&self.own_dir)?;
        let start = Start {
            lease_end,
            container: self.cgroup.clone(),
            own_dir: self.own_dir.clone(),
            level_bytes: self.aim_bytes,
            ramp: self.ramp,
            oom_score_adj: self.oom_score_adj(),
            main: self.main,
        };
        let helper = Helper::start(Kind::Memory, self.id, &start)?;
        Ok(Box::new(Held { plan: self.clone(), helper, before, lease_end, proven: false }))
    }

    fn revert(&self) -> Result<Vec<String>, KernelError> {
        // The helper may not have come to its group yet, or may have left it just now.
        helper::kill_left(self.id)?;
        cgroup_dir::empty_and_remove(&self.own_dir, END_MAX)?;
        Ok(Vec::new())
    }

    fn residue(&self) -> Result<Vec<String>, KernelError> {
        let mut residue = Vec::new();
        if self.own_dir.exists() {
            let inside = cgroup_dir::pids(&self.own_dir).len();
            let dir = self.own_dir.display();
            residue.push(format!("control group {dir} with {inside} processes"));
        }
        let helpers = helper::find()?.into_iter().filter(|found| found.fault == self.id);
        residue.extend(helpers.map(|found| format!("helper process {}", found.process.pid)));
        Ok(residue)
    }
}
