//! Why a fault through the API server cannot be, or could not be taken back.

use std::time::Duration;

use thiserror::Error;

use super::{Object, Undo};
use crate::{cluster::ClusterError, report::utc};

/// What is in the way.
#[derive(Debug, Error)]
pub enum FaultError {
    /// The API server, or who asks.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The object is not as the fault needs it.
    #[error("{0}")]
    Impossible(String),
    /// Another fault is on it.
    #[error(
        "run {} has a {} on {object} until {}; `faultline halt` takes it back at once", .undo.run, .undo.kind,
        deadline(.undo)
    )]
    Foreign {
        /// The object.
        object: Box<Object>,
        /// Its record.
        undo: Box<Undo>,
    },
    /// It bears a record that is not understood.
    #[error("{object}: {why}; a version of Faultline that understands it has to restore it")]
    Unreadable {
        /// The object.
        object: Box<Object>,
        /// What is wrong with the record.
        why: String,
    },
    /// It bears the label of a record, and no record.
    #[error(
        "{object} has the label {}={fault}, and the record that goes with it was removed by somebody else, so that nobody \
         knows what it was before; make it what it should be, then remove the label",
        super::LABEL
    )]
    LostRecord {
        /// The object.
        object: Box<Object>,
        /// The fault that the label names.
        fault: String,
    },
    /// What a fault has left beside it is being removed.
    #[error(
        "what the fault {fault} has left beside {object} is being removed still; `faultline halt` tells what it is"
    )]
    Swept {
        /// The object.
        object: Box<Object>,
        /// The fault.
        fault: String,
    },
    /// Somebody changes it all the time.
    #[error("{object} was changed by somebody else each time it was to be written")]
    Contended {
        /// The object.
        object: Box<Object>,
    },
}

impl FaultError {
    /// Whether nobody knows what was done: it was asked for, and the answer did not come.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Cluster(
                ClusterError::Unreachable { .. }
                    | ClusterError::NoAnswer { .. }
                    | ClusterError::Nonsense { .. }
            )
        )
    }

    /// Whether it makes sense to try again.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Cluster(error) => !error.is_final(),
            Self::Contended { .. } => true,
            Self::Impossible(_)
            | Self::Foreign { .. }
            | Self::Unreadable { .. }
            | Self::LostRecord { .. }
            | Self::Swept { .. } => false,
        }
    }
}

/// When a fault is taken back at the latest, for a person.
pub(super) fn deadline(undo: &Undo) -> String {
    utc(Duration::from_millis(undo.deadline_unix_ms))
}
