//! Commands in a pod, as `kubectl exec` runs them: `__faultline-enter PID -- COMMAND…` joins the
//! pod's network, mount, host name and pid namespaces, and runs the command as its child.
//!
//! Unlike there, the command stays out of the container's control group: it is not the workload, and
//! a fault on the container does not hit it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{io::AsyncReadExt as _, time::timeout};

use super::{
    children,
    error::{Step as _, StepError, chain},
};
use crate::place::{ExecError, ExecOutcome, Process};

pub(super) const ROLE: &str = "__faultline-enter";

/// How much of each stream of a command is kept.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// The exit code for a command that could not be run, as shells have it.
const NOT_RUN: u8 = 127;

/// Runs a command in the namespaces of a pod's holder, and waits for its end.
pub(crate) async fn exec_in(
    holder: Process,
    command: &[String],
    within: Duration,
) -> Result<ExecOutcome, ExecError> {
    let pid = holder.pid.to_string();
    let start = holder.start_ticks.to_string();
    let mut enter = children::role(ROLE, [pid.as_str(), start.as_str(), "--"]);
    enter.args(command).env_clear().envs(environment(holder.pid));
    let mut enter = tokio::process::Command::from(enter);
    // A group of its own, so that all of it can be killed.
    enter.process_group(0).kill_on_drop(true);
    enter.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = enter.spawn().step(|| "start the command".into()).map_err(ExecError::from)?;
    // Behind the child, so that it is dropped before: until the child is reaped, the group is its.
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let mut outcome = ExecOutcome::default();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let finished = timeout(within, async {
        tokio::try_join!(
            child.wait(),
            keep(out, &mut outcome.stdout),
            keep(err, &mut outcome.stderr)
        )
    });
    let finished = finished.await.map_err(|_late| ExecError::TimedOut { within })?;
    let (status, (), ()) =
        finished.step(|| "wait for the command".into()).map_err(ExecError::from)?;
    // Reaped: its number may be another's from now on.
    group.0 = None;
    outcome.code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(outcome)
}

/// The process group of a command, killed unless the command has ended: also where whoever waits for
/// it has given up, and this is dropped in the middle.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended at this moment, which is as good.
            killpg(group, Signal::SIGKILL).ok();
        }
    }
}

/// Reads a stream to its end and keeps its beginning.
async fn keep(
    stream: Option<impl tokio::io::AsyncRead + Unpin>,
    into: &mut Vec<u8>,
) -> std::io::Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    (&mut stream).take(OUTPUT_BYTES_MAX).read_to_end(into).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

/// The environment of a process, as it was when it started.
fn environment(pid: i32) -> BTreeMap<OsString, OsString> {
    let process = procfs::process::Process::new(pid);
    process.and_then(|process| process.environ()).unwrap_or_default().into_iter().collect()
}

/// The helper's side.
pub(super) fn main(args: &[OsString]) -> ExitCode {
    match enter_and_run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::from(NOT_RUN)
        }
    }
}

fn enter_and_run(args: &[OsString]) -> Result<u8, StepError> {
    let number = |at: usize| args.get(at).and_then(|arg| arg.to_str());
    let holder =
        number(0).and_then(|pid| pid.parse().ok()).zip(number(1).and_then(|t| t.parse().ok()));
    let (pid, start_ticks) =
        holder.ok_or(nix::Error::EINVAL).step(|| "read the pod's process".into())?;
    let (program, rest) = args
        .get(3..)
        .and_then(|command| command.split_first())
        .ok_or(nix::Error::EINVAL)
        .step(|| "read the command".into())?;
    let kinds = [
        ("net", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let open = |(kind, flag): (&str, CloneFlags)| {
        let path = format!("/proc/{pid}/ns/{kind}");
        File::open(&path).map(|file| (file, flag)).step(|| format!("open {path}"))
    };
    // All are opened before /proc becomes that of the pod.
    let namespaces = kinds.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    if !(Process { pid, start_ticks }).is_alive() {
        return Err(nix::Error::ESRCH).step(|| "find the pod's process".into());
    }
    let directory = fs::canonicalize(".").unwrap_or_else(|_| "/".into());
    for (file, flag) in namespaces {
        setns(file, flag).step(|| "enter the pod's namespaces".into())?;
    }
    // Entering a mount namespace goes to its root. The pid namespace holds for children only.
    let directory = if directory.is_dir() { directory } else { "/".into() };
    let status = Command::new(program).args(rest).current_dir(directory).status();
    let status = status.step(|| format!("run `{}`", program.display()))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
