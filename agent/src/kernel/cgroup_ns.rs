//! The cgroup namespace that the node's first process is in.
//!
//! A container has one of its own, with control groups of version 2 also where it shares the node's pids. The paths in
//! `/proc/PID/cgroup` then begin at the container's own group and lead out of it by `..` (`cgroup_namespaces(7)`):
//! they lead nowhere below the node's `/sys/fs/cgroup`, and nobody may be moved across them.

use std::{fs, io, os::unix::fs::MetadataExt};

use nix::sched::{CloneFlags, setns};

use super::KernelError;

const OWN: &str = "/proc/thread-self/ns/cgroup";
const NODES: &str = "/proc/1/ns/cgroup";

/// Moves this thread, and all that it starts, to where the node's first process is. Must be called before there is
/// another thread. Returns whether that is another namespace than before.
///
/// # Errors
/// When it is another one that cannot be entered, or it cannot be told.
pub fn join_nodes() -> Result<bool, KernelError> {
    let found = |path: &str| match fs::metadata(path) {
        Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
        // A kernel without cgroup namespaces.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(KernelError::io("look at", &path, e)),
    };
    let nodes = found(NODES)?;
    if nodes.is_none() || nodes == found(OWN)? {
        return Ok(false);
    }
    let namespace = fs::File::open(NODES).map_err(|e| KernelError::io("open", &NODES, e))?;
    setns(namespace, CloneFlags::CLONE_NEWCGROUP)
        .map_err(|e| KernelError::io("enter", &NODES, io::Error::from(e)))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::unshare;

    use super::*;

    #[test]
    fn paths_of_control_groups_are_the_nodes_again() {
        // Namespaces belong to threads.
        let in_a_thread = || {
            let is_nodes = || fs::read_link(OWN).ok() == fs::read_link(NODES).ok();
            unshare(CloneFlags::CLONE_NEWCGROUP).ok()?;
            fs::read_link(NODES).ok()?;
            Some((
                is_nodes(),
                join_nodes().expect("entered"),
                is_nodes(),
                join_nodes().expect("told"),
            ))
        };
        match thread::spawn(in_a_thread).join().expect("it ends") {
            Some(seen) => assert_eq!(seen, (false, true, true, false)),
            None => eprintln!("SKIPPED: no namespace can be made here"),
        }
    }
}
