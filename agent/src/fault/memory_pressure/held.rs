//! A memory pressure in effect: whether it is there, and whether something has ended it.

use std::time::Duration;

use faultline_proto::{boottime::BootTime, fault::OomVictim, units::size};

use super::{MemoryPressurePlan, figures::tolerance};
use crate::{
    fault::{Live, Observation, Wake},
    helper::Helper,
    kernel::{KernelError, cgroup::Version, memory, memory_cgroup::MemoryCgroup},
};

/// How often the helper and the target are looked at.
const WATCH: Duration = Duration::from_millis(200);

/// A pressure that is being held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) plan: MemoryPressurePlan,
    pub(super) helper: Helper,
    pub(super) before: Kills,
    pub(super) lease_end: BootTime,
    pub(super) proven: bool,
}

/// How many processes the kernel has killed for lack of memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kills {
    /// In the container's group and, as v1 counts them there, in ours.
    in_container: u64,
    /// On the machine.
    on_machine: u64,
}

impl Kills {
    pub(super) fn now(plan: &MemoryPressurePlan) -> Self {
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
