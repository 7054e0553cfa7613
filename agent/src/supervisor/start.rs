//! From a state directory to a running supervisor: the lock, the journal of an earlier process.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use faultline_proto::limits::QUEUE_LEN_MAX;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;
use tokio::sync::{broadcast, oneshot};
use tracing::warn;

use super::{
    handle::Handle,
    node::{HaltState, NodeState},
    run::run,
};
use crate::{
    failpoint,
    journal::{Journal, JournalError},
    kernel::process::own_pid_namespace,
    metrics::Metrics,
    resolve::Resolver,
};

/// Changes that a slow reader of Watch may be behind.
const CHANGES_KEPT: usize = 1024;

/// What a supervisor needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where journal, lock and halt are kept: a directory that outlives the agent's container.
    pub state_dir: PathBuf,
    /// How targets are found.
    pub resolver: Arc<Resolver>,
}

/// Why an agent cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}")]
    StateDir {
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is one already.
    #[error("another agent ({holder}) holds {path}; only one agent runs on a node")]
    Locked {
        /// The lock.
        path: String,
        /// What the other one wrote into it.
        holder: String,
    },
    /// The journal cannot be read.
    #[error("cannot open the journal")]
    Journal(#[from] JournalError),
    /// No thread.
    #[error("cannot start the supervisor's thread")]
    Thread(#[source] io::Error),
}

/// The running supervisor.
#[derive(Debug)]
pub struct Supervisor {
    /// The way to it.
    pub handle: Handle,
    /// Answers when its thread has ended, for whatever reason.
    pub ended: oneshot::Receiver<()>,
}

impl Supervisor {
    /// Takes the lock, reverts what an earlier process left, sweeps, and starts the thread.
    ///
    /// # Errors
    /// When another agent runs here, or the state directory cannot be used.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let dir = &config.state_dir;
        fs::create_dir_all(dir).map_err(|source| state_dir(dir, source))?;
        let lock = lock(&dir.join("lock"))?;
        failpoint::allow(dir);
        let (journal, found) = Journal::open(&dir.join("journal"))?;
        let halt_file = dir.join("halted");
        let halt = match fs::read_to_string(&halt_file) {
            Ok(reason) => Some(HaltState { reason }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(state_dir(&halt_file, source)),
        };
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id =
            fs::read_to_string(path).map_err(|source| state_dir(Path::new(path), source))?;
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let metrics = Arc::new(Metrics::default());
        let mut node = NodeState {
            resolver: config.resolver,
            journal,
            boot_id: boot_id.trim().to_owned(),
            pid_ns: own_pid_namespace(),
            halt_file,
            halt,
            is_leaving: false,
            last_halt: None,
            unreadable: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            held: BTreeMap::new(),
            ended: VecDeque::new(),
            changes: changes.clone(),
            is_closing: false,
            sweep_at: None,
            metrics: Arc::clone(&metrics),
        };
        node.clean_up(found);
        let (queue, requests) = mpsc::sync_channel(QUEUE_LEN_MAX);
        let (tell_end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("supervisor".into())
            .spawn(move || {
                // Told last, when the lock is free again.
                let _tell_end = tell_end;
                // Held until the thread ends, also by a panic.
                let _lock = lock;
                run(node, &requests);
            })
            .map_err(StartError::Thread)?;
        Ok(Self { handle: Handle { queue, changes, metrics }, ended })
    }
}

/// Takes the lock of the node, and writes into it who has it.
fn lock(path: &Path) -> Result<Flock<File>, StartError> {
    let writable = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let file = match writable {
        // What the journal holds can be reverted from a disk that takes nothing, and must be.
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
        opened => opened,
    };
    let file = file.map_err(|source| state_dir(path, source))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let write = |file: &mut File| -> io::Result<()> {
                file.set_len(0)?;
                file.rewind()?;
                write!(file, "pid {}", std::process::id())
            };
            if let Err(e) = write(&mut lock) {
                // The lock is held all the same; the pid is for whoever finds it taken.
                warn!(path = %path.display(), error = %e, "the state directory takes no writes");
            }
            Ok(lock)
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            if file.read_to_string(&mut holder).is_err() || holder.is_empty() {
                "of unknown pid".clone_into(&mut holder);
            }
            Err(StartError::Locked { path: path.display().to_string(), holder })
        }
        Err((_, source)) => Err(state_dir(path, source.into())),
    }
}

fn state_dir(path: &Path, source: io::Error) -> StartError {
    StartError::StateDir { path: path.display().to_string(), source }
}
