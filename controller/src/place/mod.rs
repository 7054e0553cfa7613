//! Where an experiment runs: which pods there are, and how their agents are reached.
//!
//! A place is the sandbox, an inventory file or a Kubernetes cluster. Whoever runs an experiment does not know which.

mod aside;
pub mod inventory;
mod needs;
mod state;
mod toleration;

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc, time::Duration};

use faultline_proto::target::{self, Target};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::aside::Aside;
use self::inventory::{Inventory, InventoryError};
pub use self::needs::Needs;
pub use self::state::{NotTold, PodState};
pub use self::toleration::Toleration;
use crate::{
    agents::Dial,
    cluster::{Cluster, ClusterError},
    report::counted,
    sandbox::{Sandbox, StepError},
};

/// A pod, as a place knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The node it runs on.
    pub node: String,
    /// What made it, and makes another one in its place, in a cluster as `deployment/api`; `None`: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its containers that run, the first of which is meant where none is named.
    pub containers: Vec<target::Container>,
    /// Its annotations; only a cluster tells them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The labels of its node; only a cluster tells them, where somebody needs them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_labels: BTreeMap<String, String>,
    /// The Services that send it traffic, by name; only a cluster tells them, where somebody needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// `Pending` or `Running`; only a cluster tells that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Whether it is ready; a cluster and the sandbox tell that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// How long it may take to end when it is told to; only a cluster tells that.
    #[serde(skip)]
    pub grace: Option<Duration>,
    /// It is being deleted, and still there; only a cluster tells that.
    #[serde(skip)]
    pub terminating: bool,
    /// Which taints of its node it bears; only a cluster tells that.
    #[serde(skip)]
    pub tolerations: Vec<Toleration>,
}

impl Pod {
    /// The pod as a whole, as a fault's target.
    pub fn target(&self) -> Target {
        Target {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            uid: self.uid.clone(),
            container: None,
        }
    }

    /// The app that it belongs to, as its labels say.
    pub fn app(&self) -> Option<&str> {
        let label = |name| self.labels.get(name).map(String::as_str);
        ["app.kubernetes.io/name", "app", "k8s-app"].into_iter().find_map(label)
    }

    /// Its first container as a fault's target; the pod where it has none.
    pub fn container_target(&self) -> Target {
        Target { container: self.containers.first().cloned(), ..self.target() }
    }
}

/// How the agent of a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentEndpoint {
    /// The node.
    pub node: String,
    /// `host:port`, to be spoken to with mutual TLS. The agent's certificate is valid for its `server_name`.
    pub address: String,
    /// How that address is connected to.
    #[serde(skip)]
    pub via: Via,
    /// The name that its certificate is valid for; [`agent_server_name`] of the node if `None`.
    #[serde(skip)]
    pub server_name: Option<String>,
}

/// How an agent's address is connected to.
#[derive(Debug, Clone, Default)]
pub enum Via {
    /// Over the network that this process is in.
    #[default]
    Direct,
    /// Through something else, which also finds the agent again when it has moved.
    Dialed(Arc<dyn Dial>),
}

impl PartialEq for Via {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Direct, Self::Direct) => true,
            (Self::Dialed(a), Self::Dialed(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for Via {}

impl AgentEndpoint {
    /// An agent whose address this process can connect to, with a certificate of its own node.
    pub fn direct(node: impl Into<String>, address: impl Into<String>) -> Self {
        Self { node: node.into(), address: address.into(), via: Via::Direct, server_name: None }
    }

    /// The name that its certificate must be valid for.
    pub fn expected_name(&self) -> String {
        self.server_name.clone().unwrap_or_else(|| agent_server_name(&self.node))
    }
}

/// The name that the certificate of a node's agent is valid for.
pub fn agent_server_name(node: &str) -> String {
    format!("{node}.agent.faultline.internal")
}

/// The name that the controller's certificate is valid for.
pub const CONTROLLER_NAME: &str = "controller.faultline.internal";

/// What the controller proves itself with, and what it believes: three PEM texts.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The certificate authority of the installation.
    pub ca_pem: String,
    /// The controller's certificate.
    pub cert_pem: String,
    /// The controller's private key.
    pub key_pem: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials { .. }")
    }
}

/// A process of this machine, by identity: a pid alone may come to mean another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its pid, as this process sees it.
    pub pid: i32,
    /// Clock ticks from boot to its start, field 22 of `proc_pid_stat(5)`.
    pub start_ticks: u64,
}

impl Process {
    /// The process that has this pid now; `None` if there is none, or it is a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
        let ended = matches!(stat.state, 'Z' | 'X');
        (!ended).then_some(Self { pid, start_ticks: stat.starttime })
    }

    /// This process.
    pub fn current() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// How a command in a pod ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Its exit code; 127 if it could not be run, 128 and the signal if one ended it.
    pub code: i32,
    /// What it printed: the first MiB.
    pub stdout: Vec<u8>,
    /// What it complained of: the first MiB.
    pub stderr: Vec<u8>,
}

/// Why the outcome of a command in a pod is not known.
#[derive(Debug, Error)]
pub enum ExecError {
    /// No such pod, or it does not run.
    #[error("pod {pod} does not run here")]
    NoSuchPod {
        /// The pod.
        pod: String,
    },
    /// There is no way into its pods.
    #[error(
        "commands cannot be run in pods of a written inventory, such as {pod}; only the sandbox can do that"
    )]
    NoWayIn {
        /// The pod.
        pod: String,
    },
    /// It took too long, and was killed.
    #[error("the command took longer than {within:?}")]
    TimedOut {
        /// How long it was given.
        within: Duration,
    },
    /// It could not be started or waited for.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The cluster did not do it.
    #[error(transparent)]
    Cluster(Box<ClusterError>),
}

/// Why the controller cannot prove itself to agents.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file of it cannot be read.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The cluster does not tell it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// How far somebody has looked at the pods of a place: at first, not at all.
#[derive(Debug, Default)]
pub struct Seen(Option<SeenVersion>);

#[derive(Debug, PartialEq, Eq)]
enum SeenVersion {
    Inventory(inventory::Version),
    Cluster(u64),
}

/// Why nobody knows how the pods of a place are now.
#[derive(Debug, Error)]
pub enum LookError {
    /// The inventory cannot be read now.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// It does not tell how pods are.
    #[error(transparent)]
    NotTold(#[from] NotTold),
    /// The cluster tells nothing now.
    #[error("the cluster does not tell how its pods are now: {0}")]
    Cluster(String),
}

/// Pods that know whether they are ready.
fn with_readiness(states: Vec<PodState>) -> Vec<Pod> {
    let pod = |state: PodState| Pod { ready: Some(state.ready), ..state.pod };
    states.into_iter().map(pod).collect()
}

/// Where an experiment runs.
#[derive(Debug)]
pub enum Place {
    /// A sandbox of this process.
    Sandbox(Sandbox),
    /// What a file says there is.
    Inventory(Inventory),
    /// A Kubernetes cluster.
    Cluster(Box<Cluster>),
}

impl Place {
    /// The pods as they are now.
    pub fn pods(&self) -> Vec<Pod> {
        match self {
            Self::Sandbox(sandbox) => with_readiness(sandbox.pod_states()),
            Self::Inventory(inventory) => inventory.pods(),
            Self::Cluster(cluster) => cluster.pods(),
        }
    }

    /// How long it is worth to ask an agent again that cannot be reached, behind the end of its leases: whether a
    /// fault was taken back is known when it is there again.
    pub fn agents_return_within(&self) -> Duration {
        match self {
            // Who started those is at hand, and sees that one is gone.
            Self::Sandbox(_) | Self::Inventory(_) => Duration::from_secs(10),
            // A DaemonSet brings another one: when the old one's pod is gone, its image pulled, or the node booted.
            Self::Cluster(_) => Duration::from_secs(90),
        }
    }

    /// Begins to watch what only some experiments need of a place, once for all of them.
    ///
    /// # Errors
    /// When the cluster does not tell it.
    pub async fn provide(&self, needs: Needs) -> Result<(), ClusterError> {
        match self {
            Self::Sandbox(_) | Self::Inventory(_) => Ok(()),
            Self::Cluster(cluster) => cluster.provide(needs).await,
        }
    }

    /// The pods as they are now, if that may be something new since the last such look.
    ///
    /// # Errors
    /// When nobody can tell now.
    pub fn look(&self, seen: &mut Seen) -> Result<Option<Vec<Pod>>, LookError> {
        match self {
            Self::Sandbox(sandbox) => Ok(Some(with_readiness(sandbox.pod_states()))),
            Self::Cluster(cluster) => {
                if let Some(trouble) = cluster.trouble() {
                    return Err(LookError::Cluster(trouble));
                }
                let version = Some(SeenVersion::Cluster(cluster.version()));
                if version == seen.0 {
                    return Ok(None);
                }
                seen.0 = version;
                Ok(Some(cluster.pods()))
            }
            Self::Inventory(inventory) => {
                let version = inventory.version().map(SeenVersion::Inventory);
                if version.is_some() && version == seen.0 {
                    return Ok(None);
                }
                let now = inventory::load(&inventory.file)?;
                seen.0 = version;
                Ok(Some(now.pods))
            }
        }
    }

    /// The pods, and how they are now.
    ///
    /// # Errors
    /// When this place cannot tell how pods are, now or ever.
    pub fn pod_states(&self) -> Result<Vec<PodState>, NotTold> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.pod_states()),
            Self::Inventory(_) => Err(NotTold),
            Self::Cluster(cluster) => Ok(cluster.pod_states()),
        }
    }

    /// The same, if that may be something new since the last such look.
    ///
    /// # Errors
    /// When nobody can tell, now or ever.
    pub fn look_at_states(&self, seen: &mut Seen) -> Result<Option<Vec<PodState>>, LookError> {
        if let Self::Cluster(cluster) = self {
            if let Some(trouble) = cluster.trouble() {
                return Err(LookError::Cluster(trouble));
            }
            let version = Some(SeenVersion::Cluster(cluster.version()));
            if version == seen.0 {
                return Ok(None);
            }
            seen.0 = version;
        }
        Ok(Some(self.pod_states()?))
    }

    /// How the agents are reached, one of each node.
    pub fn agents(&self) -> Vec<AgentEndpoint> {
        match self {
            Self::Sandbox(sandbox) => sandbox.agents(),
            Self::Inventory(inventory) => inventory.agents.clone(),
            Self::Cluster(cluster) => cluster.agents(),
        }
    }

    /// What the controller proves itself with, and what it believes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.credentials().clone()),
            Self::Inventory(inventory) => Ok(inventory.credentials()?),
            Self::Cluster(cluster) => Ok(cluster.credentials().await?),
        }
    }

    /// Runs a command in a pod, and kills it if it takes longer than `within`.
    ///
    /// # Errors
    /// When the outcome is not known. An exit code other than 0 is no error.
    pub async fn exec(
        &self,
        pod: &Pod,
        command: &[String],
        within: Duration,
    ) -> Result<ExecOutcome, ExecError> {
        match self {
            Self::Sandbox(sandbox) => sandbox.exec(pod, command, within).await,
            Self::Inventory(inventory) => inventory.exec(pod, command, within).await,
            Self::Cluster(cluster) => cluster.exec(pod, command, within).await,
        }
    }

    /// Why nobody can be asked on a node, where more is known than that there is no agent.
    pub fn why_no_agent(&self, node: &str) -> Option<String> {
        match self {
            Self::Sandbox(_) | Self::Inventory(_) => None,
            Self::Cluster(cluster) => Some(cluster.why_no_agent(node)),
        }
    }

    /// The cluster, where it is one.
    pub fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Sandbox(_) | Self::Inventory(_) => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }

    /// Whether it is a sandbox, of this process or of another one.
    pub fn is_sandbox(&self) -> bool {
        match self {
            Self::Sandbox(_) => true,
            Self::Inventory(inventory) => inventory.network.is_some(),
            Self::Cluster(_) => false,
        }
    }

    /// The file that says what there is, where one does.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sandbox(_) | Self::Cluster(_) => None,
            Self::Inventory(inventory) => Some(&inventory.file),
        }
    }

    /// What it is, for a person: `a sandbox of 3 nodes and 4 pods`.
    pub fn describe(&self) -> String {
        let (nodes, pods) = (self.agents().len(), self.pods().len());
        let counts = format!("{} and {}", counted(nodes, "node"), counted(pods, "pod"));
        match self {
            Self::Sandbox(_) => format!("a sandbox of {counts}"),
            Self::Inventory(inventory) => {
                format!("the inventory {} of {counts}", inventory.file.display())
            }
            Self::Cluster(cluster) => format!("{} of {counts}", cluster.name()),
        }
    }
}
