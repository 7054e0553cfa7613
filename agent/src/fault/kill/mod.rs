//! `kill`: a signal to processes of a container, through handles whose identity was checked.
//!
//! A plain signal is sent by the agent, and there is nothing to revert. A signal that stops processes
//! is sent and held by a stopper (see [`crate::helper::stopper`]), which continues them; the plan names
//! them, so that the revert needs nothing else.
//!
//! `plan` says who; `sent` follows a plain signal and repeats it; `stopped` holds a stopping one;
//! `evidence` says what a signal has done to one process.

mod evidence;
mod select;
mod sent;
mod stopped;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use faultline_proto::{
    boottime::BootTime,
    fault::{Kill, Processes, Signal},
    id::FaultId,
    units::duration,
    yaml::nearest,
};
use serde::{Deserialize, Serialize};

use super::{Injection, Live, Refusal};
use crate::{
    helper::{self, stopper},
    kernel::{
        KernelError, cgroup_dir,
        container::Containers,
        pidfd::PidFd,
        process::{self, ProcessId, ProcessName, SignalState, has_stopped_thread},
    },
    resolve::{Resolved, ResolvedContainer, Resolver},
};

/// `SIGCONT`.
const CONT: u8 = 18;
/// How long a stopper's end may take.
const END_MAX: Duration = Duration::from_secs(5);

/// A kill, planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KillPlan {
    id: FaultId,
    target: String,
    pod_uid: String,
    container_id: String,
    /// How it is told which processes are in it.
    containers: Containers,
    signal: Signal,
    processes: Processes,
    every: Option<Duration>,
    /// Whom it hits, as found by the plan. A stopping signal never hits another one: the revert must
    /// know whom to continue.
    victims: Vec<Victim>,
    /// The pod's containers that there were at the time of the plan: another one is a restart.
    siblings: BTreeSet<String>,
    /// What the container's main process is called: it tells restarted containers apart.
    main_name: Option<ProcessName>,
    /// The control groups that the stopper makes for itself; none for a plain signal.
    own_dirs: Vec<PathBuf>,
}

/// A process that a kill hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Victim {
    /// Which.
    pub process: ProcessId,
    /// What it was called.
    pub name: String,
}

impl KillPlan {
    /// Finds the processes, and looks at what they are.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub fn new(
        id: FaultId,
        fault: &Kill,
        target: &Resolved,
        resolver: &Resolver,
    ) -> Result<Self, Refusal> {
        let container = target
            .container
            .as_ref()
            .ok_or_else(|| Refusal::NotPossible(format!("{} names no container", target.target)))?;
        let what = target.target.to_string();
        let mut victims = find_victims(fault, container, target, resolver)?;
        let own = process::own_lineage();
        if let Some(victim) = victims.iter().find(|v| own.contains(&v.process.pid)) {
            let what = format!(
                "process {} ({}), which is this agent, one that it descends from, or pid 1,",
                victim.process.pid, victim.name
            );
            return Err(Refusal::Protected { what });
        }
        let stops = fault.signal.stops();
        if stops {
            leave_out_stopped(&mut victims)?;
        }
        let own_dirs = if stops { stopper::own_dirs(id, &resolver.cgroups) } else { Vec::new() };
        let siblings = target.siblings.iter().cloned().chain([container.id.clone()]).collect();
        Ok(Self {
            id,
            target: what,
            pod_uid: target.target.uid.clone(),
            container_id: container.id.clone(),
            containers: resolver.containers.clone(),
            signal: fault.signal,
            processes: fault.processes.clone(),
            every: fault.every,
            victims,
            siblings,
            main_name: ProcessName::of(container.main),
            own_dirs,
        })
    }

    /// What will be done, in one sentence.
    pub fn describe(&self) -> String {
        const SHOWN_MAX: usize = 5;
        let shown = self.victims.iter().take(SHOWN_MAX);
        let shown = shown.map(|v| format!("{} ({})", v.process.pid, v.name)).collect::<Vec<_>>();
        let more = match self.victims.len().saturating_sub(SHOWN_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let every = match self.every {
            Some(every) => format!(", every {}", duration(every)),
            None => String::new(),
        };
        let held = if self.signal.stops() { ", and continue them in the end" } else { "" };
        format!(
            "send {} to {}{more} of {}{every}{held}",
            self.signal,
            shown.join(", "),
            self.target
        )
    }

    /// Continues those of the planned processes that are stopped.
    fn continue_all(&self) -> Result<(), KernelError> {
        for victim in &self.victims {
            match PidFd::open(victim.process) {
                Ok(handle) => {
                    if stopper::is_stopped(victim.process) && handle.send(CONT).is_ok() {
                        tracing::info!(pid = victim.process.pid, name = victim.name, "continued");
                    }
                }
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What no other fault may have while this one is in effect.
    pub fn exclusive_key(&self) -> Option<String> {
        key(self.signal, &self.container_id)
    }
}

/// What no two kills may have at once.
pub fn exclusive_key(fault: &Kill, target: &Resolved) -> Option<String> {
    key(fault.signal, &target.container.as_ref()?.id)
}

/// Two kills may hit the same processes at once, but not two stops: the end of the first would continue
/// what the second holds.
fn key(signal: Signal, container_id: &str) -> Option<String> {
    signal.stops().then(|| format!("stopped processes of container {container_id}"))
}

impl Injection for KillPlan {
    fn inject(&self, lease_end: BootTime) -> Result<Box<dyn Live>, KernelError> {
        if self.signal.stops() {
            Ok(Box::new(stopped::Stopped::begin(self, lease_end)?))
        } else {
            Ok(Box::new(sent::Sent::begin(self)?))
        }
    }

    fn revert(&self) -> Result<Vec<String>, KernelError> {
        if !self.signal.stops() {
            return Ok(Vec::new());
        }
        // Continued first: were the stopper killed first and this process after it, nobody would. And
        // again: it may have had an order to stop still unread.
        self.continue_all()?;
        helper::kill_left(self.id)?;
        self.continue_all()?;
        let mut outcome = Ok(());
        for dir in &self.own_dirs {
            // Every directory gets its chance; the last error is as good as the first.
            outcome = cgroup_dir::empty_and_remove(dir, END_MAX).and(outcome);
        }
        outcome.map(|()| Vec::new())
    }

    fn residue(&self) -> Result<Vec<String>, KernelError> {
        if !self.signal.stops() {
            return Ok(Vec::new());
        }
        let stopped = self.victims.iter().filter(|victim| stopper::is_stopped(victim.process));
        let stopped = stopped.map(|v| format!("process {} ({}) is stopped", v.process.pid, v.name));
        let helpers = helper::find()?.into_iter().filter(|found| found.fault == self.id);
        let helpers = helpers.map(|found| format!("helper process {}", found.process.pid));
        let dirs = self.own_dirs.iter().filter(|dir| dir.exists());
        let dirs = dirs.map(|dir| format!("control group {}", dir.display()));
        Ok(stopped.chain(helpers).chain(dirs).collect())
    }
}

fn find_victims(
    fault: &Kill,
    container: &ResolvedContainer,
    resolved: &Resolved,
    resolver: &Resolver,
) -> Result<Vec<Victim>, Refusal> {
    let target = &resolved.target;
    let inside = resolver.containers.in_container(&target.uid, &container.id);
    let gone = |what: String| Refusal::TargetGone { what };
    if inside.is_empty() {
        return Err(gone(format!("a process of {target}")));
    }
    let found = match &fault.processes {
        Processes::Main => vec![container.main],
        other => select::matching(other, &inside),
    };
    let victims: Vec<Victim> = found.into_iter().filter_map(select::victim).collect();
    if !victims.is_empty() {
        return Ok(victims);
    }
    match &fault.processes {
        Processes::Named(name) => {
            let names: BTreeSet<String> =
                inside.into_iter().filter_map(ProcessName::of).map(|n| n.comm).collect();
            let meant = nearest(name, names.iter().map(String::as_str));
            let meant = meant.map(|n| format!(" Did you mean {n:?}?")).unwrap_or_default();
            let names = names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ");
            Err(Refusal::NotPossible(format!(
                "no process of {target} is called {name:?}; there are {names}.{meant}"
            )))
        }
        Processes::Main | Processes::All => Err(gone(format!("the main process of {target}"))),
    }
}

/// Whom somebody else has stopped is not ours to continue.
fn leave_out_stopped(victims: &mut Vec<Victim>) -> Result<(), Refusal> {
    let is_stopped = |victim: &Victim| {
        let state = SignalState::of(victim.process);
        state.is_some_and(|state| matches!(state.state, 'T' | 't'))
            || has_stopped_thread(victim.process)
    };
    let (stopped, running): (Vec<Victim>, Vec<Victim>) =
        std::mem::take(victims).into_iter().partition(is_stopped);
    for victim in &stopped {
        let pid = victim.process.pid;
        tracing::info!(pid, name = victim.name, "stopped already by somebody else: left alone");
    }
    *victims = running;
    match stopped.first() {
        Some(victim) if victims.is_empty() => Err(Refusal::NotPossible(format!(
            "process {} ({}) is stopped already, by somebody else",
            victim.process.pid, victim.name
        ))),
        _ => Ok(()),
    }
}
