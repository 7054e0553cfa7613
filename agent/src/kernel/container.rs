//! Which processes are a container's, without asking a runtime.
//!
//! Pod uid and container id stand in the cgroup paths that kubelets make, with every driver, runtime
//! and cgroup version. Where control groups cannot be used (a sandbox without root), files of pids
//! stand in for them.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use faultline_proto::{
    id::FaultId,
    target::{is_container_id, is_pod_uid},
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup,
    process::{ProcessId, all_pids, parent_of},
};

/// The processes of one pod, by the ids of its containers, each list oldest first.
pub type PodProcesses = BTreeMap<String, Vec<ProcessId>>;

/// How it is told which container a process is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Containers {
    /// By the path of its control group.
    #[default]
    Cgroups,
    /// By files `<pod uid>/<container id>` in this folder that hold the pid of the container's main
    /// process; what descends from that is in the container too.
    PidFiles(PathBuf),
}

/// A container, and how to find its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRef {
    /// The pod's uid.
    pub pod_uid: String,
    /// The container's id.
    pub id: String,
    /// How it is told which processes are in it.
    pub containers: Containers,
}

impl ContainerRef {
    /// Its processes now, oldest first; none when it has gone.
    pub fn processes(&self) -> Vec<ProcessId> {
        self.containers.in_container(&self.pod_uid, &self.id)
    }

    /// Whether a process is in it now.
    pub fn holds(&self, process: ProcessId) -> bool {
        self.containers.holds(&self.pod_uid, &self.id, process)
    }
}

/// A process's place among pods and containers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    /// The pod's uid, with dashes if it is a UUID.
    pod_uid: String,
    /// The container's id.
    container_id: String,
}

impl Containers {
    /// The processes of a pod now. Those of ours that are in its control groups for a fault are not
    /// among them.
    pub fn in_pod(&self, pod_uid: &str) -> PodProcesses {
        let mut containers = PodProcesses::new();
        match self {
            Self::Cgroups => {
                for (process, member) in members().filter(|(_, m)| m.pod_uid == pod_uid) {
                    containers.entry(member.container_id).or_default().push(process);
                }
            }
            Self::PidFiles(dir) => {
                let dir = dir.join(pod_uid);
                let tree = children();
                for id in names(&dir) {
                    let pid = fs::read_to_string(dir.join(&id)).ok();
                    let pid: Option<i32> = pid.and_then(|text| text.trim().parse().ok());
                    let inside = pid.map(|pid| descendants(pid, &tree)).unwrap_or_default();
                    if !inside.is_empty() {
                        containers.insert(id, inside);
                    }
                }
            }
        }
        for processes in containers.values_mut() {
            processes.sort_by_key(|process| (process.start_ticks, process.pid));
        }
        containers
    }

    /// The processes of a container now, oldest first; none when it has gone.
    pub fn in_container(&self, pod_uid: &str, container_id: &str) -> Vec<ProcessId> {
        self.in_pod(pod_uid).remove(container_id).unwrap_or_default()
    }

    /// Whether a process is in a container now.
    pub fn holds(&self, pod_uid: &str, container_id: &str, process: ProcessId) -> bool {
        match self {
            Self::Cgroups => member(process.pid).is_some_and(|member| {
                member.pod_uid == pod_uid && member.container_id == container_id
            }),
            Self::PidFiles(_) => self.in_container(pod_uid, container_id).contains(&process),
        }
    }

    /// The uids of all pods that have a process now, each once.
    pub fn pod_uids(&self) -> Vec<String> {
        let mut uids: Vec<String> = match self {
            Self::Cgroups => members().map(|(_, member)| member.pod_uid).collect(),
            Self::PidFiles(dir) => {
                names(dir).into_iter().filter(|uid| !self.in_pod(uid).is_empty()).collect()
            }
        };
        uids.sort_unstable();
        uids.dedup();
        uids
    }
}

/// Every process that is in a pod's container by its control group.
fn members() -> impl Iterator<Item = (ProcessId, Member)> {
    let known = |pid| Some((pid, member(pid)?));
    let alive = |(pid, member)| Some((ProcessId::of(pid)?, member));
    all_pids().unwrap_or_default().into_iter().filter_map(known).filter_map(alive)
}

fn member(pid: i32) -> Option<Member> {
    cgroup::membership(pid)?.iter().find_map(|(_controllers, path)| parse_path(path))
}

/// Reads the path of a kubelet-made control group. The last pod uid in it counts and the last
/// container id behind that, because clusters nest. `None` for a group of ours below a container's.
fn parse_path(path: &Path) -> Option<Member> {
    let mut pod_uid = None;
    let mut container_id = None;
    for component in path.components().filter_map(|c| c.as_os_str().to_str()) {
        if FaultId::from_object_name(component).is_some() {
            return None;
        }
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

/// The children of every process.
fn children() -> HashMap<i32, Vec<i32>> {
    let mut tree: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in all_pids().unwrap_or_default() {
        if let Some(parent) = parent_of(pid) {
            tree.entry(parent).or_default().push(pid);
        }
    }
    tree
}

/// A process and all that descends from it, as far as it is alive.
fn descendants(pid: i32, tree: &HashMap<i32, Vec<i32>>) -> Vec<ProcessId> {
    let mut found = Vec::new();
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        found.extend(ProcessId::of(pid));
        left.extend(tree.get(&pid).into_iter().flatten());
    }
    found
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
            format!("/kubepods/pod{UID}/{ID}/faultline_0000000000000007"),
            format!("/kubepods/pod{UID}/{ID}a"),
            format!(
                "/kubepods.slice/kubepods-pod{}.slice/crio-conmon-{ID}.scope",
                UID.replace('-', "_")
            ),
        ] {
            assert_eq!(parse_path(Path::new(&path)), None, "{path}");
        }
    }

    #[test]
    fn files_of_pids_name_a_process_and_all_that_descends_from_it() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join(UID)).expect("made");
        let own = std::process::id();
        fs::write(dir.path().join(UID).join(ID), format!("{own}\n")).expect("written");
        let containers = Containers::PidFiles(dir.path().to_owned());
        let process = ProcessId::of(i32::try_from(own).expect("a pid")).expect("alive");
        assert!(containers.in_container(UID, ID).contains(&process));
        assert!(containers.holds(UID, ID, process));
        assert!(!containers.holds(UID, OTHER, process));
        assert_eq!(containers.pod_uids(), [UID]);
    }
}
