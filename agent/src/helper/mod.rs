//! Helper processes: what holds an effect that the kernel would not end by itself.
//!
//! A helper is this executable, started again with a marker as its first argument. It is told what to
//! do by one JSON line on its standard input, then by more of them, and answers with JSON lines on its
//! standard output. It has its own process group, so that Ctrl-C on a terminal does not reach it.
//!
//! Three things end a helper and its effect, each without the others: the end of the lease, by a timer
//! of the kernel; the end of its standard input, which is the end of the agent, however that came; and
//! the end of the target. A fourth is the revert, which kills it by its marker and the fault's id.
//!
//! ```text
//! agent                                     helper
//!   |-- faultline-agent __faultline-helper memory <id> -->|
//!   |-- {"leaseEnd":…, …} ------------------------------->|  arms its timer, enters its cgroup
//!   |<------------------------------- {"ready":{…}} ------|
//!   |-- {"renew":{"leaseEnd":…}} ------------------------>|
//!   |-- (end of file) ----------------------------------->|  takes its effect back, ends
//! ```

mod channel;
mod handle;
pub mod memory;
pub mod stopper;

use std::{env, process::ExitCode, str::FromStr};

use faultline_proto::{boottime::BootTime, id::FaultId};
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};

pub use handle::{Found, Helper, executable, find, kill_left, sweep, use_executable};

use crate::{
    failpoint,
    kernel::{
        container::ContainerRef,
        process::{ProcessId, close_inherited_descriptors},
    },
};

/// The first argument of every helper.
pub const MARKER: &str = "__faultline-helper";

/// What a helper does; its second argument. The third is the fault's id, the
/// fourth the agent that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Holds memory: [`memory`].
    Memory,
    /// Stops processes and continues them: [`stopper`].
    Stopper,
}

impl Kind {
    /// As an argument.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Stopper => "stopper",
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Memory, Self::Stopper].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// What the agent tells a helper that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// The lease ends at another time. Not answered.
    Renew {
        /// When.
        #[serde(rename = "leaseEnd")]
        lease_end: BootTime,
    },
    /// Stop processes, and hold them. Answered by [`Report::Stopped`].
    Stop {
        /// By which signal.
        signal: u8,
        /// Which, each with the container that it must still be in.
        processes: Vec<ProcessId>,
        /// That container.
        container: ContainerRef,
    },
}

/// What a helper tells the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// It is where it should be and its timer is armed: from now on it acts.
    Ready {
        /// What is not as good as it could be, for a log.
        notes: Vec<String>,
    },
    /// To which processes the signal was sent; the others have gone.
    Stopped {
        /// Those.
        sent: Vec<ProcessId>,
    },
    /// It cannot do what it was told, and ends.
    Failed {
        /// Why, with the causes.
        problem: String,
    },
}

/// Does the work of a helper if this process was started as one; otherwise returns `None` at once.
///
/// To be called first thing in `main` of every executable that may be [`executable`], before anything
/// is opened or any thread is started.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() != Some(MARKER) {
        return None;
    }
    let kind = arguments.next().and_then(|kind| kind.parse().ok());
    let id = arguments.next().and_then(|id| id.parse::<FaultId>().ok());
    let (Some(kind), Some(id)) = (kind, id) else { return Some(ExitCode::from(2)) };
    close_inherited_descriptors();
    failpoint::allow_helper();
    Some(match shield().and_then(|()| run(kind, id)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            channel::report(&Report::Failed { problem });
            ExitCode::FAILURE
        }
    })
}

fn run(kind: Kind, id: FaultId) -> Result<(), String> {
    match kind {
        Kind::Memory => memory::run(),
        Kind::Stopper => stopper::run(id),
    }
}

/// Keeps away what ends a process without letting it take its effect back: its ways to end are its
/// standard input and its timer.
fn shield() -> Result<(), String> {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGPIPE,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|e| format!("cannot block signals: {e}"))
}
