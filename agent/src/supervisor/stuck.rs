//! What keeps a node from taking new faults until it is clean or a person has acknowledged it: faults
//! that could not be reverted, and journal files that nobody understands.
//!
//! An acknowledgement changes nothing of what is left, and removes no record: the fault is shown as
//! stuck on, and the next revert, halt or start of the agent tries it again.

use std::{fmt, io};

use faultline_proto::{id::FaultId, status::State};
use thiserror::Error;
use tracing::warn;

use super::node::{Condition, NodeState};
use crate::{
    errors::chain,
    journal::{self, JournalError},
};

/// What a person does about a fault that is stuck.
const TRY_AGAIN: &str = "`faultline halt` tries to revert it once more, `faultline resume` follows";
/// What a person does about a journal file that nobody understands.
const LOOK: &str = "what bears the fault's name has been swept from the kernel; see that no process is \
                    left stopped, then remove the file";

/// Something that is stuck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The fault; `None` for a journal file whose name tells none.
    pub fault_id: Option<FaultId>,
    /// What is left or not understood.
    pub what: String,
    /// What a person can do about it.
    pub way_out: String,
    /// A person has looked at it: it keeps nothing from this node.
    pub acknowledged: bool,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, way_out, .. } = self;
        if self.acknowledged {
            return write!(f, "{what} on this node is stuck and was acknowledged");
        }
        write!(
            f,
            "{what} on this node is stuck; it takes no new faults until that is clean or \
             acknowledged: {way_out}"
        )
    }
}

/// Why a node was not resumed.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// There is nothing stuck by that id. Nothing was changed.
    #[error("fault {id} is not stuck on this node; {}", stuck_there(.stuck))]
    NotStuck {
        /// What was to be acknowledged.
        id: FaultId,
        /// What could be.
        stuck: Vec<FaultId>,
    },
    /// It was asked for too long ago. Nothing was changed.
    #[error("nothing is resumed: whoever asked for it has given up by now")]
    TooLate,
    /// The acknowledgement would not last.
    #[error("cannot acknowledge fault {id}")]
    NotKept {
        /// What was to be acknowledged.
        id: FaultId,
        /// Why not.
        #[source]
        source: JournalError,
    },
    /// The halt would come back with the next start of the agent.
    #[error("cannot remove {path}")]
    StillHalted {
        /// The file that halts the node.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn stuck_there(stuck: &[FaultId]) -> String {
    match stuck {
        [] => "nothing is".into(),
        ids => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("stuck are: {}", ids.join(", "))
        }
    }
}

impl NodeState {
    /// What keeps the node from taking new injections.
    pub(super) fn condition(&mut self) -> Condition {
        Condition { last_halt: self.last_halt, halted: self.halt.clone(), stuck: self.stuck() }
    }

    /// All that is stuck, what was acknowledged included.
    pub(super) fn stuck(&mut self) -> Vec<Stuck> {
        self.unreadable.retain(|path, _| self.journal.still_unreadable(path));
        let files = self.unreadable.iter().map(|(path, why)| {
            let fault_id = journal::id_of(path);
            let accept = fault_id.map(|id| format!(" or leave it there: {}", acknowledge(id)));
            Stuck {
                fault_id,
                what: format!("the journal file {} ({why})", path.display()),
                way_out: format!("{LOOK}{}", accept.unwrap_or_default()),
                acknowledged: fault_id.is_some_and(|id| self.acknowledged.contains(&id)),
            }
        });
        let stuck = self.held.values().filter(|held| held.life.state() == State::Stuck);
        let faults = stuck.map(|held| {
            let id = held.id();
            Stuck {
                fault_id: Some(id),
                what: format!("fault {id} ({})", held.residue.join("; ")),
                way_out: format!("{TRY_AGAIN}; {} takes new faults beside it", acknowledge(id)),
                acknowledged: self.acknowledged.contains(&id),
            }
        });
        files.chain(faults).collect()
    }

    /// Acknowledges what is stuck, and ends a halt: all of it, or nothing where an id is wrong.
    pub(super) fn resume(&mut self, acknowledged: &[FaultId]) -> Result<(), ResumeError> {
        let stuck: Vec<FaultId> = self.stuck().into_iter().filter_map(|s| s.fault_id).collect();
        if let Some(id) = acknowledged.iter().find(|id| !stuck.contains(id)) {
            return Err(ResumeError::NotStuck { id: *id, stuck });
        }
        for id in acknowledged {
            let noted = self.journal.acknowledge(*id);
            noted.map_err(|source| {
                self.metrics.journal_failed();
                ResumeError::NotKept { id: *id, source }
            })?;
            warn!(fault = %id, "acknowledged to be stuck");
            self.acknowledged.insert(*id);
        }
        self.end_halt()
    }

    /// Takes away the record of a fault of which nothing is left, and with it its acknowledgement.
    pub(super) fn forget(&mut self, id: FaultId) -> Result<(), String> {
        self.journal.remove(id).map_err(|e| {
            self.metrics.journal_failed();
            chain(&e)
        })?;
        self.acknowledged.remove(&id);
        Ok(())
    }
}

/// How a person says that something is known to be stuck.
fn acknowledge(id: FaultId) -> String {
    format!("`faultline resume --acknowledge {id}`")
}
