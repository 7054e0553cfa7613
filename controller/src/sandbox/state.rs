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
    hosts,
    identity::{CA_FILE, CONTROLLER_CERT_FILE, CONTROLLER_KEY_FILE, write_private},
    layout::{NodePlan, PodPlan},
    runtime_dir::INVENTORY,
};
use crate::place::{
    AgentEndpoint, Pod, PodState, Process,
    inventory::{Inventory, Tls},
};

/// A container of a command counts as running when it has lived for so long: a command that cannot
/// work mostly ends sooner. The built-in workload says when it listens.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// What is known, shared with the tasks that listen to the nodes.
#[derive(Debug)]
pub(super) struct Shared {
    directory: PathBuf,
    agents: Vec<AgentEndpoint>,
    state: Mutex<State>,
    /// Held while the inventory is written.
    publishing: Mutex<()>,
    /// Woken at every event.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct State {
    nodes: Vec<NodeState>,
    pods: BTreeMap<String, KnownPod>,
    problems: Vec<Problem>,
    /// The sandbox is up: from here on it is a fault's business what ends.
    up: bool,
}

#[derive(Debug, Clone)]
struct NodeState {
    /// The node, with the pods that it has now.
    plan: NodePlan,
    /// The process that made the node's namespaces.
    maker: Option<i32>,
    agent: Option<Process>,
}

#[derive(Debug)]
struct KnownPod {
    pod: Pod,
    holder: Option<Process>,
    running_since: Option<Instant>,
    /// How often its container was started.
    starts: u32,
    /// Whether it is shown: one that takes the place of another is, once it has its network.
    shown: bool,
}

impl State {
    /// The pods that there are, in the order of the nodes.
    fn shown(&self) -> impl Iterator<Item = &KnownPod> {
        let planned = self.nodes.iter().flat_map(|node| &node.plan.pods);
        planned.filter_map(|pod| self.pods.get(&pod.uid)).filter(|known| known.shown)
    }
}

impl KnownPod {
    fn new(pod: Pod, shown: bool) -> Self {
        Self { pod, holder: None, running_since: None, starts: 0, shown }
    }
}

/// The one condition that the sandbox tells.
fn ready(is_ready: bool) -> (String, String) {
    ("Ready".into(), if is_ready { "True" } else { "False" }.into())
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
        let pods = pods.map(|(node, pod)| (pod.uid.clone(), KnownPod::new(node.pod(pod), true)));
        let nodes = nodes.iter().cloned();
        let state = State {
            nodes: nodes.map(|plan| NodeState { plan, maker: None, agent: None }).collect(),
            pods: pods.collect(),
            problems: Vec::new(),
            up: false,
        };
        Arc::new(Self {
            directory: directory.to_owned(),
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
        let what = format!("{} ended", self.plan(node).name);
        self.problem(node, None, what);
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
                let plan = self.plan(node);
                if plan.restart_agent_after.is_none() {
                    let what = format!("the agent of {} ended with {status}", plan.name);
                    self.problem(node, Some(plan.agent_log()), what);
                }
            }
            Event::PodHeld { uid, pid } => {
                let process = self.outside(node, pid);
                self.with_pod(&uid, |pod| (pod.holder, pod.shown) = (process, true));
                self.publish_if_up();
            }
            Event::PodEnded { uid, status } => self.pod_ended(node, &uid, &status),
            Event::PodReplaced { old, uid, pause_id, host } => {
                self.replaced(node, &old, |pod| PodPlan { uid, host, pause_id, ..pod });
            }
            Event::ContainerStarted { uid, id } => self.started(node, &uid, id),
            Event::ContainerEnded { uid, status, .. } => self.ended(node, &uid, &status),
            Event::Failed { message } => self.problem(node, None, message),
        }
        self.changed.notify_waiters();
    }

    fn started(&self, node: usize, uid: &str, id: String) {
        let plan = self.plan(node);
        let Some(plan) = plan.pods.iter().find(|pod| pod.uid == uid) else { return };
        self.with_pod(uid, |pod| {
            pod.pod.containers = vec![plan.container(id)];
            pod.running_since = Some(Instant::now());
            pod.starts += 1;
        });
        self.publish();
    }

    /// The pod keeps its last container: it is what a fault on it would be on.
    fn ended(&self, node: usize, uid: &str, status: &str) {
        self.with_pod(uid, |pod| pod.running_since = None);
        let plan = self.plan(node);
        if let Some(pod) = plan.pods.iter().find(|pod| pod.uid == uid) {
            let what = format!("the workload of pod {} ended: {status}", pod.name);
            self.problem(node, Some(plan.pod_log(pod)), what);
        }
    }

    fn pod_ended(&self, node: usize, uid: &str, status: &str) {
        let known = self.lock().pods.remove(uid);
        if let Some(known) = known {
            self.problem(node, None, format!("pod {} ended with {status}", known.pod.name));
        }
        self.publish_if_up();
    }

    /// Another pod takes the place of `old`, and will be shown when it has its network. Its names lead
    /// to it at once.
    fn replaced(&self, node: usize, old: &str, change: impl FnOnce(PodPlan) -> PodPlan) {
        let mut state = self.lock();
        let plan = &mut state.nodes[node].plan;
        let Some(pod) = plan.pods.iter_mut().find(|pod| pod.uid == old) else { return };
        *pod = change(pod.clone());
        let pod = pod.clone();
        let shown = plan.pod(&pod);
        state.pods.insert(pod.uid, KnownPod::new(shown, false));
        let plans: Vec<NodePlan> = state.nodes.iter().map(|node| node.plan.clone()).collect();
        drop(state);
        if let Err(error) = hosts::update(&self.directory, &plans) {
            tracing::warn!(error = %chain(&error), "names of pods not written");
        }
    }

    fn plan(&self, node: usize) -> NodePlan {
        self.lock().nodes[node].plan.clone()
    }

    fn with_pod(&self, uid: &str, change: impl FnOnce(&mut KnownPod)) {
        self.lock().pods.get_mut(uid).map(change);
    }

    fn problem(&self, node: usize, log: Option<PathBuf>, what: String) {
        let mut state = self.lock();
        if !state.up {
            let log = log.unwrap_or_else(|| state.nodes[node].plan.node_log());
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
        for (index, node) in state.nodes.iter().enumerate() {
            for pod in &node.plan.pods {
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
        self.lock().shown().map(|known| known.pod.clone()).collect()
    }

    /// The same, and how each is.
    pub(super) fn pod_states(&self) -> Vec<PodState> {
        let state = |known: &KnownPod| PodState {
            pod: known.pod.clone(),
            ready: known.running_since.is_some(),
            restarts: known.starts.saturating_sub(1),
            terminating: false,
            conditions: [ready(known.running_since.is_some())].into(),
        };
        self.lock().shown().map(state).collect()
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
        self.lock().nodes.iter().find(|known| known.plan.name == node)?.agent
    }

    /// Every process that is known and still runs, in words.
    pub(super) fn still_running(&self) -> Vec<String> {
        let state = self.lock();
        let agents = state.nodes.iter().filter_map(|node| {
            let agent = node.agent.filter(|agent| agent.is_alive())?;
            Some(format!("the agent of {}, process {}", node.plan.name, agent.pid))
        });
        let pods = state.pods.values().filter_map(|pod| {
            let holder = pod.holder.filter(|holder| holder.is_alive())?;
            Some(format!("pod {}, process {}", pod.pod.name, holder.pid))
        });
        agents.chain(pods).collect()
    }

    /// While it is being built, what there is of it is not of use yet.
    fn publish_if_up(&self) {
        if self.lock().up {
            self.publish();
        }
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
