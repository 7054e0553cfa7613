//! One node of the sandbox, as the torture test handles it: its processes, its pods, its files.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use faultline::{
    agents::Fleet,
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
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    draw::{PLANTED, PODS},
    dump::{Dump, Place},
    plant::{self, ECHO_PORT},
};
use crate::{
    observer::{descendants, in_net_ns_of},
    sandbox::control_groups,
};

/// How long an agent may take until it answers.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a datagram or a connection may take between two pods.
const ECHO_MAX: Duration = Duration::from_millis(500);
/// The built-in workload's port for TCP.
const WORKLOAD_PORT: u16 = 7000;
/// What a sandbox starts an agent as.
const AGENT_ROLE: &str = "__faultline-agent";

/// A node and its pods.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    sandbox: Arc<Sandbox>,
    endpoint: AgentEndpoint,
    /// The pods' uids, by position.
    uids: Vec<String>,
    /// The processes that hold the pods' namespaces, by position.
    pub(super) holders: Vec<i32>,
    /// The pods' addresses, by position.
    pub(super) addresses: Vec<Vec<IpAddr>>,
    place: Place,
    state_dir: PathBuf,
}

impl Node {
    /// The node of this name of a sandbox that is up.
    pub(super) fn of(sandbox: &Arc<Sandbox>, name: &str) -> anyhow::Result<Self> {
        let pods: Vec<Pod> = sandbox.pods().into_iter().filter(|pod| pod.node == name).collect();
        if pods.len() != PODS {
            bail!("{} pods on {name}, not {PODS}", pods.len());
        }
        let mut holders = Vec::new();
        for pod in &pods {
            holders.push(sandbox.pod_process(&pod.uid).context("a pod's process")?.pid);
        }
        let init = parent(holders[0]).context("the node's pid 1")?;
        let names = pods.iter().map(|pod| pod.name.clone());
        let mut networks: Vec<(String, i32)> = names.zip(holders.iter().copied()).collect();
        networks.push((name.to_owned(), init));
        let groups = control_groups(sandbox.id()).into_iter().map(|dir| dir.join(name));
        let groups: Vec<PathBuf> = groups.filter(|dir| dir.is_dir()).collect();
        let endpoint = sandbox.agents().into_iter().find(|agent| agent.node == name);
        Ok(Self {
            name: name.into(),
            endpoint: endpoint.context("an agent")?,
            uids: pods.iter().map(|pod| pod.uid.clone()).collect(),
            holders,
            addresses: pods.into_iter().map(|pod| pod.addresses).collect(),
            place: Place { init, networks, groups },
            // As the node sees it: the journal gets a disk of its own there.
            state_dir: PathBuf::from(format!("/proc/{init}/root"))
                .join(sandbox.directory().join(name).join("state").strip_prefix("/")?),
            sandbox: Arc::clone(sandbox),
        })
    }

    /// Plants what is foreign to us, and the harness's own echoes.
    pub(super) fn plant(&self) -> anyhow::Result<()> {
        self.give_disk()?;
        for pid in &self.holders {
            plant::in_network_of(*pid)?;
            plant::echo_in(*pid);
        }
        let pod = self.pod(PLANTED).context("the planted pod")?;
        let container = pod.containers.first().context("its container")?;
        plant::in_groups_of(&container.id, &self.place.groups)
    }

    /// Puts the journal on a small disk of its own, so that it can be filled.
    fn give_disk(&self) -> anyhow::Result<()> {
        let dir = self.sandbox.directory().join(&self.name).join("state/journal");
        plant::disk(self.place.init, &dir)
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

    fn filler(&self) -> PathBuf {
        self.state_dir.join("journal/somebody-elses")
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
        self.sandbox.pods().into_iter().find(|pod| pod.uid == self.uids[position])
    }

    /// The id of a pod's container, if it runs.
    pub(super) fn running_container(&self, position: usize) -> Option<String> {
        let id = self.pod(position)?.containers.first()?.id.clone();
        let below = Path::new("kubepods").join(format!("pod{}", self.uids[position])).join(&id);
        let file = self.place.groups.first()?.join(below).join("cgroup.procs");
        let runs = fs::read_to_string(file).is_ok_and(|text| !text.trim().is_empty());
        runs.then_some(id)
    }

    /// Where a pod's echo of the harness answers.
    pub(super) fn echo(&self, position: usize) -> SocketAddr {
        SocketAddr::new(self.addresses[position][0], ECHO_PORT)
    }

    /// Its agent's pid, while it runs.
    pub(super) fn agent(&self) -> Option<i32> {
        let init = self.place.init;
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
        kill(Pid::from_raw(self.place.init), signal).ok();
    }

    /// The processes that the agent has started for faults.
    pub(super) fn helpers(&self) -> Vec<i32> {
        let all = descendants(self.place.init).into_iter();
        all.filter(|pid| command(*pid).contains(MARKER)).collect()
    }

    /// The main process of a pod's container.
    pub(super) fn main_process(&self, position: usize) -> Option<i32> {
        let holder = self.holders[position];
        let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).ok()?;
        children.split_whitespace().find_map(|pid| pid.parse().ok())
    }

    /// Waits until the agent answers.
    pub(super) async fn connect(&self) -> anyhow::Result<Fleet> {
        let start = Instant::now();
        loop {
            let endpoints = std::slice::from_ref(&self.endpoint);
            match Fleet::connect(endpoints, self.sandbox.credentials()).await {
                Ok(fleet) => return Ok(fleet),
                Err(errors) if start.elapsed() > ANSWER_MAX => {
                    bail!("the agent of {} does not answer: {errors:?}", self.name)
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
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
        let entries = fs::read_dir(self.state_dir.join("journal")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort();
        files
    }

    /// All that is to be the same after a round.
    pub(super) async fn dump(&self) -> anyhow::Result<Dump> {
        let place = self.place.clone();
        Ok(spawn_blocking(move || Dump::take(&place)).await?)
    }

    /// What the faults of these ids have left outside of the node's own part of the system.
    pub(super) fn left_of(&self, ids: &[FaultId]) -> Vec<String> {
        let roots = self.place.groups.iter().filter_map(|dir| dir.parent()?.parent());
        let groups = roots.flat_map(|root| ids.iter().map(|id| root.join(id.object_name())));
        let groups = groups.filter(|dir| dir.exists());
        let files = self.journal().into_iter().chain(groups);
        files.map(|path| format!("+ {}", path.display())).collect()
    }

    /// What does not come through between the pods, each as one sentence.
    pub(super) async fn traffic(&self) -> anyhow::Result<Vec<String>> {
        let this = self.clone();
        Ok(spawn_blocking(move || this.traffic_now()).await?)
    }

    fn traffic_now(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for from in 0..PODS {
            for to in (0..PODS).filter(|to| *to != from) {
                let target = self.echo(to);
                let workload = SocketAddr::new(target.ip(), WORKLOAD_PORT);
                let said = in_net_ns_of(self.holders[from], || {
                    let udp = echoes(target).err().map(|error| ("UDP", error));
                    if to == PLANTED {
                        return udp;
                    }
                    let tcp = std::net::TcpStream::connect_timeout(&workload, ECHO_MAX).err();
                    udp.or(tcp.map(|error| ("TCP", error)))
                });
                if let Some((protocol, error)) = said {
                    problems.push(format!("{protocol} from pod {from} to pod {to}: {error}"));
                }
            }
        }
        problems
    }
}

/// Whether a datagram comes back.
fn echoes(to: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(ECHO_MAX))?;
    socket.connect(to)?;
    socket.send(b"ping")?;
    socket.recv(&mut [0; 8]).map(drop)
}

fn command(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
}
