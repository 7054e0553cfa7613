//! The cgroup namespace of the node, `cgroup_namespaces(7)`.
//!
//! A container has one of its own where control groups are of version 2, also with `hostPID`: the paths of
//! `/proc/PID/cgroup` are relative to the container's group there (`/../../kubepods…`), and no longer lead to a directory
//! below the mount point.

use std::{fs, io};

use nix::sched::{CloneFlags, setns};

use super::KernelError;

const OWN: &str = "/proc/thread-self/ns/cgroup";

/// Enters the cgroup namespace of a process, which is the node's where that is process 1, for this thread and all that it
/// starts. Returns whether it was in another one. Must be called before there is another thread.
///
/// # Errors
/// When the process's cannot be looked at or entered: `setns(2)` wants `CAP_SYS_ADMIN`, and the look
/// `CAP_SYS_PTRACE`.
pub fn enter_of_process(pid: i32) -> Result<bool, KernelError> {
    let path = format!("/proc/{pid}/ns/cgroup");
    let link = |path: &str| match fs::read_link(path) {
        Ok(link) => Ok(Some(link)),
        // A kernel without cgroup namespaces.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(KernelError::io("read", path, e)),
    };
    let of_process = link(&path)?;
    if of_process.is_none() || of_process == link(OWN)? {
        return Ok(false);
    }
    let namespace = fs::File::open(&path).map_err(|e| KernelError::io("open", &path, e))?;
    setns(namespace, CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| KernelError::io("enter", &path, errno))?;
    Ok(true)
}
