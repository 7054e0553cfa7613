//! From a target to the processes, the network namespace and the control group behind it.
//!
//! Needs no runtime's socket: pod uid and container id stand in the cgroup paths that kubelets make,
//! and the names of the folders in /var/log/pods tell a pod's namespace, so that this agent enforces
//! its own protected list whatever it is told.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use faultline_proto::target::{Target, is_container_id, is_pod_uid};
use nix::ifaddrs::getifaddrs;

use crate::{
    fault::Refusal,
    kernel::{
        KernelError,
        cgroup::{self, CgroupFs},
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
    /// Where control groups cannot be used: `<pod uid>/<container id>` files that hold a pid.
    pub pids_dir: Option<PathBuf>,
    /// Namespaces whose pods this agent does not touch.
    pub protected_namespaces: Vec<String>,
    /// The node's own network namespace.
    pub node_net_ns: NetNsId,
}

/// The processes of one pod: pids by container id.
type PodPids = BTreeMap<String, Vec<i32>>;

impl Resolver {
    /// Finds a target.
    ///
    /// # Errors
    /// [`Refusal::TargetGone`] when it has no process here, [`Refusal::Protected`] when this agent's
    /// policy forbids it.
    pub fn resolve(&self, target: &Target) -> Result<Resolved, Refusal> {
        self.check_policy(target)?;
        let pids = self.pod_pids(&target.uid);
        let gone = || Refusal::TargetGone { what: format!("pod {target} (uid {})", target.uid) };
        let net_ns = pids
            .values()
            .flatten()
            .find_map(|pid| NetNs::of_process(*pid).ok())
            .ok_or_else(gone)?;
        let container = match &target.container {
            None => None,
            Some(container) => {
                let what =
                    format!("container `{}` ({}) of pod {target}", container.name, container.id);
                let pids = pids.get(&container.id);
                let main = pids.and_then(|pids| main_process(pids));
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
            siblings: pids.into_keys().collect(),
            container,
        })
    }

    /// How many pods have processes that this agent sees.
    pub fn pods_seen(&self) -> usize {
        let mut uids: Vec<String> = match &self.pids_dir {
            Some(dir) => names(dir),
            None => all_members().map(|(_, member)| member.pod_uid).collect(),
        };
        uids.sort_unstable();
        uids.dedup();
        uids.len()
    }

    /// The processes of a container now; none when it has gone.
    pub fn processes(&self, pod_uid: &str, container_id: &str) -> Vec<ProcessId> {
        let mut pids = self.pod_pids(pod_uid);
        let pids = pids.remove(container_id).unwrap_or_default();
        pids.into_iter().filter_map(ProcessId::of).collect()
    }

    fn pod_pids(&self, pod_uid: &str) -> PodPids {
        let mut pids = PodPids::new();
        if let Some(dir) = &self.pids_dir {
            let dir = dir.join(pod_uid);
            for id in names(&dir) {
                let pid: Option<i32> =
                    fs::read_to_string(dir.join(&id)).ok().and_then(|t| t.trim().parse().ok());
                pids.entry(id).or_default().extend(pid);
            }
        } else {
            for (pid, member) in all_members().filter(|(_, member)| member.pod_uid == pod_uid) {
                pids.entry(member.container_id).or_default().push(pid);
            }
        }
        pids
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

/// A process's place among pods and containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The pod's uid, with dashes if it is a UUID.
    pub pod_uid: String,
    /// The container's id.
    pub container_id: String,
}

/// Every process that is in a pod's container, as far as this agent sees.
fn all_members() -> impl Iterator<Item = (i32, Member)> {
    process::all_pids().into_iter().filter_map(|pid| Some((pid, member(pid)?)))
}

/// The pod and container a process is in, if it is in one.
pub fn member(pid: i32) -> Option<Member> {
    cgroup::membership(pid)?.iter().find_map(|(_, path)| parse_path(path))
}

/// Reads the path of a kubelet-made control group. Any driver, runtime and version: the last
/// container id in it counts, because clusters nest, and the last pod uid before that.
fn parse_path(path: &Path) -> Option<Member> {
    let mut pod_uid = None;
    let mut container_id = None;
    for component in path.components().filter_map(|c| c.as_os_str().to_str()) {
        if let Some(uid) = pod_uid_of(component) {
            (pod_uid, container_id) = (Some(uid), None);
        } else if let Some(id) = container_id_of(component) {
            container_id = Some(id);
        }
    }
    Some(Member { pod_uid: pod_uid?, container_id: container_id? })
}

/// `pod<uid>` (cgroupfs driver) or `kubepods[-qos]-pod<uid with underscores>.slice` (systemd).
fn pod_uid_of(component: &str) -> Option<String> {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let uid = name.strip_prefix("pod").or_else(|| name.rsplit_once("-pod").map(|(_, uid)| uid))?;
    let uid = uid.replace('_', "-");
    is_pod_uid(&uid).then_some(uid)
}

/// `<id>`, `crio-<id>` (cgroupfs driver) or `<runtime>-<id>.scope` (systemd); `crio-conmon-<id>` is
/// the runtime's monitor and not the workload.
fn container_id_of(component: &str) -> Option<String> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    if name.contains("conmon") {
        return None;
    }
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    is_container_id(id).then(|| id.to_owned())
}

/// The process whose parent is none of the others; the oldest if there are several.
fn main_process(pids: &[i32]) -> Option<ProcessId> {
    let outside = pids.iter().filter(|pid| {
        let stat = procfs::process::Process::new(**pid).and_then(|p| p.stat());
        stat.is_ok_and(|stat| !pids.contains(&stat.ppid))
    });
    outside.filter_map(|pid| ProcessId::of(*pid)).min_by_key(|process| process.start_ticks)
}

/// The addresses of the namespace that this process is in.
fn node_addresses() -> Result<Vec<IpAddr>, KernelError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "11111111-2222-3333-4444-555555555555";
    const ID: &str = "abcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcd";
    const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn paths_of_every_driver_and_runtime_are_read() {
        let slices = UID.replace('-', "_");
        let paths = [
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}/crio-{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slices}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{slices}.slice/crio-{ID}.scope/container"),
            format!(
                "/../../kubelet-kubepods-burstable-pod{slices}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/docker/{OTHER}/kubelet/kubepods/besteffort/pod{UID}/{ID}"),
            format!(
                "/system.slice/docker-{OTHER}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slices}.slice/cri-containerd-{ID}.scope"
            ),
        ];
        for path in paths {
            let member = parse_path(Path::new(&path)).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(
                (member.pod_uid.as_str(), member.container_id.as_str()),
                (UID, ID),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_no_container_of_a_pod_is_not_taken_for_one() {
        for path in [
            "/".to_owned(),
            format!("/docker/{ID}"),
            format!("/kubepods/pod{UID}"),
            format!("/kubepods/podx/{ID}"),
            format!(
                "/kubepods.slice/kubepods-pod{}.slice/crio-conmon-{ID}.scope",
                UID.replace('-', "_")
            ),
        ] {
            assert_eq!(parse_path(Path::new(&path)), None, "{path}");
        }
    }
}
