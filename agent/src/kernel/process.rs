//! Processes, by identity: a pid alone may come to mean another one, what they are
//! called, and what signals do to them.

use std::{
    collections::{BTreeSet, HashSet},
    fmt, fs,
    path::Path,
};

use procfs::process::Process as ProcFs;
use serde::{Deserialize, Serialize};

use super::KernelError;

/// A process: its pid, and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid, in the pid namespace of the agent.
    pub pid: i32,
    /// Clock ticks from boot to its start, field 22 of `proc_pid_stat(5)`.
    pub start_ticks: u64,
}

impl ProcessId {
    /// The process that has this pid now; `None` if there is none, or it is a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = ProcFs::new(pid).ok()?.stat().ok()?;
        let ended = matches!(stat.state, 'Z' | 'X');
        (!ended).then_some(Self { pid, start_ticks: stat.starttime })
    }

    /// Whether it still runs (a zombie does not).
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Whether pids that a process knows mean the same here: it is in the pid namespace that this `/proc` is
/// of, and not in one below it, such as that of a node in a container (`NSpid` of
/// `proc_pid_status(5)`: one number for each namespace from here down). Kernels that do not say so have
/// no such namespaces.
pub fn shares_pid_namespace(pid: i32) -> bool {
    let status = ProcFs::new(pid).and_then(|process| process.status());
    status.is_ok_and(|status| status.nspid.is_none_or(|pids| pids.len() == 1))
}

/// The identity of the pid namespace that this process is in, `pid:[4026531836]` say, as `namespaces(7)`
/// has it; `None` if that cannot be read.
pub fn own_pid_namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Every pid there is now, as far as this process's `/proc` shows them.
///
/// # Errors
/// When that cannot be read, for want of a file descriptor say: then it is not known who is there.
pub fn all_pids() -> Result<Vec<i32>, KernelError> {
    let failed = |e| KernelError::io("read", "/proc", e);
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids)
}

/// The main process among those of a container: its parent is not one of them. Of several, as when
/// a command is being executed in the container, the oldest.
pub fn main_of(processes: &[ProcessId]) -> Option<ProcessId> {
    let inside: HashSet<i32> = processes.iter().map(|process| process.pid).collect();
    let mut oldest_first = processes.to_vec();
    oldest_first.sort_by_key(|process| (process.start_ticks, process.pid));
    oldest_first
        .into_iter()
        .find(|process| parent_of(process.pid).is_some_and(|parent| !inside.contains(&parent)))
}

/// This process, those it descends from, and pid 1: none of them may ever be a target.
pub fn own_lineage() -> BTreeSet<i32> {
    let mut lineage = BTreeSet::from([1]);
    let mut next = i32::try_from(std::process::id()).ok();
    // A pid namespace ends the line with a parent of 0; the count ends it should /proc be odd.
    while let Some(pid) = next.filter(|pid| *pid > 0 && lineage.len() < 1000) {
        lineage.insert(pid);
        next = parent_of(pid);
    }
    lineage
}

/// The parent of a process; `None` if it has gone.
pub fn parent_of(pid: i32) -> Option<i32> {
    Some(ProcFs::new(pid).ok()?.stat().ok()?.ppid)
}

/// What a process is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessName {
    /// Its `comm`: at most 15 bytes, and its own to change (`proc_pid_comm(5)`).
    pub comm: String,
    /// The base name of its executable, where that can be read.
    pub executable: Option<String>,
}

impl ProcessName {
    /// The name of a process; `None` if it has gone.
    pub fn of(process: ProcessId) -> Option<Self> {
        let comm = fs::read_to_string(format!("/proc/{}/comm", process.pid)).ok()?;
        let link = fs::read_link(format!("/proc/{}/exe", process.pid)).ok();
        let executable = link.as_deref().and_then(Path::file_name).map(|name| {
            let name = name.to_string_lossy();
            name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
        });
        Some(Self { comm: comm.trim_end_matches('\n').to_owned(), executable })
    }

    /// Whether `name` means it: its comm, or its executable's base name, or the first
    /// 15 bytes of that, as the kernel would cut it.
    pub fn is(&self, name: &str) -> bool {
        let executable = self.executable.as_deref();
        self.comm == name
            || executable.is_some_and(|e| {
                e == name || (name.len() == 15 && e.as_bytes().starts_with(name.as_bytes()))
            })
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.comm)
    }
}

/// What signals do to a process, of `proc_pid_status(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalState {
    /// `State`: `R`, `S`, `T` (stopped), `Z` …
    pub state: char,
    /// `SigPnd` of the main thread and `ShdPnd`: sent and not yet taken. Bit 0 is signal 1.
    pub pending: u64,
    /// `SigBlk` of the main thread.
    pub blocked: u64,
    /// `SigIgn`.
    pub ignored: u64,
    /// `SigCgt`: it has a handler.
    pub caught: u64,
    /// Whether it is the first process of a pid namespace below the agent's. The kernel drops
    /// signals for such a one that it has no handler for, but `SIGKILL` and `SIGSTOP`
    /// from outside (`pid_namespaces(7)`).
    pub is_namespace_init: bool,
}

impl SignalState {
    /// Reads it; `None` if the process has ended or another one has its pid.
    pub fn of(process: ProcessId) -> Option<Self> {
        let status = ProcFs::new(process.pid).ok()?.status().ok()?;
        // Read before, checked after: the text is of the process that is meant.
        process.is_alive().then(|| Self {
            state: status.state.chars().next().unwrap_or('?'),
            pending: status.sigpnd | status.shdpnd,
            blocked: status.sigblk,
            ignored: status.sigign,
            caught: status.sigcgt,
            is_namespace_init: status.nspid.is_some_and(|p| p.len() > 1 && p.last() == Some(&1)),
        })
    }

    /// Whether job control has stopped its main thread.
    pub fn is_stopped(&self) -> bool {
        self.state == 'T'
    }
}

/// Whether job control has stopped any thread of a process. While its main thread waits for a child of
/// `vfork(2)`, or for a disk, the others are stopped and it is not; it will be, as soon as it can.
pub fn has_stopped_thread(process: ProcessId) -> bool {
    let Some(tasks) = ProcFs::new(process.pid).ok().and_then(|found| found.tasks().ok()) else {
        return false;
    };
    let states = tasks.filter_map(|task| task.ok()?.stat().ok());
    // Read before, checked after: the threads are of the process that is meant.
    states.into_iter().any(|stat| stat.state == 'T') && process.is_alive()
}

/// Whether a signal is in one of the sets of [`SignalState`].
pub fn has_signal(set: u64, signal: u8) -> bool {
    (1..=64).contains(&signal) && set >> (signal - 1) & 1 == 1
}

/// The `oom_score_adj` of a process: -1000 to 1000, `proc_pid_oom_score_adj(5)`.
///
/// # Errors
/// When it has gone, or the file holds something else.
pub fn oom_score_adj(process: ProcessId) -> Result<i16, KernelError> {
    let path = format!("/proc/{}/oom_score_adj", process.pid);
    let text = fs::read_to_string(&path).map_err(|e| KernelError::io("read", &path, e))?;
    let problem = |_not_a_number| format!("not a score: {:?}", text.trim());
    text.trim().parse().map_err(problem).map_err(|problem| KernelError::Unexpected {
        verb: "read",
        object: path,
        problem,
    })
}

/// Sets the calling process's own `oom_score_adj`. Raising it needs no privilege.
///
/// # Errors
/// When it is lowered without `CAP_SYS_RESOURCE`.
pub fn set_own_oom_score_adj(score: i16) -> Result<(), KernelError> {
    let path = "/proc/self/oom_score_adj";
    fs::write(path, score.to_string()).map_err(|e| KernelError::io("write", path, e))
}

/// Closes every descriptor from 3 on. All of ours are close-on-exec; this is for those that whoever
/// started the agent let slip through. Nothing is done before Linux 5.9.
#[allow(unsafe_code, reason = "close_range(2) has no safe wrapper in nix")]
pub fn close_inherited_descriptors() {
    // SAFETY: called first thing in a new process, before anything in it owns a descriptor above 2
    // (the caller sees to that), so that no owner is left with a closed or reused one.
    let _too_old = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself_and_its_lineage() {
        let own = i32::try_from(std::process::id()).unwrap();
        let process = ProcessId::of(own).unwrap();
        assert!(process.is_alive());
        let impostor = ProcessId { start_ticks: process.start_ticks + 1, ..process };
        assert!(!impostor.is_alive() && SignalState::of(impostor).is_none());
        let lineage = own_lineage();
        assert!(lineage.contains(&own) && lineage.contains(&1));
        assert!(matches!(SignalState::of(process).unwrap().state, 'R' | 'S'));
        assert_eq!(main_of(&[process]), Some(process));
    }

    #[test]
    fn names_are_matched_as_the_kernel_cuts_them() {
        let name = ProcessName {
            comm: "worker".into(),
            executable: Some("a-very-long-program-name".into()),
        };
        assert!(name.is("worker") && name.is("a-very-long-pro"));
        assert!(!name.is("a-very") && !name.is("work"));
    }

    #[test]
    fn signals_are_bits_from_one_on() {
        assert!(has_signal(1, 1) && has_signal(1 << 63, 64) && !has_signal(u64::MAX, 0));
    }
}
