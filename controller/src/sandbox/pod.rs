//! `__faultline-pod PLAN INDEX`: holds a pod's namespaces, as a pause container does, and keeps its
//! container running, as a kubelet does.
//!
//! Every start has a new container id, made after nothing of the earlier one is left.

use std::{
    ffi::OsString,
    fs,
    io::Read as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::prctl::set_child_subreaper,
    unistd::{getpid, sethostname},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    cgroups, children, container,
    error::{Step as _, StepError},
    event::Event,
    layout::{self, NodePlan, PodPlan},
    network::Net,
};

pub(super) const ROLE: &str = "__faultline-pod";

/// How long after its end a container is started again: the first time, and at most.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);
/// After so long a life the delay is the first again.
const RESTART_DELAY_RESET_AFTER: Duration = Duration::from_secs(10);

/// The control group of a pod, below the sandbox's.
pub(super) fn cgroup(plan: &NodePlan, pod: &PodPlan) -> String {
    format!("{}/kubepods/pod{}", plan.name, pod.uid)
}

/// Reads `PLAN INDEX` of the arguments.
pub(super) fn load(args: &[OsString]) -> Result<(NodePlan, PodPlan), StepError> {
    let file = Path::new(args.first().map_or("", |arg| arg.to_str().unwrap_or("")));
    let plan = NodePlan::load(file)?;
    let index = args.get(1).and_then(|arg| arg.to_str()).and_then(|arg| arg.parse::<usize>().ok());
    let pod = index.and_then(|index| plan.pods.get(index)).cloned();
    let pod = pod.ok_or(nix::Error::EINVAL).step(|| "find the pod in the plan".into())?;
    Ok((plan, pod))
}

pub(super) fn main(args: &[OsString]) -> Result<(), StepError> {
    let (plan, pod) = load(args)?;
    for root in &plan.cgroups {
        let group = format!("{}/{}", cgroup(&plan, &pod), pod.pause_id);
        root.make(&group)?;
        root.join(&group)?;
    }
    // What a container leaves behind when its main process ends comes here, and is killed here.
    set_child_subreaper(true).step(|| "become a subreaper".into())?;
    children::runtime()?.block_on(async {
        // This socket stays in the node when the process leaves it.
        let node = Net::open(plan.ipv6)?;
        let namespaces =
            CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        unshare(namespaces).step(|| format!("make the namespaces of pod {}", pod.name))?;
        sethostname(&pod.name).step(|| "set the hostname".into())?;
        node.join_pod(&plan, &pod).await?;
        drop(node);
        let ended = signal(SignalKind::child()).step(|| "listen to SIGCHLD".into())?;
        let pid_file = pid_file(&plan, &pod, &pod.pause_id);
        write_pid(pid_file.as_deref(), getpid().as_raw())?;
        Event::PodHeld { uid: pod.uid.clone(), pid: getpid().as_raw() }.emit();
        Keeper { args, plan: &plan, pod: &pod, ended }.keep_running().await
    })
}

struct Keeper<'a> {
    args: &'a [OsString],
    plan: &'a NodePlan,
    pod: &'a PodPlan,
    ended: Signal,
}

impl Keeper<'_> {
    async fn keep_running(mut self) -> Result<(), StepError> {
        let mut delay = RESTART_DELAY_MIN;
        loop {
            let started = Instant::now();
            self.run_container(layout::container_id()?).await?;
            if started.elapsed() >= RESTART_DELAY_RESET_AFTER {
                delay = RESTART_DELAY_MIN;
            }
            tokio::time::sleep(delay).await;
            delay = RESTART_DELAY_MAX.min(delay * 2);
        }
    }

    /// Runs one container until its main process has ended, and clears up after it.
    async fn run_container(&mut self, id: String) -> Result<(), StepError> {
        let group = format!("{}/{id}", cgroup(self.plan, self.pod));
        for root in &self.plan.cgroups {
            root.make(&group)?;
            if let Some(bytes) = self.pod.memory_limit_bytes {
                root.limit_memory(&group, bytes)?;
            }
        }
        let pid_file = pid_file(self.plan, self.pod, &id);
        let status = self.run_main(&id, pid_file.as_deref()).await?;
        // Told before it is cleared up: from here on the pod does not do its work.
        Event::ContainerEnded { uid: self.pod.uid.clone(), id, status }.emit();
        if let Some(file) = pid_file {
            // Not there if the process never started.
            drop(fs::remove_file(file));
        }
        let groups: Vec<PathBuf> =
            self.plan.cgroups.iter().map(|root| root.path.join(&group)).collect();
        children::kill_all().await;
        for left in cgroups::clear(&groups) {
            eprintln!("control group {} stays", left.display());
        }
        Ok(())
    }

    async fn run_main(&mut self, id: &str, pid_file: Option<&Path>) -> Result<String, StepError> {
        let (mut report, reported) = std::io::pipe().step(|| "make a pipe".into())?;
        let log = children::log(&self.plan.pod_log(self.pod))?;
        let errors = log.try_clone().step(|| "open the workload's log".into())?;
        let mut command = children::role(container::ROLE, self.args);
        let child = command
            .arg(id)
            .stdin(OwnedFd::from(reported))
            .stdout(log)
            .stderr(errors)
            .spawn()
            .step(|| "start the container".into())?;
        // It holds the other end of the pipe.
        drop(command);
        let pid = i32::try_from(child.id()).unwrap_or(0);
        write_pid(pid_file, pid)?;
        // Silence until the end means that the workload runs. This blocks for as long as a program
        // takes to start, and nothing else is to be done meanwhile.
        let mut failure = String::new();
        report.read_to_string(&mut failure).step(|| "hear from the container".into())?;
        let (uid, id) = (self.pod.uid.clone(), id.to_owned());
        if failure.is_empty() {
            Event::ContainerStarted { uid, id }.emit();
        }
        let status = self.ended(pid).await;
        Ok(if failure.is_empty() { status } else { failure })
    }

    /// Waits for the end of a process, and collects every other one that ends meanwhile.
    async fn ended(&mut self, main: i32) -> String {
        loop {
            while let Some(ended) = children::reap() {
                if ended.pid == main {
                    return ended.status;
                }
            }
            self.ended.recv().await;
        }
    }
}

/// Where the pid of a container is written, when there are no control groups to find it by.
fn pid_file(plan: &NodePlan, pod: &PodPlan, id: &str) -> Option<PathBuf> {
    plan.pids_dir().map(|directory| directory.join(&pod.uid).join(id))
}

fn write_pid(file: Option<&Path>, pid: i32) -> Result<(), StepError> {
    let Some(file) = file else { return Ok(()) };
    // Complete when it appears: the agent may look at any time. The draft is no container's id.
    let draft = file.with_extension("new");
    fs::write(&draft, pid.to_string())
        .and_then(|()| fs::rename(&draft, file))
        .step(|| format!("write {}", file.display()))
}
