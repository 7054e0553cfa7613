//! The controller of a round, as the torture program handles it: starts it, hears what it knows, stops
//! and kills it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use faultline::agents::AgentError;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    controller::ROLE,
    script::{Known, Script, Told},
};

/// How long a controller may take until it has spoken with its agents.
const READY_MAX: Duration = Duration::from_secs(15);

/// A controller, and what it has said so far.
#[derive(Debug)]
pub(super) struct Orders {
    child: Child,
    input: ChildStdin,
    heard: Arc<Mutex<Heard>>,
    reader: Option<JoinHandle<()>>,
}

/// What a controller has said.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// What it knows of each fault.
    pub(super) known: Vec<Known>,
    /// What it complained of.
    pub(super) problems: Vec<String>,
}

impl Orders {
    /// Starts a controller, and waits until it has spoken with its agents.
    ///
    /// # Errors
    /// When it does not get so far.
    pub(super) fn start(script: &Script, faults: usize) -> anyhow::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a controller")?;
        let mut input = child.stdin.take().context("its input")?;
        let output = child.stdout.take().context("its output")?;
        let known = vec![Known::default(); faults];
        let heard = Arc::new(Mutex::new(Heard { known, problems: Vec::new() }));
        let (ready, is_ready) = mpsc::channel();
        let theirs = Arc::clone(&heard);
        let reader = thread::spawn(move || listen(output, &theirs, &ready));
        writeln!(input, "{}", serde_json::to_string(script)?)?;
        let mut this = Self { child, input, heard, reader: Some(reader) };
        if is_ready.recv_timeout(READY_MAX).is_err() {
            this.kill();
            anyhow::bail!("no controller: {:?}", this.heard().problems);
        }
        Ok(this)
    }

    /// Has it begin.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        self.input.write_all(b"go\n").context("tell the controller to begin")
    }

    /// Sends a signal to it.
    pub(super) fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It is not reaped yet: the pid is its own.
            kill(Pid::from_raw(pid), signal).ok();
        }
    }

    /// Kills it, and hears all that it had said.
    pub(super) fn kill(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.child.kill().ok();
            self.child.wait().ok();
            reader.join().ok();
        }
    }

    /// What it has said so far.
    pub(super) fn heard(&self) -> Heard {
        lock(&self.heard).clone()
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listen(output: ChildStdout, heard: &Mutex<Heard>, ready: &mpsc::Sender<()>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Told::Ready) => drop(ready.send(())),
            Ok(Told::Known { index, known }) => {
                if let Some(entry) = lock(heard).known.get_mut(index) {
                    *entry = known;
                }
            }
            Ok(Told::Problem(problem)) => lock(heard).problems.push(problem),
            // The last line of one that was killed may be torn.
            Err(error) if line.ends_with('}') => {
                lock(heard).problems.push(format!("the controller said {line:?}: {error}"));
            }
            Err(_) => {}
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stable word of a refusal, or that there was no answer.
pub(super) fn reason(error: &AgentError) -> String {
    match error {
        AgentError::Refused { status, .. } => word(status.details()),
        AgentError::Missing { .. } | AgentError::Unreachable { .. } | AgentError::Api(_) => {
            "no answer".into()
        }
    }
}

/// The first field of an `ErrorDetail`: one byte of tag, one of length, the word.
fn word(details: &[u8]) -> String {
    let length = details.get(1).copied().map_or(0, usize::from);
    let word = details.get(2..2 + length).unwrap_or_default();
    String::from_utf8_lossy(word).into_owned()
}
