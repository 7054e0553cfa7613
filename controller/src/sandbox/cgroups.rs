//! Control groups as kubelets make them, below one group of the sandbox's own in every hierarchy
//! that matters: `<mount>/faultline-sandbox-<id>/<node>/kubepods/pod<uid>/<container id>`.
//!
//! Of the machine's own groups nothing is changed but, on version 2, controllers that the root does
//! not yet hand down; those are taken back.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use faultline_agent::kernel::cgroup::{CgroupFs, Version};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{AccessFlags, Pid, eaccess},
};
use serde::{Deserialize, Serialize};

use super::error::{Step as _, StepError};

/// The controllers that faults and limits need, where the machine has them.
const WANTED: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "freezer"];
/// What the name of a sandbox's group begins with.
const PREFIX: &str = "faultline-sandbox-";
/// How long the kernel may take to let go of a group whose processes were killed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A hierarchy that can be used, or a sandbox's group in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Root {
    pub(super) version: Version,
    /// Of the wanted ones.
    pub(super) controllers: Vec<String>,
    pub(super) mount_point: PathBuf,
    /// The sandbox's group.
    pub(super) path: PathBuf,
}

/// The hierarchies in which the sandbox `id` has its groups. None without the right to make any.
pub(super) fn usable(id: &str) -> Vec<Root> {
    let mut seen = HashSet::new();
    let hierarchies = CgroupFs::mounted().map(|fs| fs.hierarchies).unwrap_or_default();
    hierarchies
        .into_iter()
        .filter_map(|hierarchy| {
            let wanted = |name: &&String| WANTED.contains(&name.as_str());
            let controllers: Vec<String> =
                hierarchy.controllers.iter().filter(wanted).cloned().collect();
            if controllers.is_empty() && hierarchy.version == Version::V1 {
                return None;
            }
            // One hierarchy may be mounted at several places; it is used at the first.
            let meta = fs::metadata(&hierarchy.mount_point).ok()?;
            let fresh = seen.insert((meta.dev(), meta.ino()));
            let writable = eaccess(&hierarchy.mount_point, AccessFlags::W_OK).is_ok();
            let path = hierarchy.mount_point.join(format!("{PREFIX}{id}"));
            let mount_point = (fresh && writable).then_some(hierarchy.mount_point)?;
            Some(Root { version: hierarchy.version, controllers, mount_point, path })
        })
        .collect()
}

/// Sandboxes' groups in which there is no process at all: the ids, and where the groups are. One
/// with processes may be that of a container's sandbox, whose directory cannot be seen from here.
pub(super) fn empty() -> BTreeMap<String, Vec<PathBuf>> {
    let mut groups: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for root in usable("") {
        let entries = fs::read_dir(&root.mount_point).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) {
                groups.entry(id.to_owned()).or_default().push(entry.path());
            }
        }
    }
    groups.retain(|_, paths| paths.iter().all(|path| processes(path).is_empty()));
    groups
}

/// Whether memory can be limited and charged with these.
pub(super) fn has_memory(roots: &[Root]) -> bool {
    roots.iter().any(|root| root.controllers.iter().any(|name| name == "memory"))
}

impl Root {
    /// Makes a group and those above it.
    pub(super) fn make(&self, relative: &str) -> Result<(), StepError> {
        self.hand_down(&self.mount_point);
        make_directory(&self.path)?;
        let mut path = self.path.clone();
        for part in relative.split('/').filter(|part| !part.is_empty()) {
            self.hand_down(&path);
            path.push(part);
            make_directory(&path)?;
        }
        Ok(())
    }

    /// The controllers that the machine's root does not hand down yet, and will be made to.
    pub(super) fn to_hand_down(&self) -> Vec<String> {
        self.not_handed_down(&self.mount_point).cloned().collect()
    }

    fn not_handed_down(&self, path: &Path) -> impl Iterator<Item = &String> {
        // Version 1 has no such file, and nothing to hand down.
        let on = fs::read_to_string(path.join("cgroup.subtree_control"));
        let off = move |name: &&String| {
            on.as_ref().is_ok_and(|on| !on.split_whitespace().any(|on| on == name.as_str()))
        };
        self.controllers.iter().filter(off)
    }

    /// Makes a group's children have the controllers. One that cannot be had shows where a limit is
    /// set.
    fn hand_down(&self, path: &Path) {
        for controller in self.not_handed_down(path) {
            drop(fs::write(path.join("cgroup.subtree_control"), format!("+{controller}")));
        }
    }

    /// Takes back what the machine's root was made to hand down. The kernel refuses while somebody
    /// else uses it, and then it stays.
    pub(super) fn take_back(&self, controllers: &BTreeSet<String>) {
        let file = self.mount_point.join("cgroup.subtree_control");
        for controller in controllers {
            drop(fs::write(&file, format!("-{controller}")));
        }
    }

    /// Moves the calling process into a group.
    pub(super) fn join(&self, relative: &str) -> Result<(), StepError> {
        self.admit(relative, 0)
    }

    /// Moves a process into a group; 0 is the calling one.
    pub(super) fn admit(&self, relative: &str, pid: u32) -> Result<(), StepError> {
        let file = self.path.join(relative).join("cgroup.procs");
        fs::write(&file, pid.to_string()).step(|| format!("write {}", file.display()))
    }

    /// Limits the memory of a group, where this hierarchy has the controller.
    pub(super) fn limit_memory(&self, relative: &str, bytes: u64) -> Result<(), StepError> {
        if !self.controllers.iter().any(|name| name == "memory") {
            return Ok(());
        }
        let name = match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let file = self.path.join(relative).join(name);
        fs::write(&file, bytes.to_string()).step(|| format!("write {}", file.display()))
    }
}

fn make_directory(path: &Path) -> Result<(), StepError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).step(|| format!("make control group {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The processes in a group and below it, as far as this pid namespace shows them.
pub(super) fn processes(path: &Path) -> Vec<i32> {
    let mut pids = Vec::new();
    for group in groups(path) {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        let members = text.lines().filter_map(|line| line.parse::<i32>().ok());
        // A process of an outer pid namespace reads as 0.
        pids.extend(members.filter(|pid| *pid > 0));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// A group and all below it, the deepest first; none if it is not there.
fn groups(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let children = entries.flatten().filter(directory).map(|entry| entry.path());
    let mut all: Vec<PathBuf> = children.flat_map(|child| groups(&child)).collect();
    all.push(path.to_owned());
    all
}

/// Kills what is in these groups and below, and removes them. Returns those that stayed.
pub(super) fn clear(paths: &[PathBuf]) -> Vec<PathBuf> {
    let until = Instant::now() + REMOVAL_TIMEOUT;
    loop {
        let left = clear_once(paths);
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// One attempt at that: what was killed only now is still there.
pub(super) fn clear_once(paths: &[PathBuf]) -> Vec<PathBuf> {
    for path in paths {
        for pid in processes(path) {
            kill_member(pid, path);
        }
    }
    let all = paths.iter().flat_map(|path| groups(path));
    all.filter(|group| fs::remove_dir(group).is_err() && group.exists()).collect()
}

/// Kills a process if it is in the group, or below it. Looked at once more right before the signal:
/// the list may be older than the process that has the pid now.
fn kill_member(pid: i32, group: &Path) {
    let Some(name) = group.file_name().and_then(|name| name.to_str()) else { return };
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if membership.split(['/', '\n']).any(|part| part == name) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
}
