//! What is asked of agents outside of a run: what is injected now, halt and resume.
//!
//! These work while some agents cannot be reached, and say which, and until when at most their faults
//! last: an operator in a hurry must not be held up by the node that is down.

mod api;
mod doctor;
mod overview;
mod silent;
mod unreachable;

use std::collections::BTreeMap;

use faultline_proto::{id::FaultId, status::State};
use serde::Serialize;
use thiserror::Error;

pub use doctor::{Diagnosis, MissingFeature, NodeHealth, doctor};
pub use overview::{Halted, Injected, Overview, Refused, Stuck};
pub use unreachable::{FaultsEnd, Unreachable};

use crate::{
    agents::{ANSWER_MAX, Agent, AgentError, ByNode, Fleet},
    place::{CredentialsError, Place},
    run::one_line,
};
use overview::overview;

/// The agents of a place, as far as they can be reached. Where there are none, nobody has to be able to.
async fn agents(place: &Place) -> Result<(Fleet, Vec<AgentError>), CredentialsError> {
    let endpoints = place.agents();
    if endpoints.is_empty() {
        return Ok((Fleet::default(), Vec::new()));
    }
    Ok(Fleet::connect_some(&endpoints, &place.credentials().await?).await)
}

/// What is injected right now, on every node and through the API server, and until when.
///
/// # Errors
/// When the controller's credentials cannot be read.
pub async fn ps(place: &Place) -> Result<Overview, CredentialsError> {
    let (overview, api, silent) =
        tokio::join!(Box::pin(ps_agents(place)), api::ps(place), silent::silent(place));
    let mut overview = overview?;
    overview.extend(api);
    overview.extend(silent.told(false));
    Ok(overview)
}

async fn ps_agents(place: &Place) -> Result<Overview, CredentialsError> {
    let (fleet, errors) = agents(place).await?;
    let answers = fleet.list(ANSWER_MAX).await;
    let wanted = |state| state != Some(State::Reverted);
    Ok(overview(&fleet, answers, &errors, &BTreeMap::new(), wanted))
}

/// Reverts everything everywhere, and has the agents refuse new injections until they are resumed.
///
/// # Errors
/// When the controller's credentials cannot be read.
pub async fn halt(place: &Place, reason: &str) -> Result<Overview, CredentialsError> {
    // No node waits for what is said of another.
    let (overview, api, silent) = tokio::join!(
        Box::pin(halt_agents(place, reason)),
        Box::pin(api::halt(place, reason)),
        silent::silent(place)
    );
    let mut overview = overview?;
    overview.extend(api);
    overview.extend(silent.told(true));
    Ok(overview)
}

async fn halt_agents(place: &Place, reason: &str) -> Result<Overview, CredentialsError> {
    let (fleet, errors) = agents(place).await?;
    // Asked in the same moment: an agent that falls silent over the halt may still say what it holds.
    let (held, answers) = tokio::join!(fleet.list(ANSWER_MAX), fleet.halt(reason));
    let mut overview = overview(&fleet, answers, &errors, &held, |_| true);
    let has_answered = |node: &str| {
        !overview.unreachable.iter().any(|unreachable| unreachable.node == node)
            && !overview.refused.iter().any(|refused| refused.node == node)
    };
    let halted = fleet.agents().map(Agent::node).filter(|node| has_answered(node));
    overview.halted =
        halted.map(|node| Halted { node: node.into(), reason: reason.into() }).collect();
    // What was stuck has just been tried again: the answer names what is left of it.
    let injections = &overview.injections;
    overview.stuck.retain(|stuck| {
        !injections.iter().any(|i| i.node == stuck.node && i.fault_id == stuck.fault_id)
    });
    for unreachable in &mut overview.unreachable {
        unreachable.needs_halt = true;
    }
    Ok(overview)
}

/// Halts every node for good: its agent is about to be removed, and takes away what it keeps there when it ends.
/// Returns the nodes that did not say that they will, and why.
///
/// # Errors
/// When the controller's credentials cannot be read.
pub async fn halt_for_good(place: &Place, reason: &str) -> Result<Vec<Refused>, CredentialsError> {
    let (fleet, errors) = Fleet::connect_some(&place.agents(), &place.credentials().await?).await;
    let answers = fleet.halt_for_good(reason).await;
    let failed = answers.values().filter_map(|answer| answer.as_ref().err());
    Ok(errors.iter().chain(failed).map(Refused::new).collect())
}

/// What came of resuming every node.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resumed {
    /// Nodes that take new faults again, as far as a halt is concerned.
    pub resumed: Vec<String>,
    /// Nodes that do not, and why.
    pub not_resumed: Vec<Refused>,
    /// What keeps a node from taking new faults all the same: it is stuck, and was not acknowledged.
    pub still_stuck: Vec<Stuck>,
}

impl Resumed {
    /// For a person; what was not resumed is not in it.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.not_resumed.is_empty() {
            lines.push("resumed on every node".to_owned());
        } else if !self.resumed.is_empty() {
            lines.push(format!("resumed on {}", self.resumed.join(", ")));
        }
        for Stuck { node, reason, .. } in &self.still_stuck {
            lines.push(format!("{node} still takes no new faults: {reason}"));
        }
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

/// Why no node was resumed.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// The controller's credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There is nothing stuck by an id that is to be acknowledged.
    #[error("fault {id} is not stuck on any node that was asked; {}", known(.stuck, .not_asked))]
    NotStuck {
        /// That id.
        id: FaultId,
        /// What is stuck, as `<fault id> on <node>`.
        stuck: Vec<String>,
        /// Nodes that could not be asked.
        not_asked: Vec<String>,
    },
}

fn known(stuck: &[String], not_asked: &[String]) -> String {
    let stuck = if stuck.is_empty() { "nothing is".into() } else { stuck.join(", ") + " is" };
    match not_asked {
        [] => stuck,
        nodes => format!("{stuck}; {} could not be asked", nodes.join(", ")),
    }
}

/// Allows new injections again, and has the nodes with what is stuck of `acknowledged` take them
/// beside it.
///
/// # Errors
/// When the controller's credentials cannot be read, or one of the ids is not stuck anywhere. Nothing
/// was changed then.
pub async fn resume(place: &Place, acknowledged: &[FaultId]) -> Result<Resumed, ResumeError> {
    let (fleet, errors) = agents(place).await?;
    let acknowledged = by_node(&fleet, &errors, acknowledged)?;
    let mut resumed = Resumed::default();
    for (node, answer) in fleet.resume_beside(&acknowledged).await {
        match answer {
            Ok(()) => resumed.resumed.push(node),
            Err(error) => resumed.not_resumed.push(Refused::new(&error)),
        }
    }
    resumed.not_resumed.extend(errors.iter().map(Refused::new));
    Box::pin(api::resume(place, &mut resumed)).await;
    for agent in fleet.agents() {
        let now = acknowledged.get(agent.node()).map(Vec::as_slice).unwrap_or_default();
        let stuck = Stuck::of(agent);
        let stuck = stuck.filter(|stuck| !stuck.acknowledged && !now.contains(&stuck.fault_id));
        resumed.still_stuck.extend(stuck);
    }
    Ok(resumed)
}

/// Resumes the nodes that are halted for just this reason, and returns them. Others stay as they are.
///
/// # Errors
/// When the controller's credentials cannot be read.
pub async fn resume_halted_for(
    place: &Place,
    reason: &str,
) -> Result<Vec<String>, CredentialsError> {
    let mut resumed = api::resume_halted_for(place, reason).await;
    let (fleet, _unreachable) = agents(place).await?;
    let is_meant = |agent: &&Agent| agent.description().halted_reason.as_deref() == Some(reason);
    let halted: Vec<&str> = fleet.agents().filter(is_meant).map(Agent::node).collect();
    if halted.is_empty() {
        return Ok(resumed);
    }
    let mut endpoints = place.agents();
    endpoints.retain(|endpoint| halted.contains(&endpoint.node.as_str()));
    let (fleet, _gone) = Fleet::connect_some(&endpoints, &place.credentials().await?).await;
    let answers = fleet.resume_beside(&BTreeMap::new()).await;
    resumed.extend(answers.into_iter().filter_map(|(node, answer)| answer.ok().map(|()| node)));
    Ok(resumed)
}

/// Which of the faults is stuck where.
fn by_node(
    fleet: &Fleet,
    errors: &[AgentError],
    acknowledged: &[FaultId],
) -> Result<ByNode<String>, ResumeError> {
    let mut by_node: ByNode<String> = BTreeMap::new();
    let stuck = || {
        let agents = fleet.agents();
        agents.flat_map(|agent| agent.description().stuck.iter().map(move |s| (agent.node(), s)))
    };
    for id in acknowledged {
        let text = id.to_string();
        let nodes = stuck().filter(|(_, stuck)| stuck.fault_id == text).map(|(node, _)| node);
        let nodes: Vec<&str> = nodes.collect();
        if nodes.is_empty() {
            let stuck = stuck().map(|(node, stuck)| format!("{} on {node}", stuck.fault_id));
            let not_asked = errors.iter().map(|error| error.node().to_owned()).collect();
            return Err(ResumeError::NotStuck { id: *id, stuck: stuck.collect(), not_asked });
        }
        for node in nodes {
            by_node.entry(node.to_owned()).or_default().push(text.clone());
        }
    }
    Ok(by_node)
}

impl Refused {
    fn new(error: &AgentError) -> Self {
        Self { node: error.node().into(), reason: one_line(error) }
    }
}
