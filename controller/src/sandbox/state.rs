//! What is known of a running sandbox, kept up to date from what its nodes report.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::ChildStdout,
    sync::Notify,
};

use super::{
    error::{Step as _, chain},
    event::Event,
    identity::{CA_FILE, CONTROLLER_CERT_FILE, CONTROLLER_KEY_FILE, write_private},
    layout::NodePlan,
    runtime_dir::INVENTORY,
};
use crate::place::{
    AgentEndpoint, Pod, Process,
    inventory::{Inventory, Tls},
};

/// A container of a command counts as running when it has lived for so long: a command that cannot
/// work mostly ends sooner. The built-in workload says when it listens.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// What is known, shared with the tasks that listen to the nodes.
#[derive(Debug)]
pub(super) struct Shared {
    directory: PathBuf,
    nodes: Vec<NodePlan>,
    agents: Vec<AgentEndpoint>,
    state: Mutex<State>,
    /// Held while the inventory is written.
    publishing: Mutex<()>,
    /// Woken at every event.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<NodeState>,
    pods: BTreeMap<String, PodState>,
    problems: Vec<Problem>,
    /// The sandbox is up: from here on it is a fault's business what ends.
    up: bool,
}

#[derive(Debug, Default, Clone)]
struct NodeState {
    /// The process that made the node's namespaces.
    maker: Option<i32>,
    agent: Option<Process>,
}

#[derive(Debug)]
struct PodState {
    pod: Pod,
    holder: Option<Process>,
    running_since: Option<Instant>,
}

/// Something that went wrong before the sandbox was up, and where more can be read.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) log: PathBuf,
}

impl Shared {
    pub(super) fn new(
        directory: &Path,
        nodes: &[NodePlan],
        agents: Vec<AgentEndpoint>,
    ) -> Arc<Self> {
        let pods = nodes.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod)));
        let pods = pods.map(|(node, pod)| {
            let state = PodState { pod: node.pod(pod), holder: None, running_since: None };
            (pod.uid.clone(), state)
        });
        let state = State {
            nodes: vec![NodeState::default(); nodes.len()],
            pods: pods.collect(),
            ..State::default()
        };
        Arc::new(Self {
            directory: directory.to_owned(),
            nodes: nodes.to_vec(),
            agents,
            state: Mutex::new(state),
            publishing: Mutex::new(()),
            changed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what a node reports until it has ended.
    pub(super) async fn listen(self: Arc<Self>, node: usize, maker: i32, events: ChildStdout) {
        self.lock().nodes[node].maker = Some(maker);
        let mut lines = BufReader::new(events).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(event) = serde_json::from_str(&line) {
                self.take(node, event);
            }
        }
        self.problem(node, None, format!("{} ended", self.nodes[node].name));
        self.changed.notify_waiters();
    }

    fn take(&self, node: usize, event: Event) {
        match event {
            Event::AgentStarted { pid } => {
                let process = self.outside(node, pid);
                self.lock().nodes[node].agent = process;
            }
            Event::AgentEnded { status } => {
                self.lock().nodes[node].agent = None;
                if self.nodes[node].restart_agent_after.is_none() {
                    let what =
                        format!("the agent of {} ended with {status}", self.nodes[node].name);
                    self.problem(node, Some(self.nodes[node].agent_log()), what);
                }
            }
            Event::PodHeld { uid, pid } => {
                let process = self.outside(node, pid);
                self.with_pod(&uid, |pod| pod.holder = process);
            }
            Event::ContainerStarted { uid, id } => self.started(node, &uid, id),
            Event::ContainerEnded { uid, status, .. } => self.ended(node, &uid, &status),
            Event::Failed { message } => self.problem(node, None, message),
        }
        self.changed.notify_waiters();
    }

    fn started(&self, node: usize, uid: &str, id: String) {
        let plan = self.nodes[node].pods.iter().find(|pod| pod.uid == uid);
        let Some(plan) = plan else { return };
        self.with_pod(uid, |pod| {
            pod.pod.containers = vec![plan.container(id)];
            pod.running_since = Some(Instant::now());
        });
        self.publish();
    }

    /// The pod keeps its last container: it is what a fault on it would be on.
    fn ended(&self, node: usize, uid: &str, status: &str) {
        self.with_pod(uid, |pod| pod.running_since = None);
        if let Some(pod) = self.nodes[node].pods.iter().find(|pod| pod.uid == uid) {
            let what = format!("the workload of pod {} ended: {status}", pod.name);
            self.problem(node, Some(self.nodes[node].pod_log(pod)), what);
        }
    }

    fn with_pod(&self, uid: &str, change: impl FnOnce(&mut PodState)) {
        self.lock().pods.get_mut(uid).map(change);
    }

    fn problem(&self, node: usize, log: Option<PathBuf>, what: String) {
        let mut state = self.lock();
        if !state.up {
            let log = log.unwrap_or_else(|| self.nodes[node].node_log());
            state.problems.push(Problem { what, log });
        }
    }

    /// From a pid on the node to the process as it is called here.
    fn outside(&self, node: usize, pid: i32) -> Option<Process> {
        let maker = self.lock().nodes[node].maker?;
        let namespace = |pid: i32, kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        let own = namespace(maker, "pid_for_children")?;
        procfs::process::all_processes().ok()?.flatten().find_map(|process| {
            let inner = process.status().ok()?.nspid?.last().copied();
            let same = inner == Some(pid) && namespace(process.pid, "pid").as_ref() == Some(&own);
            same.then(|| Process::of(process.pid)).flatten()
        })
    }

    /// The first thing that went wrong.
    pub(super) fn first_problem(&self) -> Option<Problem> {
        self.lock().problems.first().cloned()
    }

    /// From here on a container or an agent that ends is no problem of the sandbox.
    pub(super) fn set_up(&self) {
        self.lock().up = true;
    }

    /// Which agents have been started, by the order of their nodes.
    pub(super) fn agents_started(&self) -> Vec<bool> {
        self.lock().nodes.iter().map(|node| node.agent.is_some()).collect()
    }

    /// Pods that do not run yet: the node's number and the pod's name.
    pub(super) fn pods_not_running(&self) -> Vec<(usize, String)> {
        let state = self.lock();
        let mut waiting = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for pod in &node.pods {
                let since = state.pods.get(&pod.uid).and_then(|pod| pod.running_since);
                let settled =
                    |since: Instant| pod.command.is_none() || since.elapsed() >= SETTLED_AFTER;
                if !since.is_some_and(settled) {
                    waiting.push((index, pod.name.clone()));
                }
            }
        }
        waiting
    }

    /// The pods as they are now, in the order of the nodes.
    pub(super) fn pods(&self) -> Vec<Pod> {
        let state = self.lock();
        let planned = self.nodes.iter().flat_map(|node| &node.pods);
        planned.filter_map(|pod| Some(state.pods.get(&pod.uid)?.pod.clone())).collect()
    }

    pub(super) fn agents(&self) -> &[AgentEndpoint] {
        &self.agents
    }

    /// The process that holds a pod's namespaces.
    pub(super) fn holder(&self, uid: &str) -> Option<Process> {
        self.lock().pods.get(uid)?.holder
    }

    /// The agent of a node; `None` while it does not run.
    pub(super) fn agent(&self, node: &str) -> Option<Process> {
        let index = self.nodes.iter().position(|plan| plan.name == node)?;
        self.lock().nodes[index].agent
    }

    /// Every process that is known and still runs, in words.
    pub(super) fn still_running(&self) -> Vec<String> {
        let state = self.lock();
        let agents = self.nodes.iter().zip(&state.nodes).filter_map(|(plan, node)| {
            let agent = node.agent.filter(|agent| agent.is_alive())?;
            Some(format!("the agent of {}, process {}", plan.name, agent.pid))
        });
        let pods = state.pods.values().filter_map(|pod| {
            let holder = pod.holder.filter(|holder| holder.is_alive())?;
            Some(format!("pod {}, process {}", pod.pod.name, holder.pid))
        });
        agents.chain(pods).collect()
    }

    /// Writes the inventory anew. Others read it as a whole: it is replaced.
    pub(super) fn publish(&self) {
        let _alone = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let holders = {
            let state = self.lock();
            let holders =
                state.pods.iter().filter_map(|(uid, pod)| Some((uid.clone(), pod.holder?)));
            holders.collect()
        };
        let file = self.directory.join(INVENTORY);
        let tls = Tls {
            ca: CA_FILE.into(),
            cert: CONTROLLER_CERT_FILE.into(),
            key: CONTROLLER_KEY_FILE.into(),
        };
        let inventory = Inventory {
            file: file.clone(),
            agents: self.agents.clone(),
            pods: self.pods(),
            tls,
            network: Process::current(),
            holders,
        };
        let text = serde_json::to_string_pretty(&inventory).step(|| "write the inventory".into());
        if let Err(error) = text.and_then(|text| write_private(&file, &text)) {
            tracing::warn!(error = %chain(&error), "inventory not written");
        }
    }
}
