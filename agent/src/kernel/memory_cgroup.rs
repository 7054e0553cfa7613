//! What the memory controller says of one control group, in either version.
//!
//! v1: `Documentation/admin-guide/cgroup-v1/memory.rst`; v2: `admin-guide/cgroup-v2.rst`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    KernelError,
    cgroup::{CgroupFs, Version},
};

/// A v1 limit from here on is none: the kernel says `i64::MAX` rounded down to pages.
const V1_UNLIMITED_BYTES: u64 = 1 << 62;

/// A control group of the hierarchy that has the memory controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryCgroup {
    /// Its directory.
    pub dir: PathBuf,
    /// Where its hierarchy is mounted.
    pub mount_point: PathBuf,
    /// The interface of that hierarchy.
    pub version: Version,
}

impl MemoryCgroup {
    /// The group in `dir`; `None` when the hierarchy with the memory controller is elsewhere, or
    /// when `dir` is its root.
    pub fn at(dir: &Path, cgroups: &CgroupFs) -> Option<Self> {
        let hierarchy = cgroups.with_controller("memory")?;
        let inside = dir.strip_prefix(&hierarchy.mount_point).ok()?;
        (inside.components().count() > 0).then(|| Self {
            dir: dir.to_owned(),
            mount_point: hierarchy.mount_point.clone(),
            version: hierarchy.version,
        })
    }

    /// Whether it is still there.
    pub fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// How much is charged to it and to the groups below it, in bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn usage(&self) -> Result<u64, KernelError> {
        let name = match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        let path = self.dir.join(name);
        let text = read(&path)?;
        text.trim().parse().map_err(|_not_a_number| unexpected(&path, &text))
    }

    /// The lowest limit of it and of the groups above it, in bytes; `None`: there is none.
    ///
    /// # Errors
    /// When its own file cannot be read.
    pub fn limit(&self) -> Result<Option<u64>, KernelError> {
        let mut lowest = self.limit_at(&self.dir)?;
        let above = self.dir.ancestors().skip(1).take_while(|dir| *dir != self.mount_point);
        // A group above that has no such file (v2, controller not delegated) limits nothing.
        for limit in above.filter_map(|dir| self.limit_at(dir).ok().flatten()) {
            lowest = Some(lowest.map_or(limit, |lowest| lowest.min(limit)));
        }
        Ok(lowest)
    }

    fn limit_at(&self, dir: &Path) -> Result<Option<u64>, KernelError> {
        let path = dir.join(match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        });
        let text = read(&path)?;
        if text.trim() == "max" {
            return Ok(None);
        }
        let limit: u64 = text.trim().parse().map_err(|_not_a_number| unexpected(&path, &text))?;
        Ok((self.version == Version::V2 || limit < V1_UNLIMITED_BYTES).then_some(limit))
    }

    /// How many processes the kernel killed in it for lack of memory. v1 counts each in the victim's
    /// own group only, v2 also in those above (`memory_events` in `mm/memcontrol.c`). 0 if it is gone.
    pub fn oom_kills(&self) -> u64 {
        let name = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = read(&self.dir.join(name)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Whether the kernel kills all of the group when it kills one of it: `memory.oom.group`, of v2.
    pub fn dies_together(&self) -> bool {
        read(&self.dir.join("memory.oom.group")).is_ok_and(|text| text.trim() == "1")
    }

    /// Whether what groups below it use counts in it: always, but for v1 before Linux 5.11 with
    /// `memory.use_hierarchy` 0.
    pub fn counts_groups_below(&self) -> bool {
        self.version == Version::V2
            || read(&self.dir.join("memory.use_hierarchy")).map_or(true, |t| t.trim() == "1")
    }

    /// The group `name` below it; it need not exist.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self { dir: self.dir.join(name), ..self.clone() }
    }
}

fn read(path: &Path) -> Result<String, KernelError> {
    fs::read_to_string(path).map_err(|e| KernelError::io("read", &path.display(), e))
}

fn unexpected(path: &Path, text: &str) -> KernelError {
    let problem = format!("not a number of bytes: {:?}", text.trim());
    KernelError::Unexpected { verb: "read", object: path.display().to_string(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, dir: &str, version: Version) -> MemoryCgroup {
        MemoryCgroup { dir: root.join(dir), mount_point: root.to_owned(), version }
    }

    #[test]
    fn the_lowest_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("pod/main")).unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("pod/memory.max", "1000\n");
        write("pod/main/memory.max", "max\n");
        let v2 = group(root.path(), "pod/main", Version::V2);
        assert_eq!(v2.limit().unwrap(), Some(1000));
        write("pod/memory.limit_in_bytes", "9223372036854771712\n");
        write("pod/main/memory.limit_in_bytes", "9223372036854771712\n");
        let v1 = group(root.path(), "pod/main", Version::V1);
        assert_eq!(v1.limit().unwrap(), None);
        write("pod/main/memory.limit_in_bytes", "4096\n");
        assert_eq!(v1.limit().unwrap(), Some(4096));
        write("pod/main/memory.limit_in_bytes", "many\n");
        assert!(v1.limit().is_err());
    }

    #[test]
    fn oom_kills_are_read_from_either_file() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a")).unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        assert_eq!(group(root.path(), "a", Version::V2).oom_kills(), 0);
        write("a/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 1\n");
        write("a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
        assert_eq!(group(root.path(), "a", Version::V2).oom_kills(), 2);
        assert_eq!(group(root.path(), "a", Version::V1).oom_kills(), 5);
    }
}
