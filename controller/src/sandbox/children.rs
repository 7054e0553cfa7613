//! Starting this same program again in another role, and collecting what has ended.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};
use tokio::runtime::{Builder, Runtime};

use super::error::{Step as _, StepError};

/// This program, also when its file has been replaced since it started.
pub(super) const SELF: &str = "/proc/self/exe";

/// A command that starts this program in another role.
pub(super) fn role<I: AsRef<OsStr>>(role: &str, args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(SELF);
    command.arg(role).args(args);
    command
}

/// A log that is added to, readable by this user alone.
pub(super) fn log(path: &Path) -> Result<File, StepError> {
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(0o600);
    options.open(path).step(|| format!("open {}", path.display()))
}

/// A runtime that starts no thread: what runs in it may change the process's namespaces.
pub(super) fn runtime() -> Result<Runtime, StepError> {
    Builder::new_current_thread().enable_all().build().step(|| "start the runtime".into())
}

/// A child that has ended, and how, in words.
pub(super) struct Ended {
    pub(super) pid: i32,
    pub(super) status: String,
}

/// The next child that has ended, without waiting for one; `None` if there is none now.
pub(super) fn reap() -> Option<Ended> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                Some(Ended { pid: pid.as_raw(), status: format!("exit code {code}") })
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                Some(Ended { pid: pid.as_raw(), status: format!("signal {signal}") })
            }
            Err(Errno::EINTR) => continue,
            _ => None,
        };
    }
}

/// Kills every child, and every child that comes to this process when its parent has ended, until
/// there is none left.
pub(super) async fn kill_all() {
    let me = getpid().as_raw();
    while waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(Errno::ECHILD) {
        for process in procfs::process::all_processes().into_iter().flatten().flatten() {
            if process.stat().is_ok_and(|stat| stat.ppid == me) {
                kill(Pid::from_raw(process.pid), Signal::SIGKILL).ok();
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
