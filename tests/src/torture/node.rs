//! One node of the sandbox, as the torture test handles it: its processes, its pods, its files.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    draw::{BARE, PLANTED, PODS},
    dump::{self, Dump, Place, processes_below},
    plant::{self, ECHO_PORT},
};
use crate::sandbox::control_groups;
use anyhow::{Context as _, bail};
use faultline::{
    place::{AgentEndpoint, Pod},
    sandbox::Sandbox,
};
use faultline_agent::{
    failpoint::{DIRECTORY, Step},
    helper::MARKER,
};
use faultline_proto::id::FaultId;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What a sandbox starts an agent as.
const AGENT_ROLE: &str = "__faultline-agent";
/// What a control group's usage of memory is called, by version.
const USAGE_FILES: [&str; 2] = ["memory.usage_in_bytes", "memory.current"];

/// A node and its pods.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    /// How its agent is reached.
    pub(super) endpoint: AgentEndpoint,
    sandbox: Arc<Sandbox>,
    /// The pods' names, by position.
    pods: Vec<String>,
    init: i32,
    groups: Vec<PathBuf>,
    state_dir: PathBuf,
}

impl Node {
    /// The node of this name of a sandbox that is up.
    pub(super) fn of(sandbox: &Arc<Sandbox>, name: &str) -> anyhow::Result<Self> {
        let pods: Vec<Pod> = sandbox.pods().into_iter().filter(|pod| pod.node == name).collect();
        if pods.len() != PODS {
            bail!("{} pods on {name}, not {PODS}", pods.len());
        }
        let holder = sandbox.pod_process(&pods[0].uid).context("a pod's process")?.pid;
        let init = parent(holder).context("the node's pid 1")?;
        let groups = control_groups(sandbox.id()).into_iter().map(|dir| dir.join(name));
        let groups: Vec<PathBuf> = groups.filter(|dir| dir.is_dir()).collect();
        let endpoint = sandbox.agents().into_iter().find(|agent| agent.node == name);
        Ok(Self {
            name: name.into(),
            endpoint: endpoint.context("an agent")?,
            pods: pods.into_iter().map(|pod| pod.name).collect(),
            init,
            groups,
            // As the node sees it: the journal gets a disk of its own there.
            state_dir: PathBuf::from(format!("/proc/{init}/root"))
                .join(sandbox.directory().join(name).join("state").strip_prefix("/")?),
            sandbox: Arc::clone(sandbox),
        })
    }

    /// Plants what is foreign to us, and the harness's own echoes.
    pub(super) fn plant(&self) -> anyhow::Result<()> {
        plant::disk(self.init, &self.journal_disk())?;
        for position in 0..PODS {
            let holder = self.holder(position).context("a pod's process")?;
            if position != BARE {
                plant::in_network_of(holder)?;
            }
            plant::echo_in(holder);
        }
        let pod = self.pod(PLANTED).context("the planted pod")?;
        let container = pod.containers.first().context("its container")?;
        plant::in_groups_of(&container.id, &self.groups)
    }

    /// The harness's own echo in a pod that is new.
    pub(super) fn plant_echo(&self, position: usize) -> anyhow::Result<()> {
        plant::echo_in(self.holder(position).context("a pod's process")?);
        Ok(())
    }

    fn journal_disk(&self) -> PathBuf {
        self.sandbox.directory().join(&self.name).join("state/journal")
    }

    /// The journal's directory, as seen from here.
    pub(super) fn journal_dir(&self) -> PathBuf {
        self.state_dir.join("journal")
    }

    /// Fills the disk of the journal to the last byte.
    pub(super) fn fill_disk(&self) -> anyhow::Result<()> {
        let mut file = fs::File::create(self.filler())?;
        while file.write_all(&[0; 512]).is_ok() {}
        Ok(())
    }

    /// Makes room again.
    pub(super) fn free_disk(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    /// Lets nothing be written to the disk of the journal, or lets it again.
    pub(super) fn write_protect(&self, on: bool) -> anyhow::Result<()> {
        plant::write_protect(self.init, &self.journal_disk(), on)
    }

    fn filler(&self) -> PathBuf {
        self.journal_dir().join("somebody-elses")
    }

    /// Cuts the way from here to the agent.
    pub(super) fn cut_link(&self) -> anyhow::Result<()> {
        plant::cut(&self.name, &self.endpoint.address)
    }

    /// Takes that back.
    pub(super) fn mend_link(&self) {
        plant::mend(&self.name);
    }

    /// A pod as it is now, with its present container.
    pub(super) fn pod(&self, position: usize) -> Option<Pod> {
        let pods = self.sandbox.pods();
        pods.into_iter().find(|pod| pod.node == self.name && pod.name == self.pods[position])
    }

    /// The process that holds a pod's namespaces, while it lives.
    pub(super) fn holder(&self, position: usize) -> Option<i32> {
        let process = self.sandbox.pod_process(&self.pod(position)?.uid)?;
        process.is_alive().then_some(process.pid)
    }

    /// The addresses of all pods, by position.
    pub(super) fn addresses(&self) -> Vec<Vec<IpAddr>> {
        (0..PODS).map(|p| self.pod(p).map_or_else(Vec::new, |pod| pod.addresses)).collect()
    }

    /// The id of a pod's container, if it runs.
    pub(super) fn running_container(&self, position: usize) -> Option<String> {
        let pod = self.pod(position)?;
        let id = pod.containers.first()?.id.clone();
        let group = self.group_of(&pod.uid, &id).next()?;
        let text = fs::read_to_string(group.join("cgroup.procs")).ok()?;
        (!text.trim().is_empty()).then_some(id)
    }

    /// Where the memory that a pod's container uses can be read.
    pub(super) fn memory_usage(&self, position: usize) -> Option<PathBuf> {
        let pod = self.pod(position)?;
        let groups = self.group_of(&pod.uid, &pod.containers.first()?.id);
        let files = groups.flat_map(|group| USAGE_FILES.map(|file| group.join(file)));
        files.into_iter().find(|file| file.exists())
    }

    /// The control groups of a container, one of each hierarchy.
    fn group_of(&self, uid: &str, id: &str) -> impl Iterator<Item = PathBuf> {
        let below = Path::new("kubepods").join(format!("pod{uid}")).join(id);
        self.groups.iter().map(move |group| group.join(&below))
    }

    /// Where a pod's echo of the harness answers.
    pub(super) fn echo(&self, position: usize) -> Option<SocketAddr> {
        Some(SocketAddr::new(*self.pod(position)?.addresses.first()?, ECHO_PORT))
    }

    /// Its agent's pid, while it runs.
    pub(super) fn agent(&self) -> Option<i32> {
        let init = self.init;
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.into_iter().find(|pid| command(*pid).contains(AGENT_ROLE))
    }

    /// Sends a signal to the agent. Returns whether there was one.
    pub(super) fn signal_agent(&self, signal: Signal) -> bool {
        self.agent().is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }

    /// Sends a signal to pid 1 of the node.
    pub(super) fn signal_init(&self, signal: Signal) {
        kill(Pid::from_raw(self.init), signal).ok();
    }

    /// The processes that the agent has started for faults.
    pub(super) fn helpers(&self) -> Vec<i32> {
        let all = processes_below(self.init).into_iter();
        all.filter(|pid| command(*pid).contains(MARKER)).collect()
    }

    /// A pod's holder and all processes in it.
    pub(super) fn processes_of(&self, position: usize) -> Vec<i32> {
        let holder = self.holder(position).into_iter();
        holder.flat_map(|pid| std::iter::once(pid).chain(processes_below(pid))).collect()
    }

    /// The main process of a pod's container.
    pub(super) fn main_process(&self, position: usize) -> Option<i32> {
        let holder = self.holder(position)?;
        let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).ok()?;
        children.split_whitespace().find_map(|pid| pid.parse().ok())
    }

    /// Has the agent die when it next reaches a step.
    pub(super) fn arm(&self, step: Step) -> anyhow::Result<()> {
        let dir = self.state_dir.join(DIRECTORY);
        fs::create_dir_all(&dir)?;
        Ok(fs::write(dir.join(step.name), "")?)
    }

    /// Whether the agent has not reached a step since that was armed.
    pub(super) fn is_armed(&self, step: Step) -> bool {
        self.state_dir.join(DIRECTORY).join(step.name).exists()
    }

    /// Lets the agent live. Returns whether it has died.
    pub(super) fn disarm(&self, step: Step) -> bool {
        fs::remove_file(self.state_dir.join(DIRECTORY).join(step.name)).is_err()
    }

    /// The records in the agent's journal.
    pub(super) fn journal(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.journal_dir()).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort();
        files
    }

    /// All that is to be the same after a round. What has not changed since `last` is not read again.
    ///
    /// # Errors
    /// When it cannot be looked at, as while a pod is not there.
    pub(super) fn dump(&self, last: &Dump) -> anyhow::Result<Dump> {
        let mut networks = vec![(self.name.clone(), self.init)];
        for (position, name) in self.pods.iter().enumerate() {
            let holder = self.holder(position).with_context(|| format!("{name} is not there"))?;
            networks.push((name.clone(), holder));
        }
        let place = Place { init: self.init, networks, groups: self.groups.clone() };
        Ok(Dump::take(&place, last)?)
    }

    /// Its networks that `is_meant` says yes to by their names, for a person.
    pub(super) fn show(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let pods =
            self.pods.iter().enumerate().filter_map(|(p, name)| Some((name, self.holder(p)?)));
        let networks = pods.chain([(&self.name, self.init)]).filter(|(name, _)| is_meant(name));
        networks.map(|(name, pid)| dump::show_network(name, pid)).collect()
    }

    /// The name of a pod.
    pub(super) fn pod_name(&self, position: usize) -> &str {
        &self.pods[position]
    }

    /// What the faults of these ids have left outside of the node's own part of the system.
    pub(super) fn left_of(&self, ids: &[FaultId]) -> Vec<String> {
        let roots = self.groups.iter().filter_map(|dir| dir.parent()?.parent());
        let groups = roots.flat_map(|root| ids.iter().map(|id| root.join(id.object_name())));
        let groups = groups.filter(|dir| dir.exists());
        let files = self.journal().into_iter().chain(groups);
        files.map(|path| format!("+ {}", path.display())).collect()
    }
}

fn command(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}
