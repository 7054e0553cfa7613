//! What can go wrong with a sandbox, in the words of whoever asked for one.

use std::{error::Error, fmt::Write as _, io, path::PathBuf, time::Duration};

use thiserror::Error;

/// Why there is no sandbox.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// Namespaces belong to threads: they are changed before there is a second one.
    #[error("the sandbox must be entered before any thread is started, and there are {threads}")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// The system does not let this user make namespaces.
    #[error("this system does not allow the sandbox's namespaces: {why}; {advice}")]
    NotAllowed {
        /// What is in the way.
        why: String,
        /// What to do about it.
        advice: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The specification does not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The runtime directory is not one that can be trusted with keys.
    #[error("{} is not a private directory of this user; remove it, or set XDG_RUNTIME_DIR", path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
    },
    /// A step of building it failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A node, a pod or an agent failed while the sandbox was being built.
    #[error("{what}{}", tail(.log))]
    Failed {
        /// What happened.
        what: String,
        /// The last lines of its log; empty if there are none.
        log: String,
    },
    /// It took too long.
    #[error("the sandbox was not ready within {within:?}; still missing: {}{}", .missing.join(", "), tail(.log))]
    NotReady {
        /// What was waited for.
        missing: Vec<String>,
        /// For how long.
        within: Duration,
        /// The last lines of the log of the first that is missing; empty if there are none.
        log: String,
    },
    /// The identities could not be made.
    #[error("failed to make throw-away certificates")]
    Identity(#[from] rcgen::Error),
}

/// Why a sandbox cannot be laid out as its specification says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// Too few or too many nodes.
    #[error("a sandbox has from 1 to {max} nodes, not {nodes}")]
    Nodes {
        /// How many were asked for.
        nodes: u32,
        /// How many there can be.
        max: u32,
    },
    /// A pod is to run on a node that there is not.
    #[error("pod {pod} is to run on `{node}`, but the nodes are node1 to node{nodes}")]
    UnknownNode {
        /// The pod.
        pod: String,
        /// The node named.
        node: String,
        /// How many nodes there are.
        nodes: u32,
    },
    /// More pods on one node than addresses.
    #[error("more than {max} pods on {node}")]
    NodeFull {
        /// The node.
        node: String,
        /// How many fit.
        max: u8,
    },
    /// Two pods have one name.
    #[error("there are two pods {namespace}/{name}")]
    Twice {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// A pod's command is empty.
    #[error("the command of pod {pod} is empty")]
    NoCommand {
        /// The pod.
        pod: String,
    },
}

/// A step that failed: what was tried, and what the system said.
#[derive(Debug, Error)]
#[error("failed to {step}")]
pub struct StepError {
    /// What was tried: `mount /proc`.
    pub step: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Says what was tried, where something failed.
pub(super) trait Step<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, StepError>;
}

impl<T, E: IntoIo> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|error| StepError { step: step(), source: error.into_io() })
    }
}

/// What the system said, in one type.
pub(super) trait IntoIo {
    fn into_io(self) -> io::Error;
}

impl IntoIo for io::Error {
    fn into_io(self) -> io::Error {
        self
    }
}

impl IntoIo for nix::Error {
    fn into_io(self) -> io::Error {
        self.into()
    }
}

impl IntoIo for serde_json::Error {
    fn into_io(self) -> io::Error {
        self.into()
    }
}

impl IntoIo for getrandom::Error {
    fn into_io(self) -> io::Error {
        self.raw_os_error()
            .map_or_else(|| io::Error::other(self.to_string()), io::Error::from_raw_os_error)
    }
}

impl IntoIo for rtnetlink::Error {
    fn into_io(self) -> io::Error {
        match self {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other),
        }
    }
}

/// An error and everything behind it, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").expect("a String takes any text");
        source = error.source();
    }
    text
}

fn tail(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("\nits log ends:\n{log}") }
}
