//! What becomes of targets that are followed, for the program and for a person.

use std::fmt;

use super::PlanError;
use crate::place::Pod;

/// Something that became of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A pod has gone; its place may be taken.
    Gone {
        /// The target's name.
        target: String,
        /// The pod.
        pod: Pod,
    },
    /// A pod no longer matches.
    Left {
        /// The target's name.
        target: String,
        /// The pod.
        pod: Pod,
    },
    /// A new pod is a target.
    Came {
        /// The target's name.
        target: String,
        /// The pod.
        pod: Pod,
        /// Whose place it takes.
        instead_of: Option<String>,
    },
    /// A new pod would be a target, and a limit of the experiment is in the way.
    KeptOut {
        /// The target's name.
        target: String,
        /// The pod.
        pod: Pod,
        /// The limit.
        why: PlanError,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { target, pod } => write!(f, "{target}: {} has gone", pod.target()),
            Self::Left { target, pod } => write!(f, "{target}: {} no longer matches", pod.target()),
            Self::Came { target, pod, instead_of: None } => {
                write!(f, "{target}: {} on {} is new and matches", pod.target(), pod.node)
            }
            Self::Came { target, pod, instead_of: Some(old) } => {
                let node = &pod.node;
                write!(f, "{target}: a new {} on {node} takes the place of {old}", pod.target())
            }
            Self::KeptOut { target, pod, why } => {
                write!(f, "{target}: {} on {} is not followed: {why}", pod.target(), pod.node)
            }
        }
    }
}
