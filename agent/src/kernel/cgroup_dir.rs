//! Single control groups as directories: made, entered, emptied and removed.
//!
//! Knows nothing of controllers but what a new v1 cpuset needs before a process may enter it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use faultline_proto::id::FaultId;

use super::{KernelError, pidfd::PidFd, process::ProcessId};

/// How deep the search for groups of ours goes below a hierarchy's root.
const SEARCH_DEPTH_MAX: usize = 16;
/// How many groups that search looks at.
const SEARCH_GROUPS_MAX: usize = 100_000;
/// How long to wait between two looks at a group that is being emptied.
const EMPTYING_POLL: Duration = Duration::from_millis(2);
/// `SIGKILL`.
const KILL: u8 = 9;

/// Makes a group.
///
/// # Errors
/// When it is there already, or may not be made.
pub fn create(dir: &Path) -> Result<(), KernelError> {
    fs::create_dir(dir).map_err(|e| KernelError::io("create", &dir.display(), e))?;
    copy_cpuset(dir);
    Ok(())
}

/// Moves the calling process, with all its threads, into a group.
///
/// # Errors
/// When the kernel refuses, as v2 does where processes may only be in the leaves.
pub fn enter(dir: &Path) -> Result<(), KernelError> {
    let path = dir.join("cgroup.procs");
    fs::write(&path, "0").map_err(|e| KernelError::io("write 0 to", &path.display(), e))
}

/// Removes a group that is empty.
///
/// # Errors
/// When it is not there, or processes or groups are in it.
pub fn remove(dir: &Path) -> Result<(), KernelError> {
    fs::remove_dir(dir).map_err(|e| KernelError::io("remove", &dir.display(), e))
}

/// The processes in a group, not those in groups below it. None when it is gone.
pub fn pids(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills what is in a group and removes it, if it is there. Waits for that, at most `timeout`.
///
/// # Errors
/// When it could not be emptied or removed in that time, and at once when all that is in the way is a
/// group inside it, which somebody else has made.
pub fn empty_and_remove(dir: &Path, timeout: Duration) -> Result<(), KernelError> {
    let end = Instant::now() + timeout;
    loop {
        let Err(error) = fs::remove_dir(dir) else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV) => return Ok(()),
            Some(libc::EBUSY) if Instant::now() < end => {
                if pids(dir).is_empty()
                    && let Some(inside) = group_inside(dir)
                {
                    return Err(KernelError::Unexpected {
                        verb: "remove",
                        object: dir.display().to_string(),
                        problem: format!("somebody has made {} inside", inside.display()),
                    });
                }
                kill_all(dir);
            }
            _ => return Err(KernelError::io("remove", &dir.display(), error)),
        }
        thread::sleep(EMPTYING_POLL);
    }
}

/// A group in a group.
fn group_inside(dir: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.find(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path())
}

/// Sends `SIGKILL` to everything in a group, by its `cgroup.kill` (v2 since Linux 5.14) or one by one.
fn kill_all(dir: &Path) {
    // Opened, not created: a v1 directory must not be asked for a file that it does not have.
    let at_once = fs::OpenOptions::new().write(true).open(dir.join("cgroup.kill"));
    if at_once.is_ok_and(|mut file| io::Write::write_all(&mut file, b"1").is_ok()) {
        return;
    }
    for process in pids(dir).into_iter().filter_map(ProcessId::of) {
        let Ok(handle) = PidFd::open(process) else { continue };
        // Only now is the pid sure to be this process's: is that one still in the group?
        if pids(dir).contains(&process.pid)
            && let Err(error) = handle.send(KILL)
            && !error.is_gone()
        {
            tracing::warn!(pid = process.pid, ?error, "cannot kill what is in our control group");
        }
    }
}

/// The groups below `root` that have a name of ours, and the faults they belong to.
///
/// # Errors
/// When one that is there cannot be read: what is in it is not known.
pub fn ours_below(root: &Path) -> Result<Vec<(FaultId, PathBuf)>, KernelError> {
    let mut found = Vec::new();
    let mut left = vec![(root.to_owned(), 0)];
    let mut looked_at = 0;
    while let Some((dir, depth)) = left.pop() {
        looked_at += 1;
        if looked_at > SEARCH_GROUPS_MAX {
            tracing::warn!(root = %root.display(), "too many control groups to look at all");
            break;
        }
        let entries =
            match fs::read_dir(&dir).map_err(|e| KernelError::io("read", &dir.display(), e)) {
                Ok(entries) => entries,
                Err(e) if e.is_gone() => continue,
                Err(e) => return Err(e),
            };
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            let path = entry.path();
            match entry.file_name().to_str().and_then(FaultId::from_object_name) {
                Some(id) => found.push((id, path)),
                None if depth < SEARCH_DEPTH_MAX => left.push((path, depth + 1)),
                None => {}
            }
        }
    }
    Ok(found)
}

/// A new cpuset of v1 has no CPUs and takes no process, `cpuset(7)`: it gets its parent's.
fn copy_cpuset(dir: &Path) {
    let Some(parent) = dir.parent() else { return };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let Ok(own) = fs::read_to_string(dir.join(name)) else { continue };
        if own.trim().is_empty()
            && let Ok(inherited) = fs::read_to_string(parent.join(name))
            && let Err(error) = fs::write(dir.join(name), inherited)
        {
            tracing::debug!(dir = %dir.display(), ?error, "cannot set {name}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_ours_are_found_by_name() {
        let root = tempfile::tempdir().unwrap();
        let id = FaultId::from_bits(7);
        let ours = root.path().join("kubepods/pod1/aa").join(id.object_name());
        fs::create_dir_all(&ours).unwrap();
        fs::create_dir_all(root.path().join("faultline_other/faultline-test")).unwrap();
        assert_eq!(ours_below(root.path()).unwrap(), [(id, ours)]);
        assert!(ours_below(&root.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn a_group_that_is_gone_is_clean() {
        let root = tempfile::tempdir().unwrap();
        empty_and_remove(&root.path().join("none"), Duration::ZERO).unwrap();
        assert!(pids(&root.path().join("none")).is_empty());
    }
}
