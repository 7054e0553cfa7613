//! From a target to the processes, the network namespace and the control group behind it.
//!
//! Needs no runtime's socket: pod uid and container id stand in the cgroup paths that kubelets make.

use crate::kernel::{netns::NetNs, process::ProcessId};
use faultline_proto::target::Target;

/// A target as it is on this node now.
#[derive(Debug)]
pub struct Resolved {
    /// What was asked for.
    pub target: Target,
    /// The pod's network namespace, held open.
    pub net_ns: NetNs,
    /// Whether that is the node's own (a hostNetwork pod).
    pub host_network: bool,
    /// Addresses of the node itself, among them what its kubelet probes from.
    pub node_addresses: Vec<std::net::IpAddr>,
    /// Ids of the containers of the pod that have processes now, in no order.
    pub siblings: Vec<String>,
    /// The container, where the target names one.
    pub container: Option<ResolvedContainer>,
}

/// A container as it is on this node now.
#[derive(Debug, Clone)]
pub struct ResolvedContainer {
    /// Its id.
    pub id: String,
    /// Its main process: the one whose parent is outside of the container.
    pub main: ProcessId,
    /// Its directory in the hierarchy of the memory controller, where there is one.
    pub memory_cgroup: Option<std::path::PathBuf>,
}

/// Finds targets on this node.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// The control group filesystems of the node.
    pub cgroups: crate::kernel::cgroup::CgroupFs,
}

impl Resolver {
    /// The processes of a container now; none when it has gone.
    pub fn processes(&self, pod_uid: &str, container_id: &str) -> Vec<ProcessId> {
        let _ = (pod_uid, container_id);
        Vec::new()
    }
}
