//! `memoryPressure`: a helper process in a control group below the container's holds as much memory as
//! brings the container's usage to the level.
//!
//! The group's name is chosen by the plan, so that the revert needs nothing else: kill what is in it,
//! remove it. What the container itself uses, and its limits, are never touched.

use std::{path::PathBuf, time::Duration};

use faultline_proto::{
    boottime::BootTime,
    fault::{Level, MemoryPressure, OomVictim},
    id::FaultId,
    units::{duration, percent, size},
};
use serde::{Deserialize, Serialize};

use super::{Injection, Live, Observation, Refusal, Wake};
use crate::{
    helper::{self, Helper, Kind, memory::Start},
    kernel::{
        KernelError,
        cgroup::{CgroupFs, Version},
        cgroup_dir,
        container::ContainerRef,
        memory::{self, MachineMemory},
        memory_cgroup::MemoryCgroup,
        process::{self, ProcessId},
    },
    node_info::Feature,
    resolve::{Resolved, Resolver},
};

/// The usage may be so many parts of the level below it and count as reached: 2 %.
const TOLERANCE_PARTS: u64 = 50;
/// And at least so many bytes: v1 charges 64 pages per CPU ahead, so that no figure is finer.
const TOLERANCE_BYTES_MIN: u64 = 512 << 10;
/// So many parts of the limit are left to the container when the helper is not to run into it.
const LIMIT_SLACK_PARTS: u64 = 200;
/// And at least so many bytes.
const LIMIT_SLACK_BYTES_MIN: u64 = 256 << 10;
/// So many parts of the machine's memory are never taken: 5 %.
const MACHINE_RESERVE_PARTS: u64 = 20;
/// From here on, in percent of the limit, a group that dies together would die with the helper.
const DIES_TOGETHER_PERCENT: u64 = 95;
/// `oom_score_adj` of who goes first.
const OOM_FIRST: i16 = 1000;
/// How often the helper and the target are looked at.
const WATCH: Duration = Duration::from_millis(200);
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
            let what = format!("the control group of {}, which this agent is in,", target.target);
            return Err(Refusal::Protected { what });
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

    /// What no two faults may do at once: hold the usage of one control group.
    pub fn exclusive_key(&self) -> String {
        format!("the memory of control group {}", self.cgroup.dir.display())
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
        let helpers = helper::find().into_iter().filter(|found| found.fault == self.id);
        residue.extend(helpers.map(|found| format!("helper process {}", found.process.pid)));
        Ok(residue)
    }
}

/// A pressure that is being held.
#[derive(Debug)]
struct Held {
    plan: MemoryPressurePlan,
    helper: Helper,
    before: Kills,
    lease_end: BootTime,
    proven: bool,
}

/// How many processes the kernel has killed for lack of memory.
#[derive(Debug, Clone, Copy)]
struct Kills {
    /// In the container's group and, as v1 counts them there, in ours.
    in_container: u64,
    /// On the machine.
    on_machine: u64,
}

impl Kills {
    fn now(plan: &MemoryPressurePlan) -> Self {
        let own = MemoryCgroup { dir: plan.own_dir.clone(), ..plan.cgroup.clone() };
        let own = if plan.cgroup.version == Version::V1 { own.oom_kills() } else { 0 };
        Self {
            in_container: plan.cgroup.oom_kills() + own,
            on_machine: memory::oom_kills_on_machine(),
        }
    }
}

impl Held {
    /// What memory running out has done since the injection, as a sentence; `None`: nothing.
    fn out_of_memory(&self) -> Option<String> {
        let now = Kills::now(&self.plan);
        let in_container = now.in_container.saturating_sub(self.before.in_container);
        let limit = self.plan.limit_bytes.map_or_else(|| "none".into(), |l| size(l).to_string());
        if in_container > 0 {
            return Some(format!(
                "the kernel killed {in_container} of the processes in the container's memory \
                 cgroup for lack of memory (limit {limit})"
            ));
        }
        // A runtime removes the group of a container that was killed, and the count with it.
        let on_machine = now.on_machine.saturating_sub(self.before.on_machine);
        let has_gone = !self.plan.cgroup.exists() && !self.plan.main.is_alive();
        (has_gone && on_machine > 0).then(|| {
            format!(
                "the container has ended (limit {limit}), and the node's count of processes killed \
                 for lack of memory rose by {on_machine}"
            )
        })
    }

    /// Whether that is what was asked for.
    fn on_purpose(&self) -> Option<String> {
        (self.plan.oom_victim == OomVictim::Kernel).then(|| self.out_of_memory())?
    }

    fn target_has_gone(&self) -> bool {
        !self.plan.main.is_alive() && self.plan.container.processes().is_empty()
    }
}

impl Live for Held {
    fn prove(&mut self) -> Result<Observation, KernelError> {
        let observation = self.look()?;
        self.proven |= matches!(observation, Observation::Proven(_));
        Ok(observation)
    }

    fn renew(&mut self, lease_end: BootTime) -> Result<(), KernelError> {
        // One that memory running out has killed on purpose has no lease to renew.
        if self.on_purpose().is_none() {
            self.helper.renew(lease_end)?;
        }
        self.lease_end = lease_end;
        Ok(())
    }

    fn wake(&mut self, now: BootTime) -> Result<Wake, KernelError> {
        let on_purpose = self.on_purpose().is_some();
        if on_purpose && !self.proven {
            // The container may be gone by now: that is the effect, which is to be seen first.
            return Ok(Wake::At(now.after(WATCH)));
        }
        if self.target_has_gone() {
            return Ok(Wake::TargetGone);
        }
        if let Some(how) = self.helper.how_it_ended()?
            && !on_purpose
            // At the end of the lease it ends by itself, and the supervisor knows about the lease.
            && now < self.lease_end
            && self.plan.main.is_alive()
        {
            let object = format!("the memory of {}", self.plan.target);
            let problem = match self.out_of_memory() {
                None => format!("the helper has ended before its time: {how}"),
                Some(kills) => format!("memory ran out: {kills}"),
            };
            return Err(KernelError::Unexpected { verb: "hold", object, problem });
        }
        Ok(Wake::At(now.after(WATCH)))
    }

    fn first_wake(&self) -> Option<Duration> {
        Some(WATCH)
    }
}

impl Held {
    fn look(&mut self) -> Result<Observation, KernelError> {
        if let Some(kills) = self.on_purpose() {
            return Ok(Observation::Proven(kills));
        }
        let plan = &self.plan;
        let usage = match plan.cgroup.usage() {
            Err(error) if error.is_gone() => {
                return Ok(Observation::NotYet("the container's memory cgroup has gone".into()));
            }
            usage => usage?,
        };
        let limit = match plan.limit_bytes {
            Some(limit) => format!("limit {}", size(limit)),
            None => "no limit".to_owned(),
        };
        let figures = format!(
            "from {} to {} of the {} asked ({limit})",
            size(plan.usage_before_bytes),
            size(usage),
            size(plan.level_bytes)
        );
        if let Some(how) = self.helper.how_it_ended()? {
            return Ok(Observation::NotYet(format!("the helper has ended: {how}")));
        }
        let reached = usage.saturating_add(tolerance(plan.level_bytes)) >= plan.level_bytes;
        Ok(if plan.is_beyond_limit() {
            Observation::NotYet(format!("no process was killed yet; usage went {figures}"))
        } else if reached {
            Observation::Proven(format!("usage of the container's memory cgroup rose {figures}"))
        } else {
            Observation::NotYet(format!("usage of the container's memory cgroup went {figures}"))
        })
    }
}

/// How far below the level counts as at the level.
fn tolerance(level: u64) -> u64 {
    (level / TOLERANCE_PARTS).max(TOLERANCE_BYTES_MIN)
}

/// What a plan is decided by, all in bytes.
#[derive(Debug, Clone, Copy)]
struct Figures {
    usage: u64,
    limit: Option<u64>,
    dies_together: bool,
    machine: MachineMemory,
}

impl Figures {
    fn level(&self, level: Level) -> Result<u64, Refusal> {
        match (level, self.limit) {
            (Level::Bytes(bytes), _) => Ok(bytes),
            (Level::LimitBasisPoints(points), Some(limit)) => {
                let bytes = u128::from(limit) * u128::from(points) / 10_000;
                Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
            }
            (Level::LimitBasisPoints(points), None) => Err(Refusal::NotPossible(format!(
                "{} of what? the container has no memory limit: write a size",
                percent(points)
            ))),
        }
    }

    /// What the helper goes for.
    fn aim(&self, level: u64, victim: OomVictim) -> u64 {
        match (victim, self.limit) {
            (OomVictim::Helper, Some(limit)) => {
                let slack = (limit / LIMIT_SLACK_PARTS).max(LIMIT_SLACK_BYTES_MIN);
                level.min(limit.saturating_sub(slack))
            }
            _ => level,
        }
    }

    fn check(&self, level: u64, victim: OomVictim) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::NotPossible(why));
        if self.usage >= level {
            return refuse(format!(
                "the container uses {} already, and {} is asked",
                size(self.usage),
                size(level)
            ));
        }
        if let (OomVictim::Helper, Some(limit)) = (victim, self.limit) {
            if level > limit {
                return refuse(format!(
                    "{} is more than the container's limit of {}, and the helper would be killed \
                     at that: write `oomVictim: kernel` to run out of memory on purpose",
                    size(level),
                    size(limit)
                ));
            }
            if self.dies_together && level > limit / 100 * DIES_TOGETHER_PERCENT {
                return refuse(format!(
                    "{} is more than {DIES_TOGETHER_PERCENT}% of the limit of {}, and the \
                     container's memory.oom.group is 1: when memory runs out, the kernel kills the \
                     whole container and not only the helper; ask for less, or write \
                     `oomVictim: kernel`",
                    size(level),
                    size(limit)
                ));
            }
        }
        // More than the limit is never charged, whatever the level.
        let taken = level.min(self.limit.unwrap_or(u64::MAX)).saturating_sub(self.usage);
        let reserve = self.machine.total / MACHINE_RESERVE_PARTS;
        let to_give = self.machine.available.saturating_sub(reserve);
        if taken > to_give {
            return refuse(format!(
                "{} more would be needed, and the node has {} available, of which {} are kept",
                size(taken),
                size(self.machine.available),
                size(reserve)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn figures() -> Figures {
        let machine = MachineMemory { total: 4000 * MIB, available: 1000 * MIB };
        Figures { usage: 10 * MIB, limit: Some(256 * MIB), dies_together: false, machine }
    }

    fn refusal(figures: Figures, level: u64, victim: OomVictim) -> String {
        figures.check(level * MIB, victim).expect_err("refused").to_string()
    }

    #[test]
    fn a_percentage_is_of_the_limit() {
        let level = figures().level(Level::LimitBasisPoints(8_000)).unwrap();
        assert_eq!(level, 256 * MIB * 8 / 10);
        let unlimited = Figures { limit: None, ..figures() };
        let error = unlimited.level(Level::LimitBasisPoints(8_000)).expect_err("no limit");
        assert!(error.to_string().contains("write a size"), "{error}");
    }

    #[test]
    fn refusals_have_both_figures() {
        let text = refusal(figures(), 10, OomVictim::Helper);
        assert!(text.contains("uses 10MiB already"), "{text}");
        let text = refusal(figures(), 300, OomVictim::Helper);
        assert!(text.contains("300MiB") && text.contains("256MiB"), "{text}");
        figures().check(300 * MIB, OomVictim::Kernel).unwrap();
        let unlimited = Figures { limit: None, ..figures() };
        unlimited.check(800 * MIB, OomVictim::Helper).unwrap();
        let text = refusal(unlimited, 811, OomVictim::Kernel);
        assert!(text.contains("801MiB") && text.contains("200MiB"), "{text}");
    }

    #[test]
    fn a_group_that_dies_together_is_not_brought_near_its_limit() {
        let together = Figures { dies_together: true, ..figures() };
        together.check(243 * MIB, OomVictim::Helper).unwrap();
        let text = refusal(together, 250, OomVictim::Helper);
        assert!(text.contains("memory.oom.group"), "{text}");
        together.check(250 * MIB, OomVictim::Kernel).unwrap();
    }

    #[test]
    fn the_helper_stops_short_of_the_limit_within_the_tolerance() {
        let level = 256 * MIB;
        let aim = figures().aim(level, OomVictim::Helper);
        assert!(aim < level && aim + tolerance(level) > level);
        assert_eq!(figures().aim(300 * MIB, OomVictim::Kernel), 300 * MIB);
        assert_eq!(figures().aim(100 * MIB, OomVictim::Helper), 100 * MIB);
    }
}
