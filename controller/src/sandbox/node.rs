//! `__faultline-node PLAN`: makes a node's namespaces and its network, and starts its pid 1.
//!
//! It then only waits. A second pair of eyes on the control pipe: should pid 1 be stuck when the
//! sandbox's process has gone, it is killed from here, and all of the node with it.

use std::{
    ffi::OsString,
    io,
    os::fd::AsFd as _,
    path::Path,
    process::{Child, Stdio},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, Signal},
        signalfd::SignalFd,
    },
};

use super::{
    children,
    error::{Step as _, StepError},
    init,
    layout::NodePlan,
    network::Net,
};

pub(super) const ROLE: &str = "__faultline-node";

/// The control group of a node's own processes.
pub(super) const CGROUP: &str = "init";

pub(super) fn main(args: &[OsString]) -> Result<(), StepError> {
    let plan =
        NodePlan::load(Path::new(args.first().map_or("", |arg| arg.to_str().unwrap_or(""))))?;
    for root in &plan.cgroups {
        root.join(&format!("{}/{CGROUP}", plan.name))?;
    }
    children::runtime()?.block_on(async {
        // This socket stays in the hub when the process leaves it.
        let hub = Net::open(plan.ipv6)?;
        let namespaces = CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC;
        unshare(namespaces).step(|| format!("make the namespaces of {}", plan.name))?;
        hub.join_node(&plan).await
    })?;
    // The pid namespace is for children only: the next one is its pid 1.
    unshare(CloneFlags::CLONE_NEWPID).step(|| "make a pid namespace".into())?;
    let init = children::role(init::ROLE, [plan.file()])
        .stdin(Stdio::inherit())
        .spawn()
        .step(|| format!("start pid 1 of {}", plan.name))?;
    // Only now: what is blocked would be blocked in pid 1 as well.
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.thread_block().step(|| "block SIGCHLD".into())?;
    wait(init, &ended).step(|| format!("wait for pid 1 of {}", plan.name))
}

/// Waits until pid 1 has ended, and ends it when the other end of the control pipe has gone.
fn wait(mut init: Child, ended: &SigSet) -> io::Result<()> {
    let signals = SignalFd::new(ended)?;
    let control = io::stdin();
    loop {
        if init.try_wait()?.is_some() {
            return Ok(());
        }
        // No event is asked for: a hang-up is always reported (poll(2)).
        let mut fds = [
            PollFd::new(control.as_fd(), PollFlags::empty()),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].any().unwrap_or(false) {
            init.kill()?;
            init.wait()?;
            return Ok(());
        }
        // Takes the signal away, so that the next poll waits again.
        signals.read_signal()?;
    }
}
