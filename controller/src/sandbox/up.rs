//! Building a sandbox, and what can be asked of it while it runs.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::process::{Child, ChildStdin};

use super::{
    address::{self, AGENT_PORT},
    cgroups::{self, Root},
    children, down,
    enter::Entered,
    error::{SandboxError, Step as _, StepError},
    exec, hosts,
    identity::{Authority, write_private},
    init,
    layout::{self, NodePlan},
    network::{Net, has_ipv6},
    node, pods, ready,
    runtime_dir::{self, Base, RuntimeDir},
    state::Shared,
    sweep,
};
use crate::{
    experiment::SandboxSpec,
    place::{AgentEndpoint, Credentials, ExecError, ExecOutcome, Pod, PodState, Process},
};

/// A running sandbox. Ends with [`Sandbox::down`]; if it is dropped instead, everything is ended at
/// once, and what cannot be removed at once is swept at the next start.
#[derive(Debug)]
pub struct Sandbox {
    pub(super) directory: RuntimeDir,
    pub(super) base: PathBuf,
    pub(super) cgroups: Vec<Root>,
    pub(super) ipv6: bool,
    pub(super) nodes: Vec<NodeHandle>,
    pub(super) shared: Arc<Shared>,
    pub(super) is_down: bool,
    credentials: Credentials,
    swept: Vec<String>,
}

/// A node's process, and the pipe whose end is the node's end.
#[derive(Debug)]
pub(super) struct NodeHandle {
    pub(super) process: Child,
    pub(super) control: Option<ChildStdin>,
}

impl Sandbox {
    /// Builds a sandbox and waits until every agent can be connected to and every workload runs.
    /// Sweeps before that what killed ones have left. `nodes` overrides the specification's number.
    ///
    /// # Errors
    /// What could not be done, with the end of the log that tells more. Nothing is left then.
    pub async fn up(
        entered: &Entered,
        spec: &SandboxSpec,
        nodes: Option<u32>,
    ) -> Result<Self, SandboxError> {
        let base = Base::lock(&entered.base)?;
        let swept = sweep::sweep(&base)?;
        let directory = base.create()?;
        let cgroups = cgroups::usable(&directory.id);
        let ipv6 = has_ipv6();
        let planned = layout::lay_out(spec, nodes, &directory.path, &cgroups, ipv6)
            .and_then(|plans| Ok((write_identities(&directory.path, &plans)?, plans)));
        let (credentials, plans) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                base.remove(&directory.path)?;
                return Err(error);
            }
        };
        let shared = Shared::new(&directory.path, &plans, endpoints(&plans));
        let mut sandbox = Self {
            directory,
            base: entered.base.clone(),
            cgroups,
            ipv6,
            nodes: Vec::new(),
            shared,
            is_down: false,
            credentials,
            swept,
        };
        if let Err(error) = sandbox.build(base, &plans).await {
            // What stays is swept at the next start; the error is what matters now.
            sandbox.take_down(down::Manner::AtOnce).await;
            return Err(error);
        }
        sandbox.shared.set_up();
        sandbox.shared.publish();
        Ok(sandbox)
    }

    fn make_groups(&self, base: &Base, plans: &[NodePlan]) -> Result<(), StepError> {
        let groups: Vec<String> = plans
            .iter()
            .flat_map(|plan| {
                let own = [node::CGROUP, init::AGENT_CGROUP];
                own.map(|group| format!("{}/{group}", plan.name))
            })
            .collect();
        sweep::make_groups(base, &self.cgroups, &groups, &self.directory.path)
    }

    async fn build(&mut self, base: Base, plans: &[NodePlan]) -> Result<(), SandboxError> {
        let grouped = self.make_groups(&base, plans);
        // From here on the directory's own lock is enough.
        drop(base);
        grouped?;
        for plan in plans {
            let text = serde_json::to_string(plan).step(|| "write the plan of a node".into())?;
            write_private(&plan.file(), &text)?;
            write_folders(plan)?;
        }
        hosts::mount_over(&self.directory.path, plans)?;
        Net::open(self.ipv6)?.build_hub().await?;
        for (index, plan) in plans.iter().enumerate() {
            let node = self.start_node(index, plan)?;
            self.nodes.push(node);
        }
        ready::wait(&self.shared, plans).await
    }

    fn start_node(&self, index: usize, plan: &NodePlan) -> Result<NodeHandle, StepError> {
        let log = children::log(&plan.node_log())?;
        let mut command = tokio::process::Command::from(children::role(node::ROLE, [plan.file()]));
        // A process group of its own: Ctrl-C in the terminal is for the command line to decide on.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().step(|| format!("start {}", plan.name))?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some((events, pid)) = process.stdout.take().zip(pid) {
            tokio::spawn(self.shared.clone().listen(index, pid, events));
        }
        let control = process.stdin.take();
        Ok(NodeHandle { process, control })
    }

    /// The sandbox's id: part of the names of its directory and control groups.
    pub fn id(&self) -> &str {
        &self.directory.id
    }

    /// Where its files are: logs, journals, keys and the inventory.
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// What was left of earlier sandboxes and has been removed, each as one sentence.
    pub fn swept(&self) -> &[String] {
        &self.swept
    }

    /// The pods, with the containers that run in them now.
    pub fn pods(&self) -> Vec<Pod> {
        self.shared.pods()
    }

    /// The pods, and how they are now.
    pub fn pod_states(&self) -> Vec<PodState> {
        self.shared.pod_states()
    }

    /// How the agents are reached, one of each node.
    pub fn agents(&self) -> Vec<AgentEndpoint> {
        self.shared.agents().to_vec()
    }

    /// What the controller proves itself with.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The pid of a node's agent as this process sees it; `None` while it does not run.
    pub fn agent_pid(&self, node: &str) -> Option<i32> {
        self.shared.agent(node).map(|process| process.pid)
    }

    /// The process that holds a pod's namespaces, by the pod's uid.
    pub fn pod_process(&self, uid: &str) -> Option<Process> {
        self.shared.holder(uid)
    }

    /// Runs a command in a pod, and kills it if it takes longer than `within`.
    ///
    /// # Errors
    /// When there is no such pod, the command took too long, or could not be started. An exit code
    /// other than 0 is no error.
    pub async fn exec(
        &self,
        pod: &Pod,
        command: &[String],
        within: Duration,
    ) -> Result<ExecOutcome, ExecError> {
        let holder = self.shared.holder(&pod.uid);
        let holder = holder.ok_or_else(|| ExecError::NoSuchPod { pod: pod.name.clone() })?;
        exec::exec_in(holder, command, within).await
    }
}

fn endpoints(plans: &[NodePlan]) -> Vec<AgentEndpoint> {
    let endpoint = |plan: &NodePlan| {
        let address = format!("{}:{AGENT_PORT}", address::node(plan.index).v4);
        AgentEndpoint::direct(plan.name.clone(), address)
    };
    plans.iter().map(endpoint).collect()
}

fn write_identities(directory: &Path, plans: &[NodePlan]) -> Result<Credentials, SandboxError> {
    let authority = Authority::new()?;
    for plan in plans {
        runtime_dir::make(&plan.directory)?;
        authority.write_agent(&plan.name, &plan.directory)?;
    }
    authority.write_controller(directory)
}

/// The folders that a node's processes expect.
fn write_folders(plan: &NodePlan) -> Result<(), StepError> {
    runtime_dir::make(&plan.directory.join("state"))?;
    runtime_dir::make(&plan.pods_dir())?;
    if let Some(pids) = plan.pids_dir() {
        runtime_dir::make(&pids)?;
    }
    plan.pods.iter().try_for_each(|pod| pods::make_folders(plan, pod))
}
