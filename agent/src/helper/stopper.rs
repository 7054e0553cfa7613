//! The helper that stops processes and continues them: the holder of an effect that no timer of the
//! kernel would end.
//!
//! It sends the stopping signals itself, so that there is no instant at which a process is stopped and
//! nobody who outlives the agent knows. It lives in control groups of its own: whatever freezes,
//! starves or kills the agent's does not reach it. Nothing that it waits for can hold it up.

use std::{io, os::fd::AsFd, path::PathBuf, time::Duration};

use faultline_proto::{boottime::BootTime, id::FaultId};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use serde::{Deserialize, Serialize};

use super::{
    Report, Request,
    channel::{self, Lines, make_non_blocking},
};
use crate::{
    errors::chain,
    failpoint,
    kernel::{
        KernelError,
        cgroup::CgroupFs,
        cgroup_dir, clock,
        container::ContainerRef,
        pidfd::PidFd,
        process::{ProcessId, SignalState, has_signal, has_stopped_thread},
        timer::TimerDescriptor,
    },
};

/// How long the agent may take to say what to do.
const START_MAX: Duration = Duration::from_secs(10);
/// `SIGCONT` and `SIGSTOP`.
const CONT: u8 = 18;
const STOPPING: std::ops::RangeInclusive<u8> = 19..=22;

/// What the stopper is told first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// When the lease ends.
    pub lease_end: BootTime,
}

/// The control groups that the stopper of a fault lives in: one below each hierarchy's root. Those
/// that may not be made there are left out by the stopper itself.
pub fn own_dirs(id: FaultId, cgroups: &CgroupFs) -> Vec<PathBuf> {
    cgroups.hierarchies.iter().map(|h| h.mount_point.join(id.object_name())).collect()
}

/// The whole life of a stopper.
pub(super) fn run(id: FaultId) -> Result<(), String> {
    let failed = |e: io::Error| format!("cannot hear the agent: {e}");
    let mut input = Lines::new(io::stdin()).map_err(failed)?;
    make_non_blocking(io::stdout().as_fd()).map_err(failed)?;
    let start: Start = input.wait(START_MAX).map_err(failed)?;
    let home = Home::enter(id);
    failpoint::reach(failpoint::STOPPER_ENTERED);
    let mut held = Held::default();
    let outcome = hold(&start, &home, &mut held, &mut input);
    failpoint::reach(failpoint::STOPPER_LETTING_GO);
    held.let_go();
    failpoint::reach(failpoint::STOPPER_LET_GO);
    home.leave();
    outcome.map_err(|e| chain(&e))
}

fn hold(
    start: &Start,
    home: &Home,
    held: &mut Held,
    input: &mut Lines<io::Stdin>,
) -> Result<(), KernelError> {
    let timer = TimerDescriptor::arm(start.lease_end)?;
    let mut lease_end = start.lease_end;
    channel::report(&Report::Ready { notes: home.notes.clone() });
    while clock::now() < lease_end && !input.has_ended() && !held.have_all_ended() {
        wait(&timer, held, input)?;
        let lost = |e: io::Error| KernelError::io("read", "the agent's pipe", e);
        input.fill().map_err(lost)?;
        while let Some(request) = input.next::<Request>().map_err(lost)? {
            match request {
                Request::Renew { lease_end: later } => {
                    failpoint::reach(failpoint::STOPPER_RENEWING);
                    timer.set(later)?;
                    lease_end = later;
                }
                // The agent may have been held up since it asked: the lease decides, here and now.
                Request::Stop { .. } if clock::now() >= lease_end => {
                    channel::report(&Report::Stopped { sent: Vec::new() });
                }
                Request::Stop { signal, processes, container } => {
                    let sent = held.stop(signal, &processes, &container);
                    failpoint::reach(failpoint::STOPPER_STOPPED);
                    channel::report(&Report::Stopped { sent });
                }
            }
        }
    }
    Ok(())
}

/// Waits for a request, the end of the pipe, the end of the lease or the end of a process.
fn wait(timer: &TimerDescriptor, held: &Held, input: &Lines<io::Stdin>) -> Result<(), KernelError> {
    let mut fds = vec![
        PollFd::new(input.as_fd(), PollFlags::POLLIN),
        PollFd::new(timer.as_fd(), PollFlags::POLLIN),
    ];
    // One that still runs is enough to wait for: when it ends, the next is found.
    let running = held.processes.iter().find(|p| matches!(p.has_ended(), Ok(false)));
    fds.extend(running.map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(KernelError::io("poll", "the agent's pipe", e)),
    }
}

/// The processes that were stopped.
#[derive(Debug, Default)]
struct Held {
    processes: Vec<PidFd>,
}

impl Held {
    /// Stops those that are still what they were. Returns which were signalled.
    fn stop(
        &mut self,
        signal: u8,
        processes: &[ProcessId],
        container: &ContainerRef,
    ) -> Vec<ProcessId> {
        if !STOPPING.contains(&signal) {
            return Vec::new();
        }
        let mut sent = Vec::new();
        for process in processes {
            if !self.processes.iter().any(|held| held.id() == *process) {
                let Ok(handle) = PidFd::open(*process) else { continue };
                if !container.holds(*process) {
                    continue;
                }
                self.processes.push(handle);
            }
            let handle = self.processes.iter().find(|held| held.id() == *process);
            if handle.is_some_and(|handle| handle.send(signal).is_ok()) {
                sent.push(*process);
            }
        }
        sent
    }

    /// Whether there were some, and none is left.
    fn have_all_ended(&self) -> bool {
        !self.processes.is_empty()
            && self.processes.iter().all(|p| matches!(p.has_ended(), Ok(true)))
    }

    /// Continues them, whatever they seem to be: a process that has taken its signal, and has not
    /// stopped yet, looks like one that runs. For one that does run, `SIGCONT` is nothing, unless it
    /// has a handler for it, which it would have had to run anyway.
    fn let_go(&self) {
        for process in &self.processes {
            if let Err(error) = process.send(CONT) {
                tracing::debug!(pid = process.id().pid, ?error, "not continued");
            }
        }
    }
}

/// Whether a process is stopped, in part at least, or is about to be. It cannot be told of one that has
/// taken its signal a moment ago.
pub(crate) fn is_stopped(process: ProcessId) -> bool {
    let Some(state) = SignalState::of(process) else { return false };
    let about_to = STOPPING.into_iter().any(|signal| has_signal(state.pending, signal));
    state.is_stopped() || about_to || has_stopped_thread(process)
}

/// The control groups that a stopper has moved to.
#[derive(Debug)]
struct Home {
    dirs: Vec<PathBuf>,
    notes: Vec<String>,
}

impl Home {
    fn enter(id: FaultId) -> Self {
        let mut this = Self { dirs: Vec::new(), notes: Vec::new() };
        let cgroups = match CgroupFs::mounted() {
            Ok(cgroups) => cgroups,
            Err(error) => {
                this.notes.push(chain(&error));
                return this;
            }
        };
        for dir in own_dirs(id, &cgroups) {
            match cgroup_dir::create(&dir).and_then(|()| cgroup_dir::enter(&dir)) {
                Ok(()) => this.dirs.push(dir),
                Err(error) => {
                    this.notes.push(format!("it stays where it is: {}", chain(&error)));
                    // A group that was made and cannot be entered is of no use.
                    if let Err(error) = cgroup_dir::remove(&dir) {
                        tracing::debug!(?error, "nothing to remove");
                    }
                }
            }
        }
        this
    }

    /// Leaves nothing behind. What fails is left to the revert and the sweep.
    fn leave(&self) {
        for dir in &self.dirs {
            let root = dir.parent().unwrap_or(dir);
            if let Err(error) = cgroup_dir::enter(root).and_then(|()| cgroup_dir::remove(dir)) {
                tracing::debug!(?error, "the revert or the sweep will remove the control group");
            }
        }
    }
}
