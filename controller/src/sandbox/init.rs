//! `__faultline-node-init PLAN`: pid 1 of a node. Runs the agent and the pods, collects orphans, and
//! ends with the control pipe; the kernel then kills everything else on the node
//! (`pid_namespaces(7)`).

use std::{
    ffi::OsString,
    fs::File,
    future::pending,
    io,
    os::fd::AsFd as _,
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sys::signal::{Signal, kill},
    unistd::{Pid, sethostname, setsid},
};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe::Receiver,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    address::{self, AGENT_PORT},
    children::{self, Ended},
    error::{Step as _, StepError},
    event::Event,
    identity::{AGENT_CERT_FILE, AGENT_KEY_FILE, CA_FILE},
    layout::NodePlan,
    pods::Pods,
};
use crate::place::CONTROLLER_NAME;

pub(super) const ROLE: &str = "__faultline-node-init";
pub(super) const AGENT_ROLE: &str = "__faultline-agent";

/// What is written to the control pipe to end a node in good order.
pub(super) const DOWN: &[u8] = b"down\n";
/// How long the agent has to revert then.
pub(super) const REVERT_TIMEOUT: Duration = Duration::from_secs(5);
/// The control group of an agent.
pub(super) const AGENT_CGROUP: &str = "agent";

pub(super) fn main(args: &[OsString]) -> Result<(), StepError> {
    let file = Path::new(args.first().map_or("", |arg| arg.to_str().unwrap_or("")));
    // Before anything looks into /proc: the one that is mounted shows the outside.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).step(|| {
        "mount /proc for the node (a container that hides parts of it forbids that)".into()
    })?;
    let plan = NodePlan::load(file)?;
    // Out of the terminal's reach: Ctrl-C is for the command line to decide on.
    setsid().step(|| "start a session".into())?;
    sethostname(&plan.name).step(|| "set the hostname".into())?;
    children::runtime()?.block_on(Init { plan, agent: None, pods: None }.run())
}

struct Init {
    plan: NodePlan,
    /// The pid of the agent, while it runs.
    agent: Option<i32>,
    /// The pods, once they are started.
    pods: Option<Pods>,
}

impl Init {
    async fn run(mut self) -> Result<(), StepError> {
        let control = io::stdin().as_fd().try_clone_to_owned();
        let control = control.and_then(|fd| Receiver::from_file(File::from(fd)));
        let mut control = control.step(|| "open the control pipe".into())?;
        let mut ended = signal(SignalKind::child()).step(|| "listen to SIGCHLD".into())?;
        self.start_agent()?;
        self.pods = Some(Pods::start(&self.plan)?);
        let mut word = [0; 16];
        let mut restart = None;
        let mut deadline = None;
        loop {
            // A node that is ending makes no new pods.
            let pods = self.pods.as_ref().filter(|_| deadline.is_none()).and_then(Pods::next);
            tokio::select! {
                read = control.read(&mut word) => {
                    let orderly = read.is_ok_and(|len| len > 0);
                    let Some(agent) = self.agent.filter(|_| orderly) else { return Ok(()) };
                    kill(Pid::from_raw(agent), Signal::SIGTERM).ok();
                    deadline = Some(Instant::now() + REVERT_TIMEOUT);
                }
                _ = ended.recv() => {
                    if self.reap() {
                        if deadline.is_some() {
                            return Ok(());
                        }
                        restart = self.plan.restart_agent_after.map(|after| Instant::now() + after);
                    }
                }
                () = at(restart) => {
                    restart = None;
                    self.start_agent()?;
                }
                () = at(pods) => {
                    if let Some(pods) = &mut self.pods {
                        pods.turn(&mut self.plan).await;
                    }
                }
                () = at(deadline) => return Ok(()),
            }
        }
    }

    /// Collects what has ended. Returns whether the agent has.
    fn reap(&mut self) -> bool {
        let mut agent_ended = false;
        while let Some(Ended { pid, status }) = children::reap() {
            if self.agent == Some(pid) {
                self.agent = None;
                agent_ended = true;
                Event::AgentEnded { status }.emit();
            } else if let Some(pods) = &mut self.pods {
                pods.ended(&self.plan, pid, status);
            }
        }
        agent_ended
    }

    fn start_agent(&mut self) -> Result<(), StepError> {
        let log = children::log(&self.plan.agent_log())?;
        let errors = log.try_clone().step(|| "open the agent's log".into())?;
        let child = children::role(AGENT_ROLE, agent_arguments(&self.plan))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .step(|| format!("start the agent of {}", self.plan.name))?;
        for root in &self.plan.cgroups {
            root.admit(&format!("{}/{AGENT_CGROUP}", self.plan.name), child.id())?;
        }
        let pid = i32::try_from(child.id()).unwrap_or(0);
        self.agent = Some(pid);
        Event::AgentStarted { pid }.emit();
        Ok(())
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// The agent's ordinary arguments.
fn agent_arguments(plan: &NodePlan) -> Vec<OsString> {
    let listen = format!("{}:{AGENT_PORT}", address::node(plan.index).v4);
    let directory = &plan.directory;
    let mut arguments: Vec<OsString> = vec![
        "--node".into(),
        plan.name.clone().into(),
        "--listen".into(),
        listen.into(),
        "--state-dir".into(),
        directory.join("state").into(),
        "--pods-dir".into(),
        plan.pods_dir().into(),
        "--tls-ca".into(),
        directory.join(CA_FILE).into(),
        "--tls-cert".into(),
        directory.join(AGENT_CERT_FILE).into(),
        "--tls-key".into(),
        directory.join(AGENT_KEY_FILE).into(),
        "--controller-name".into(),
        CONTROLLER_NAME.into(),
        "--log-format".into(),
        "json".into(),
    ];
    if let Some(directory) = plan.pids_dir() {
        arguments.extend(["--pids-dir".into(), directory.into()]);
    }
    arguments
}

/// The agent, as the process of its own that it is on a real node: the same code as `faultline-agent`.
pub(super) fn agent_main(args: &[OsString]) -> ExitCode {
    let program = OsString::from("faultline-agent");
    faultline_agent::cli::run([program].into_iter().chain(args.iter().cloned()))
}
