//! The agent's side of a helper: starting it, talking to it, reaping it, and finding those that are
//! left over.

use std::{
    fs, io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use faultline_proto::{boottime::BootTime, id::FaultId};
use serde::Serialize;

use super::{
    Kind, MARKER, Report, Request,
    channel::{Lines, make_non_blocking, send},
};
use crate::{
    failpoint,
    kernel::{
        KernelError,
        pidfd::PidFd,
        process::{ProcessId, all_pids, shares_pid_namespace},
    },
};

/// How long a helper may take to be ready or to answer: ten times what a busy node needs.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a helper may take to end by itself once its pipe is closed.
const END_MAX: Duration = Duration::from_millis(500);
/// How long to wait for a helper that was killed: what it holds takes time to free.
const KILLED_MAX: Duration = Duration::from_secs(5);
/// `SIGKILL`.
const KILL: u8 = 9;
const CONT: u8 = 18;

static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();

/// Sets what is executed as a helper, once; its `main` calls [`super::run_if_asked`]. For programs
/// that cannot be executed again themselves, such as tests. Returns whether it is this one now.
pub fn use_executable(path: &Path) -> bool {
    EXECUTABLE.get_or_init(|| path.to_owned()) == path
}

/// What is executed as a helper: this program itself, unless [`use_executable`] said otherwise.
pub fn executable() -> PathBuf {
    EXECUTABLE.get().cloned().unwrap_or_else(|| "/proc/self/exe".into())
}

/// A helper that runs. Dropping it closes its pipe, which ends it, and waits until it is reaped.
#[derive(Debug)]
pub struct Helper {
    kind: Kind,
    child: Child,
    /// `None` once closed.
    input: Option<ChildStdin>,
    output: Lines<ChildStdout>,
}

impl Helper {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started or says that it cannot do it. It has ended then.
    pub fn start(kind: Kind, id: FaultId, start: &impl Serialize) -> Result<Self, KernelError> {
        let object = object(kind);
        let failed = |e: io::Error| KernelError::io("start", &object, e);
        let mut child = Command::new(executable())
            .args([MARKER, kind.as_str(), &id.to_string(), &agent_argument()])
            .env_clear()
            .envs(failpoint::for_helper())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let output = make_non_blocking(input.as_fd()).and_then(|()| Lines::new(output));
        let output = output.map_err(failed)?;
        let mut this = Self { kind, child, input: Some(input), output };
        failpoint::reach(failpoint::HELPER_SPAWNED);
        this.write(start)?;
        match this.answer()? {
            Report::Ready { notes } => {
                failpoint::reach(failpoint::HELPER_READY);
                tracing::debug!(kind = kind.as_str(), %id, pid = this.pid(), ?notes, "helper ready");
                Ok(this)
            }
            other => Err(this.unexpected("start", &other)),
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Moves the end of the lease.
    ///
    /// # Errors
    /// When it has ended or does not read.
    pub fn renew(&mut self, lease_end: BootTime) -> Result<(), KernelError> {
        self.write(&Request::Renew { lease_end })
    }

    /// Asks for something and waits for the answer.
    ///
    /// # Errors
    /// When it has ended, does not answer in time, or could not do it.
    pub fn ask(&mut self, request: &Request) -> Result<Report, KernelError> {
        self.write(request)?;
        self.answer()
    }

    /// How it ended, in a few words; `None` while it runs. It is reaped then.
    ///
    /// # Errors
    /// When that cannot be asked.
    pub fn how_it_ended(&mut self) -> Result<Option<String>, KernelError> {
        let status = self
            .child
            .try_wait()
            .map_err(|e| KernelError::io("wait for", &object(self.kind), e))?;
        let Some(status) = status else { return Ok(None) };
        let last_words = self.output.fill().and_then(|()| self.output.next::<Report>());
        Ok(Some(match last_words {
            Ok(Some(Report::Failed { problem })) => problem,
            _ => status.to_string(),
        }))
    }

    fn write(&mut self, message: &impl Serialize) -> Result<(), KernelError> {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        let result = self.input.as_mut().ok_or_else(closed).and_then(|input| send(input, message));
        result.map_err(|e| KernelError::io("tell", &object(self.kind), e))
    }

    fn answer(&mut self) -> Result<Report, KernelError> {
        match self.output.wait(ANSWER_MAX) {
            Ok(report @ Report::Failed { .. }) => Err(self.unexpected("tell", &report)),
            Ok(report) => Ok(report),
            Err(e) => Err(KernelError::io("hear from", &object(self.kind), e)),
        }
    }

    fn unexpected(&self, verb: &'static str, report: &Report) -> KernelError {
        let problem = match report {
            Report::Failed { problem } => problem.clone(),
            other => format!("{other:?}"),
        };
        KernelError::Unexpected { verb, object: object(self.kind), problem }
    }

    fn wait(&mut self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.input = None;
        if self.wait(END_MAX) {
            return;
        }
        tracing::warn!(pid = self.pid(), "a helper does not end by itself; it is killed");
        if self.child.kill().is_err() || !self.wait(KILLED_MAX) {
            tracing::error!(pid = self.pid(), "a helper cannot be killed or reaped");
        }
    }
}

fn object(kind: Kind) -> String {
    format!("the {} helper", kind.as_str())
}

/// A helper that runs on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its process.
    pub process: ProcessId,
    /// What it does.
    pub kind: Kind,
    /// The fault it is for.
    pub fault: FaultId,
    /// The agent that started it, which may have ended, and may be another one than this.
    pub agent: ProcessId,
}

/// The helpers that run on this machine, of whichever agent, by their arguments.
///
/// # Errors
/// When the processes cannot be looked at, for want of a file descriptor say: that none was found then
/// does not say that there is none.
pub fn find() -> Result<Vec<Found>, KernelError> {
    let mut all = Vec::new();
    for pid in all_pids()? {
        let path = format!("/proc/{pid}/cmdline");
        match fs::read(&path) {
            Ok(line) => all.extend(found(pid, &line)),
            // Ended meanwhile, or another user's, where this agent is not root.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) => {}
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            Err(e) => return Err(KernelError::io("read", &path, e)),
        }
    }
    Ok(all)
}

/// The helper that a process with these arguments is.
fn found(pid: i32, line: &[u8]) -> Option<Found> {
    let line = std::str::from_utf8(line).ok()?;
    let mut arguments = line.split('\0').skip(1);
    if arguments.next()? != MARKER {
        return None;
    }
    let kind = arguments.next()?.parse().ok()?;
    let fault = arguments.next()?.parse().ok()?;
    let (agent_pid, start_ticks) = arguments.next()?.split_once('.')?;
    let agent = ProcessId { pid: agent_pid.parse().ok()?, start_ticks: start_ticks.parse().ok()? };
    Some(Found { process: ProcessId::of(pid)?, kind, fault, agent })
}

/// This process, as [`Found::agent`] has it: `PID.START_TICKS`.
fn agent_argument() -> String {
    let own = i32::try_from(std::process::id()).ok().and_then(ProcessId::of);
    own.map_or_else(|| "0.0".to_owned(), |own| format!("{}.{}", own.pid, own.start_ticks))
}

/// Has the helpers end whose agent has ended, should one not have noticed, and waits for that. For the
/// start of an agent. Returns the faults that they were for, and what could not be done.
///
/// Each is continued first, should it be stopped: it then lets go of what it holds by itself. One that
/// holds memory is killed if it does not; one that has stopped processes is not: nobody else would
/// continue them.
///
/// Those of an agent in a pid namespace below this one, as on a node that is itself a container, are
/// left alone: which process is their agent cannot be told from here, and their leases end them.
///
/// # Errors
/// When the processes cannot be looked at.
pub fn sweep() -> Result<(Vec<FaultId>, Vec<KernelError>), KernelError> {
    let own = find()?.into_iter().filter(|found| shares_pid_namespace(found.process.pid));
    let (mut ended, mut failed) = (Vec::new(), Vec::new());
    for orphan in own.filter(|found| !found.agent.is_alive()) {
        match end(orphan) {
            Ok(()) => ended.push(orphan.fault),
            Err(error) => failed.push(error),
        }
    }
    Ok((ended, failed))
}

/// Has one end whose agent has ended.
fn end(helper: Found) -> Result<(), KernelError> {
    if signal(helper, CONT, END_MAX)? {
        return Ok(());
    }
    match helper.kind {
        Kind::Memory => kill(helper),
        Kind::Stopper => Err(KernelError::Unexpected {
            verb: "end",
            object: format!("helper {}", helper.process.pid),
            problem: "it does not let go of the processes that it has stopped; look at it".into(),
        }),
    }
}

/// Kills the helpers of a fault that run, and waits for their end.
///
/// # Errors
/// When one cannot be killed, or has not ended after a few seconds.
pub fn kill_left(id: FaultId) -> Result<(), KernelError> {
    find()?.into_iter().filter(|found| found.fault == id).try_for_each(kill)
}

/// Sends a signal, and waits for the end. Returns whether it has ended.
fn signal(helper: Found, signal: u8, timeout: Duration) -> Result<bool, KernelError> {
    let handle = match PidFd::open(helper.process) {
        Ok(handle) => handle,
        Err(e) if e.is_gone() => return Ok(true),
        Err(e) => return Err(e),
    };
    // Only now is the pid sure to be this process's.
    let line = fs::read(format!("/proc/{}/cmdline", helper.process.pid)).unwrap_or_default();
    if found(helper.process.pid, &line) != Some(helper) {
        return Ok(true);
    }
    handle.send(signal)?;
    handle.wait(timeout)
}

fn kill(helper: Found) -> Result<(), KernelError> {
    match signal(helper, KILL, KILLED_MAX) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let error = io::Error::from(io::ErrorKind::TimedOut);
            Err(KernelError::io("end", &format!("helper {}", helper.process.pid), error))
        }
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => Err(error),
    }
}
