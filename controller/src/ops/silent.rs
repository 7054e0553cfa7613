//! Nodes without an agent: of what is injected there nobody says anything, and that is said.

use super::{Overview, Unreachable};
use crate::{agents::AgentError, place::Place, run::one_line};

/// What is to be said of them.
#[derive(Debug, Default)]
pub(super) struct Silent {
    /// An agent should be there.
    errors: Vec<AgentError>,
    /// None is meant to be there, or it is not known.
    notes: Vec<String>,
}

impl Silent {
    /// As those who ask every agent tell it; `needs_halt`: they were to be halted.
    pub(super) fn told(self, needs_halt: bool) -> Overview {
        let unreachable = |error| Unreachable { needs_halt, ..Unreachable::new(error, None) };
        let unreachable = self.errors.iter().map(unreachable).collect();
        Overview { unreachable, notes: self.notes, ..Overview::default() }
    }
}

/// Looks for them, where the place is a cluster with an installation.
pub(super) async fn silent(place: &Place) -> Silent {
    let mut silent = Silent::default();
    let Some(cluster) = place.cluster().filter(|cluster| cluster.installation().is_ok()) else {
        return silent;
    };
    match cluster.nodes_without_agent().await {
        Ok(nodes) => {
            let missing = nodes.missing.into_iter();
            silent.errors = missing
                .map(|node| AgentError::Missing { why: Some(cluster.why_no_agent(&node)), node })
                .collect();
            let left_out = nodes.left_out.iter();
            silent.notes = left_out
                .map(|node| format!("{node} was not asked: the installation leaves it out"))
                .collect();
        }
        Err(error) => {
            let why = one_line(&error);
            silent.notes.push(format!("whether every node has an agent is not known: {why}"));
        }
    }
    silent
}
