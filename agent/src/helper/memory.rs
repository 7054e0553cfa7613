//! The helper that holds memory: it enters a control group below the target's, takes memory there until
//! the target's usage is at the level, and keeps it there.
//!
//! Two threads. One fills, and may be held up by the kernel for as long as reclaim takes. The other
//! waits for the reasons to end, and is held up by nothing.

use std::{
    cmp::Ordering,
    io,
    os::fd::AsFd,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use faultline_proto::boottime::BootTime;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use serde::{Deserialize, Serialize};

use super::{
    Report, Request,
    channel::{self, Lines},
};
use crate::{
    errors::chain,
    failpoint,
    kernel::{
        KernelError, cgroup_dir, clock,
        memory::Ballast,
        memory_cgroup::MemoryCgroup,
        pidfd::PidFd,
        process::{self, ProcessId},
        timer::KillTimer,
    },
};

/// How long after the lease the kernel kills this process, should it not have ended by itself.
const KILL_GRACE: Duration = Duration::from_millis(100);
/// How long the agent may take to say what to do.
const START_MAX: Duration = Duration::from_secs(10);
/// How often the usage is looked at once it is where it should be.
const HOLD_TICK: Duration = Duration::from_millis(100);
/// How often while the ramp goes up.
const RAMP_TICK: Duration = Duration::from_millis(10);
/// The most that is taken between two looks: 10 ms of work.
const STEP_BYTES_MAX: u64 = 32 << 20;
/// The most that is taken at once where memory runs out, so that the kernel's answer is seen in time.
const EDGE_STEP_BYTES: u64 = 512 << 10;
/// A distance from the level at which nothing is done, in parts of it.
const BAND_PARTS: u64 = 400;
/// That distance is at least this: v1 charges 64 pages per CPU ahead (`MEMCG_CHARGE_BATCH`).
const BAND_BYTES_MIN: u64 = 64 << 10;

/// What the memory helper is told first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// When the lease ends.
    pub lease_end: BootTime,
    /// The container's control group: whose usage is brought to the level.
    pub container: MemoryCgroup,
    /// The group below it to be in. It exists.
    pub own_dir: PathBuf,
    /// The usage to reach, in bytes.
    pub level_bytes: u64,
    /// How long it takes to get there.
    pub ramp: Duration,
    /// The own `oom_score_adj`.
    pub oom_score_adj: i16,
    /// The container's main process: with it everything ends.
    pub main: ProcessId,
}

/// The whole life of a memory helper.
pub(super) fn run() -> Result<(), String> {
    let failed = |e: io::Error| format!("cannot hear the agent: {e}");
    let mut input = Lines::new(io::stdin()).map_err(failed)?;
    let start: Start = input.wait(START_MAX).map_err(failed)?;
    hold(&start, input).map_err(|e| chain(&e))
}

fn hold(start: &Start, mut input: Lines<io::Stdin>) -> Result<(), KernelError> {
    if clock::now() >= start.lease_end {
        return Ok(());
    }
    let mut killer = KillTimer::arm(start.lease_end.after(KILL_GRACE))?;
    failpoint::reach(failpoint::MEMORY_ARMED);
    let main = PidFd::open(start.main)?;
    let mut notes = Vec::new();
    if let Err(error) = process::set_own_oom_score_adj(start.oom_score_adj) {
        notes.push(chain(&error));
    }
    // Before anything is taken: what is charged stays charged where it was taken.
    cgroup_dir::enter(&start.own_dir)?;
    failpoint::reach(failpoint::MEMORY_ENTERED);
    let filling = fill_on_a_thread(start.clone())?;
    channel::report(&Report::Ready { notes });

    let mut lease_end = start.lease_end;
    while !filling.is_finished() {
        let left = (lease_end - clock::now()).min(HOLD_TICK);
        if left.is_zero() {
            break;
        }
        // Rounded up: down would make this spin through the last millisecond.
        let left = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut fds = [
            PollFd::new(input.as_fd(), PollFlags::POLLIN),
            PollFd::new(main.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, left.unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(KernelError::io("poll", "the agent's pipe", e)),
        }
        let lost = |e: io::Error| KernelError::io("read", "the agent's pipe", e);
        input.fill().map_err(lost)?;
        while let Some(request) = input.next::<Request>().map_err(lost)? {
            if let Request::Renew { lease_end: later } = request {
                killer.set(later.after(KILL_GRACE))?;
                lease_end = later;
            }
        }
        if input.has_ended() || main.has_ended()? {
            break;
        }
    }
    failpoint::reach(failpoint::MEMORY_LEAVING);
    leave(start);
    failpoint::reach(failpoint::MEMORY_LEFT);
    if filling.is_finished()
        && let Ok(Err(error)) = filling.join()
    {
        return Err(error);
    }
    // The process ends now, and with it the other thread and all that it holds.
    Ok(())
}

/// Leaves nothing behind: the group cannot be removed while this process is in it. What is charged is
/// passed on to the container's group, and freed by the end of this process right after.
fn leave(start: &Start) {
    let left = cgroup_dir::enter(&start.container.mount_point);
    if let Err(error) = left.and_then(|()| cgroup_dir::remove(&start.own_dir)) {
        tracing::debug!(?error, "the revert or the sweep will remove the control group");
    }
}

type Filling = thread::JoinHandle<Result<(), KernelError>>;

fn fill_on_a_thread(start: Start) -> Result<Filling, KernelError> {
    let builder = thread::Builder::new().name("fill".into()).stack_size(256 << 10);
    builder.spawn(move || fill(&start)).map_err(|e| KernelError::io("start", "a thread", e))
}

/// Takes memory and gives it back, for ever.
fn fill(start: &Start) -> Result<(), KernelError> {
    let level = usize::try_from(start.level_bytes).unwrap_or(usize::MAX);
    let mut ballast = Ballast::reserve(level)?;
    let first_usage = start.container.usage()?;
    let first_kills = start.container.oom_kills();
    // Only where memory is to run out on purpose is there an edge to go over.
    let edge = start.container.limit()?.filter(|limit| start.level_bytes > *limit);
    let begin = Instant::now();
    loop {
        let elapsed = begin.elapsed();
        let wanted = wanted(first_usage, start.level_bytes, elapsed, start.ramp);
        let usage = start.container.usage()?;
        match step(usage, wanted, start.level_bytes) {
            // The kernel has killed one of the container: taking what that one leaves would only have
            // it kill this process as well, which then could not clean up.
            Step::Grow(_) if edge.is_some() && start.container.oom_kills() > first_kills => {
                thread::sleep(HOLD_TICK);
            }
            Step::Grow(bytes) => {
                let to_edge = edge.map_or(u64::MAX, |edge| edge.saturating_sub(usage));
                let bytes = bytes.min(to_edge.max(EDGE_STEP_BYTES));
                if ballast.grow(usize::try_from(bytes).unwrap_or(usize::MAX))? == 0 {
                    thread::sleep(HOLD_TICK);
                }
                failpoint::reach(failpoint::MEMORY_TAKEN);
            }
            Step::Shrink(bytes) => {
                if ballast.held() == 0 {
                    thread::sleep(HOLD_TICK);
                } else {
                    ballast.shrink(usize::try_from(bytes).unwrap_or(usize::MAX))?;
                    thread::sleep(RAMP_TICK);
                }
            }
            Step::Stay if elapsed < start.ramp => thread::sleep(RAMP_TICK),
            Step::Stay => thread::sleep(HOLD_TICK),
        }
    }
}

/// The usage that is wanted so long after the start: a straight line from what was found.
fn wanted(first: u64, level: u64, elapsed: Duration, ramp: Duration) -> u64 {
    if elapsed >= ramp {
        return level;
    }
    let risen = u128::from(level.saturating_sub(first)) * elapsed.as_nanos() / ramp.as_nanos();
    first.saturating_add(u64::try_from(risen).unwrap_or(u64::MAX)).min(level)
}

/// What to do at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Grow(u64),
    Shrink(u64),
    Stay,
}

/// Grows in bounded steps, so that the usage is looked at in between; does nothing within a band, so
/// that the breathing of a container is not answered page by page.
fn step(usage: u64, wanted: u64, level: u64) -> Step {
    let band = (level / BAND_PARTS).max(BAND_BYTES_MIN);
    let distance = usage.abs_diff(wanted);
    match usage.cmp(&wanted) {
        _ if distance <= band => Step::Stay,
        Ordering::Less => Step::Grow(distance.min(STEP_BYTES_MAX)),
        _ => Step::Shrink(distance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_ramp_is_a_straight_line_from_what_was_found() {
        let ramp = Duration::from_secs(10);
        let at = |seconds| wanted(20 * MIB, 120 * MIB, Duration::from_secs(seconds), ramp);
        assert_eq!([at(0), at(5), at(10), at(99)], [20, 70, 120, 120].map(|mib| mib * MIB));
        assert_eq!(wanted(7, 9, Duration::ZERO, Duration::ZERO), 9, "no ramp: at once");
        assert_eq!(wanted(200, 100, Duration::from_secs(1), ramp), 100, "already above");
    }

    #[test]
    fn steps_are_bounded_and_rest_within_the_band() {
        assert_eq!(step(0, 1000 * MIB, 1000 * MIB), Step::Grow(STEP_BYTES_MAX));
        assert_eq!(step(990 * MIB, 1000 * MIB, 1000 * MIB), Step::Grow(10 * MIB));
        assert_eq!(step(1002 * MIB, 1000 * MIB, 1000 * MIB), Step::Stay);
        assert_eq!(step(1010 * MIB, 1000 * MIB, 1000 * MIB), Step::Shrink(10 * MIB));
    }
}
