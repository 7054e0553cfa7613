//! What passes between the torture program and its controller, a process of its own: the orders at
//! first, as one JSON line, then what the controller knows, a line for each change of it.

use std::{path::PathBuf, time::Duration};

use faultline::place::{AgentEndpoint, Credentials};
use faultline_proto::{
    boottime::BootTime,
    fault::Fault,
    id::{FaultId, RunId},
    target::Target,
};
use serde::{Deserialize, Serialize};

/// All that a controller is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Script {
    /// The agents.
    pub(super) agents: Vec<AgentEndpoint>,
    /// What to prove itself with.
    pub(super) credentials: Credentials,
    /// The runs, which begin at once.
    pub(super) runs: Vec<Run>,
    /// Where the nodes keep their journals, to look that nothing is left there of what was refused.
    pub(super) journals: Vec<PathBuf>,
}

/// Faults that are injected together or not at all.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// Its id.
    pub(super) id: RunId,
    /// Its faults.
    pub(super) orders: Vec<Order>,
}

/// One fault.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// Its position among all of the round; `None`: one that cannot be injected, on purpose.
    pub(super) index: Option<usize>,
    /// On which node.
    pub(super) node: String,
    /// Its id.
    pub(super) id: FaultId,
    /// On what.
    pub(super) target: Target,
    /// What it is.
    pub(super) fault: Fault,
    /// How long it lives without a renewal.
    pub(super) lease: Duration,
    /// From its Prepare to its latest end.
    pub(super) lifetime: Duration,
    /// What it is changed to, and how long after its Commit.
    pub(super) amend: Option<(Duration, Fault)>,
}

/// What is known of one fault.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Known {
    /// The latest end, once that is chosen.
    pub(super) deadline: Option<BootTime>,
    /// The latest answer's end of the lease; `None` until the commit is answered.
    pub(super) lease_end: Option<BootTime>,
    /// When it was injected, as its agent says.
    pub(super) committed: Option<BootTime>,
    /// A Commit has been sent.
    pub(super) committing: bool,
    /// Requests without an answer: what they asked for may have happened.
    pub(super) open: u32,
    /// An Amend has been sent: what it does may have changed.
    pub(super) amended: bool,
    /// Why it was not injected, if the agent said so.
    pub(super) refused: Option<String>,
    /// Why it was not changed, if the agent said so.
    pub(super) not_amended: Option<String>,
}

/// A line of the controller.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// It is connected, and begins when it is told to.
    Ready,
    /// What it knows of one fault now. Said before a request is sent, and after its answer.
    Known {
        /// Its position among all of the round.
        index: usize,
        /// All that is known.
        known: Known,
    },
    /// Something that must not be.
    Problem(String),
}
