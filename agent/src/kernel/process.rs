//! Processes, by identity: a pid alone may come to mean another one.

use std::fs;

use procfs::process::Process as ProcFs;
use serde::{Deserialize, Serialize};

/// A process: its pid, and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// Every pid there is now, as far as this process's `/proc` shows them.
pub fn all_pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
