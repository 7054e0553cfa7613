//! Control groups of both versions: where they are mounted and which ones a process is in.
//!
//! `cgroups(7)`. On a machine with both (hybrid), a controller is where it is mounted, and v1 wins
//! where that has it.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::KernelError;

/// Which interface a control group has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its interface.
    pub version: Version,
    /// The controllers it has; for v2 those its root offers, for a named v1 hierarchy `name=…`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
}

/// The control group filesystems of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupFs {
    /// What is mounted, in the order of the mount table.
    pub hierarchies: Vec<Hierarchy>,
}

impl CgroupFs {
    /// Reads `/proc/self/mounts`. Empty where no control groups are mounted.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn mounted() -> Result<Self, KernelError> {
        let path = "/proc/self/mounts";
        let table = fs::read_to_string(path).map_err(|e| KernelError::io("read", path, e))?;
        Ok(Self { hierarchies: table.lines().filter_map(hierarchy).collect() })
    }

    /// The hierarchy that has `controller`.
    pub fn with_controller(&self, controller: &str) -> Option<&Hierarchy> {
        let has = |h: &&Hierarchy| h.controllers.iter().any(|c| c == controller);
        let v1 = self.hierarchies.iter().filter(|h| h.version == Version::V1).find(has);
        v1.or_else(|| self.hierarchies.iter().find(has))
    }

    /// The directory of the control group a process is in, in the hierarchy that has `controller`.
    /// `None` when there is no such hierarchy or the process has gone.
    pub fn of_process(&self, pid: i32, controller: &str) -> Option<PathBuf> {
        let hierarchy = self.with_controller(controller)?;
        let path = membership(pid)?.into_iter().find_map(|(controllers, path)| {
            let same = match hierarchy.version {
                Version::V1 => controllers.iter().any(|c| c == controller),
                Version::V2 => controllers.is_empty(),
            };
            same.then_some(path)
        })?;
        Some(hierarchy.mount_point.join(path.strip_prefix("/").unwrap_or(&path)))
    }
}

/// The lines of `/proc/PID/cgroup`: controllers (none for v2) and path. `None` if it has gone.
pub fn membership(pid: i32) -> Option<Vec<(Vec<String>, PathBuf)>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    Some(
        text.lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (_id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                let controllers = controllers.split(',').filter(|c| !c.is_empty());
                Some((controllers.map(str::to_owned).collect(), PathBuf::from(path)))
            })
            .collect(),
    )
}

fn hierarchy(line: &str) -> Option<Hierarchy> {
    let mut fields = line.split(' ').skip(1);
    let (mount_point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
    let mount_point = PathBuf::from(mount_point.replace("\\040", " "));
    match kind {
        "cgroup2" => {
            let offered = fs::read_to_string(mount_point.join("cgroup.controllers"));
            let controllers = offered.unwrap_or_default();
            let controllers = controllers.split_whitespace().map(str::to_owned).collect();
            Some(Hierarchy { version: Version::V2, controllers, mount_point })
        }
        "cgroup" => {
            let controllers = options.split(',').filter(|o| is_controller(o));
            let controllers = controllers.map(str::to_owned).collect();
            Some(Hierarchy { version: Version::V1, controllers, mount_point })
        }
        _ => None,
    }
}

/// Whether a mount option of a v1 hierarchy names a controller.
fn is_controller(option: &str) -> bool {
    const OTHER: [&str; 10] = [
        "rw",
        "ro",
        "nosuid",
        "nodev",
        "noexec",
        "relatime",
        "noatime",
        "xattr",
        "clone_children",
        "noprefix",
    ];
    !OTHER.contains(&option) && (!option.contains('=') || option.starts_with("name="))
}
