//! From a specification to a plan: which pod on which node, with which identity and address.
//!
//! Pure, but for the random ids. A node's plan is written to its directory as JSON, and is all that
//! the re-executed processes of the node know.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use faultline_proto::target;
use serde::{Deserialize, Serialize};

use super::{
    address::{self, NODES_MAX, PODS_PER_NODE_MAX},
    cgroups::Root,
    error::{LayoutError, SandboxError, Step as _, StepError},
};
use crate::{
    experiment::{SandboxPod, SandboxSpec, Workload},
    place::Pod,
};

/// A node, before it exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NodePlan {
    /// `node1`, …
    pub(super) name: String,
    /// From 1.
    pub(super) index: u8,
    /// How many nodes there are in all.
    pub(super) nodes: u8,
    /// Whether IPv6 is there to be used.
    pub(super) ipv6: bool,
    /// The node's part of the runtime directory.
    pub(super) directory: PathBuf,
    /// The sandbox's control groups; none without the right to make them.
    pub(super) cgroups: Vec<Root>,
    /// How long after its death the agent is started again; `None`: never.
    pub(super) restart_agent_after: Option<Duration>,
    /// The pods.
    pub(super) pods: Vec<PodPlan>,
}

/// A pod, before it exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PodPlan {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The name that stands in the specification, of all its replicas.
    pub(super) owner: String,
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The last byte of its address.
    pub(super) host: u8,
    /// Whether the pod that takes its place gets another address: one of several replicas does, as in a
    /// `ReplicaSet`.
    pub(super) moves: bool,
    /// The id of the container that only holds the namespaces.
    pub(super) pause_id: String,
    /// The name of the container that does the work.
    pub(super) container: String,
    /// What it runs; `None`: the built-in echo.
    pub(super) command: Option<Vec<String>>,
    pub(super) memory_limit_bytes: Option<u64>,
}

impl NodePlan {
    /// The file that holds this plan.
    pub(super) fn file(&self) -> PathBuf {
        self.directory.join("plan.json")
    }

    /// Reads a plan back.
    pub(super) fn load(file: &Path) -> Result<Self, StepError> {
        let text = std::fs::read(file).step(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).step(|| format!("understand {}", file.display()))
    }

    /// The folder that stands for the node's /var/log/pods.
    pub(super) fn pods_dir(&self) -> PathBuf {
        self.directory.join("pods")
    }

    /// Where the pids of containers are written when there are no control groups to find them by.
    pub(super) fn pids_dir(&self) -> Option<PathBuf> {
        self.cgroups.is_empty().then(|| self.directory.join("pids"))
    }

    /// What the workload of a pod prints.
    pub(super) fn pod_log(&self, pod: &PodPlan) -> PathBuf {
        self.directory.join(format!("{}_{}.log", pod.namespace, pod.name))
    }

    /// What the node's own processes print.
    pub(super) fn node_log(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    /// What the agent prints.
    pub(super) fn agent_log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// The addresses of a pod, IPv4 first.
    pub(super) fn addresses(&self, pod: &PodPlan) -> Vec<IpAddr> {
        let pair = address::pod(self.index, pod.host);
        let v6 = self.ipv6.then_some(IpAddr::V6(pair.v6));
        std::iter::once(IpAddr::V4(pair.v4)).chain(v6).collect()
    }

    /// An address that no pod of the node has: the next one after `last`, so that the one of a pod that
    /// has just gone is given away again as late as possible.
    pub(super) fn free_host(&self, last: u8) -> Option<u8> {
        let taken: HashSet<u8> = self.pods.iter().map(|pod| pod.host).collect();
        let hosts = 2..PODS_PER_NODE_MAX + 2;
        let after = hosts.clone().skip_while(|host| *host <= last);
        after.chain(hosts).find(|host| !taken.contains(host))
    }

    /// The pod as a place shows it, without a container as yet.
    pub(super) fn pod(&self, pod: &PodPlan) -> Pod {
        Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: self.name.clone(),
            owner: Some(pod.owner.clone()),
            labels: pod.labels.clone(),
            addresses: self.addresses(pod),
            containers: Vec::new(),
            ..Pod::default()
        }
    }
}

impl PodPlan {
    /// The pod that takes its place: another one, of the same name.
    pub(super) fn successor(&self, host: u8) -> Result<Self, StepError> {
        Ok(Self { uid: uuid()?, pause_id: container_id()?, host, ..self.clone() })
    }

    /// The running container as a place shows it.
    pub(super) fn container(&self, id: String) -> target::Container {
        target::Container { name: self.container.clone(), id }
    }

    /// The pod's folder among a node's logs, named as kubelets name it.
    pub(super) fn folder(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }
}

/// Lays out the nodes and their pods below `directory`.
pub(super) fn lay_out(
    spec: &SandboxSpec,
    nodes_override: Option<u32>,
    directory: &Path,
    cgroups: &[Root],
    ipv6: bool,
) -> Result<Vec<NodePlan>, SandboxError> {
    let wanted = nodes_override.unwrap_or(spec.nodes);
    let count = u8::try_from(wanted)
        .ok()
        .filter(|count| (1..=NODES_MAX).contains(count))
        .ok_or(LayoutError::Nodes { nodes: wanted, max: u32::from(NODES_MAX) })?;
    let mut nodes: Vec<NodePlan> = (1..=count)
        .map(|index| {
            let name = format!("node{index}");
            NodePlan {
                directory: directory.join(&name),
                name,
                index,
                nodes: count,
                ipv6,
                cgroups: cgroups.to_vec(),
                restart_agent_after: spec.restart_agents_after,
                pods: Vec::new(),
            }
        })
        .collect();
    let mut names = HashSet::new();
    for pod in &spec.pods {
        for name in pod_names(pod) {
            if !names.insert((&pod.namespace, name.clone())) {
                let namespace = pod.namespace.clone();
                return Err(LayoutError::Twice { namespace, name }.into());
            }
            let node = place(pod, &name, &mut nodes)?;
            let host = u8::try_from(node.pods.len() + 2)
                .ok()
                .filter(|host| *host < PODS_PER_NODE_MAX + 2)
                .ok_or_else(|| LayoutError::NodeFull {
                    node: node.name.clone(),
                    max: PODS_PER_NODE_MAX,
                })?;
            node.pods.push(pod_plan(pod, name, host)?);
        }
    }
    Ok(nodes)
}

fn pod_names(pod: &SandboxPod) -> Vec<String> {
    match pod.replicas {
        None => vec![pod.name.clone()],
        Some(count) => (1..=count).map(|n| format!("{}-{n}", pod.name)).collect(),
    }
}

/// The node that a pod goes to: the one it names, or the first of those with the fewest pods.
fn place<'a>(
    pod: &SandboxPod,
    name: &str,
    nodes: &'a mut [NodePlan],
) -> Result<&'a mut NodePlan, LayoutError> {
    let count = nodes.len();
    let index = match &pod.node {
        Some(wanted) => nodes.iter().position(|node| node.name == wanted.value),
        None => (0..count).min_by_key(|index| nodes[*index].pods.len()),
    };
    index.map(|index| &mut nodes[index]).ok_or_else(|| LayoutError::UnknownNode {
        pod: name.to_owned(),
        node: pod.node.as_ref().map(|node| node.value.clone()).unwrap_or_default(),
        nodes: u32::try_from(count).unwrap_or(u32::MAX),
    })
}

fn pod_plan(pod: &SandboxPod, name: String, host: u8) -> Result<PodPlan, SandboxError> {
    let (container, command) = match &pod.workload {
        Workload::Echo => ("echo", None),
        Workload::Command(command) if command.first().is_none_or(String::is_empty) => {
            return Err(LayoutError::NoCommand { pod: name }.into());
        }
        Workload::Command(command) => ("main", Some(command.clone())),
    };
    Ok(PodPlan {
        namespace: pod.namespace.clone(),
        name,
        owner: pod.name.clone(),
        uid: uuid()?,
        labels: pod.labels.clone(),
        host,
        moves: pod.replicas.is_some(),
        pause_id: container_id()?,
        container: container.to_owned(),
        command,
        memory_limit_bytes: pod.memory_limit_bytes,
    })
}

/// A container id as runtimes make them: 64 hexadecimal digits.
pub(super) fn container_id() -> Result<String, StepError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).step(|| "draw a container id".into())?;
    Ok(hex(&bytes))
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> Result<String, StepError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).step(|| "draw a pod uid".into())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex(&bytes);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}

#[cfg(test)]
mod tests {
    use faultline_proto::yaml::{Span, Spanned};

    use super::*;

    fn pod(name: &str, replicas: Option<u32>, node: Option<&str>) -> SandboxPod {
        SandboxPod {
            name: name.into(),
            namespace: "default".into(),
            labels: BTreeMap::new(),
            replicas,
            node: node.map(|node| Spanned { value: node.into(), span: Span::default() }),
            workload: Workload::Echo,
            memory_limit_bytes: None,
        }
    }

    fn layout(nodes: u32, pods: Vec<SandboxPod>) -> Result<Vec<NodePlan>, SandboxError> {
        let spec = SandboxSpec { nodes, pods, restart_agents_after: None };
        lay_out(&spec, None, Path::new("/nowhere"), &[], true)
    }

    #[test]
    fn replicas_are_spread_and_pinned_pods_stay() {
        let pods = vec![pod("echo", Some(4), None), pod("db", None, Some("node2"))];
        let nodes = layout(3, pods).expect("valid");
        let names: Vec<Vec<&str>> = nodes
            .iter()
            .map(|node| node.pods.iter().map(|pod| pod.name.as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["echo-1", "echo-4"], vec!["echo-2", "db"], vec!["echo-3"]]);
        let first = &nodes[0].pods[0];
        assert!(target::is_pod_uid(&first.uid) && target::is_container_id(&first.pause_id));
        assert_eq!(nodes[0].addresses(first)[0].to_string(), "10.244.1.2");
    }

    #[test]
    fn a_new_pod_gets_an_address_that_was_not_just_given_up() {
        let mut nodes = layout(1, vec![pod("echo", Some(3), None)]).expect("valid");
        let node = &mut nodes[0];
        assert_eq!(node.free_host(4), Some(5));
        node.pods[1].host = 5;
        assert_eq!((node.free_host(5), node.free_host(251)), (Some(6), Some(3)));
        let full = layout(1, vec![pod("echo", Some(250), None)]).expect("valid");
        assert_eq!(full[0].free_host(9), None);
        let old = &full[0].pods[0];
        let new = old.successor(7).expect("random");
        assert!(new.uid != old.uid && new.pause_id != old.pause_id && new.name == old.name);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let message = |nodes, pods| layout(nodes, pods).expect_err("invalid").to_string();
        assert!(message(0, vec![]).contains("from 1 to 64 nodes, not 0"));
        assert!(message(2, vec![pod("a", None, Some("node3"))]).contains("node1 to node2"));
        assert!(message(1, vec![pod("a", Some(300), None)]).contains("more than 250 pods"));
        assert!(message(1, vec![pod("a", None, None), pod("a", None, None)]).contains("two pods"));
    }
}
