//! From a target to the processes, the network namespace and the control group behind it.
//!
//! Needs no runtime's socket: pod uid and container id stand in the cgroup paths that kubelets make,
//! and the names of the folders in /var/log/pods tell a pod's namespace, so that this agent enforces
//! its own protected list whatever it is told.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use faultline_proto::target::Target;
use nix::ifaddrs::getifaddrs;

use crate::{
    fault::Refusal,
    kernel::{
        KernelError,
        cgroup::CgroupFs,
        container::Containers,
        netns::{NetNs, NetNsId},
        process::{self, ProcessId},
    },
};

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
    pub node_addresses: Vec<IpAddr>,
    /// Ids of the containers of the pod that have processes now.
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
    pub memory_cgroup: Option<PathBuf>,
}

/// Where this node keeps what targets are found by, and who must not be one.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// The control group filesystems of the node.
    pub cgroups: CgroupFs,
    /// The kubelet's folder of pod logs, whose entries are `namespace_name_uid`.
    pub pods_dir: Option<PathBuf>,
    /// How it is told which container a process is in.
    pub containers: Containers,
    /// Namespaces whose pods this agent does not touch.
    pub protected_namespaces: Vec<String>,
    /// The node's own network namespace.
    pub node_net_ns: NetNsId,
}

impl Resolver {
    /// Finds a target.
    ///
    /// # Errors
    /// [`Refusal::TargetGone`] when it has no process here, [`Refusal::Protected`] when this agent's
    /// policy forbids it.
    pub fn resolve(&self, target: &Target) -> Result<Resolved, Refusal> {
        self.check_policy(target)?;
        let processes = self.containers.in_pod(&target.uid);
        let gone = || Refusal::TargetGone { what: format!("pod {target} (uid {})", target.uid) };
        let net_ns = processes
            .values()
            .flatten()
            .find_map(|process| NetNs::of_process(process.pid).ok())
            .ok_or_else(gone)?;
        let container = match &target.container {
            None => None,
            Some(container) => {
                let what =
                    format!("container `{}` ({}) of pod {target}", container.name, container.id);
                let inside = processes.get(&container.id);
                let main = inside.and_then(|inside| process::main_of(inside));
                let main = main.ok_or(Refusal::TargetGone { what })?;
                let memory_cgroup = self.cgroups.of_process(main.pid, "memory");
                Some(ResolvedContainer { id: container.id.clone(), main, memory_cgroup })
            }
        };
        Ok(Resolved {
            target: target.clone(),
            host_network: net_ns.id() == self.node_net_ns,
            net_ns,
            node_addresses: node_addresses()?,
            siblings: processes.into_keys().collect(),
            container,
        })
    }

    /// How many pods have processes that this agent sees.
    pub fn pods_seen(&self) -> usize {
        self.containers.pod_uids().len()
    }

    /// The agent's own policy: it believes the node's folders, not what it is told.
    fn check_policy(&self, target: &Target) -> Result<(), Refusal> {
        let protected = |what: String| Err(Refusal::Protected { what });
        if self.protected_namespaces.contains(&target.namespace) {
            return protected(format!("namespace {}", target.namespace));
        }
        let Some(dir) = &self.pods_dir else { return Ok(()) };
        let suffix = format!("_{}", target.uid);
        let folder =
            names(dir).into_iter().find_map(|n| n.strip_suffix(&suffix).map(str::to_owned));
        let Some(folder) = folder else {
            return Err(Refusal::TargetGone { what: format!("pod {target} (uid {})", target.uid) });
        };
        let namespace = folder.split('_').next().unwrap_or_default();
        if self.protected_namespaces.iter().any(|p| p == namespace) {
            return protected(format!("namespace {namespace}, which pod uid {} is in", target.uid));
        }
        if folder != format!("{}_{}", target.namespace, target.pod) {
            return Err(Refusal::NotPossible(format!(
                "pod uid {} is {} on this node, not {}/{}",
                target.uid,
                folder.replace('_', "/"),
                target.namespace,
                target.pod
            )));
        }
        Ok(())
    }
}

/// The addresses of the node itself: of the namespace that this process is in.
///
/// # Errors
/// When they cannot be listed.
pub fn node_addresses() -> Result<Vec<IpAddr>, KernelError> {
    let interfaces =
        getifaddrs().map_err(|e| KernelError::io("list", "the addresses of the node", e))?;
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(|address| !address.is_loopback())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The names in a directory; none if it cannot be read.
fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
