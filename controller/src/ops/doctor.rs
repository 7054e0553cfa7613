//! Whether a place is as it should be: every node's agent, its kernel, its clock, and what is left on it.

use std::{collections::BTreeSet, time::Duration};

use faultline_proto::{pb, status::State};
use serde::Serialize;

use super::{Refused, Stuck, api};
use crate::{
    agents::{ANSWER_MAX, Agent, Fleet},
    cluster::{Checkup, Health},
    place::{CredentialsError, Place},
    report::{counted, millis, time},
};

/// The version of this program, with which agents should agree.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// The version of this program.
    pub version: &'static str,
    /// What it is.
    pub place: String,
    /// The nodes whose agents answer.
    pub nodes: Vec<NodeHealth>,
    /// Nodes whose agent does not answer, or that should have one and have none, and why.
    pub without_agent: Vec<Refused>,
    /// What was changed through the API server and should have been taken back.
    pub overdue: Vec<String>,
    /// What there is to say of the cluster, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Checkup>,
}

/// A node whose agent answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeHealth {
    /// The node.
    pub node: String,
    /// The version of its agent.
    pub agent_version: String,
    /// Its kernel's release, as `uname -r` says it.
    pub kernel_release: String,
    /// `v1`, `v2` or `none`: where the memory controller is.
    pub cgroup_version: String,
    /// Pods whose processes its agent sees.
    pub pods_seen: u32,
    /// What its kernel has, of what faults need.
    pub features: Vec<String>,
    /// What it has not.
    pub missing_features: Vec<MissingFeature>,
    /// How well its clock is known from here.
    pub clock_uncertainty_ms: f64,
    /// The shortest round trip to its agent.
    pub round_trip_ms: f64,
    /// Why it is halted, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
    /// What could not be reverted.
    pub stuck: Vec<String>,
    /// What is left of faults that have ended.
    pub residue: Vec<String>,
    /// Faults that are in effect now.
    pub active: usize,
}

/// Something that faults need and that a kernel does not have.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingFeature {
    /// Its name.
    pub name: String,
    /// Why, and what does not work without it.
    pub detail: String,
}

/// Looks at every node.
///
/// # Errors
/// When the controller's credentials cannot be read.
pub async fn doctor(place: &Place) -> Result<Diagnosis, CredentialsError> {
    let (fleet, errors) = Fleet::connect_some(&place.agents(), &place.credentials().await?).await;
    let mut lists = fleet.list(ANSWER_MAX).await;
    let mut without_agent: Vec<Refused> = errors.iter().map(Refused::new).collect();
    let mut nodes = Vec::new();
    for agent in fleet.agents() {
        match lists.remove(agent.node()) {
            Some(Ok(held)) => nodes.push(NodeHealth::of(agent, &held)),
            Some(Err(error)) => without_agent.push(Refused::new(&error)),
            None => {}
        }
    }
    let mut overdue = Vec::new();
    let cluster = match place.cluster() {
        None => None,
        Some(cluster) => {
            let (mut checkup, found) = tokio::join!(cluster.check_up(), api::overdue(cluster));
            overdue = found.0;
            checkup.unknown.extend(found.1);
            let known: BTreeSet<&str> = nodes
                .iter()
                .map(|node| node.node.as_str())
                .chain(without_agent.iter().map(|refused| refused.node.as_str()))
                .collect();
            let without: Vec<Refused> = checkup
                .nodes_for_agents
                .iter()
                .filter(|node| !known.contains(node.as_str()))
                .map(|node| Refused { node: node.clone(), reason: cluster.why_no_agent(node) })
                .collect();
            without_agent.extend(without);
            Some(checkup)
        }
    };
    without_agent.sort_by(|a, b| a.node.cmp(&b.node));
    let place = place.describe();
    Ok(Diagnosis { version: VERSION, place, nodes, without_agent, overdue, cluster })
}

impl NodeHealth {
    fn of(agent: &Agent, held: &[pb::InjectionStatus]) -> Self {
        let said = agent.description();
        let (features, missing) =
            said.features.iter().cloned().partition::<Vec<_>, _>(|feature| feature.available);
        let of_state = |wanted: fn(State) -> bool| {
            held.iter().filter(move |status| State::from_wire(status.state).is_some_and(wanted))
        };
        let cgroup_version = match said.cgroup_version() {
            pb::CgroupVersion::V1 => "v1",
            pb::CgroupVersion::V2 => "v2",
            pb::CgroupVersion::None => "none",
            pb::CgroupVersion::Unspecified => "unknown",
        };
        Self {
            node: agent.node().into(),
            agent_version: said.agent_version.clone(),
            kernel_release: said.kernel_release.clone(),
            cgroup_version: cgroup_version.into(),
            pods_seen: said.pods_seen,
            features: features.into_iter().map(|feature| feature.name).collect(),
            missing_features: missing
                .into_iter()
                .map(|feature| MissingFeature { name: feature.name, detail: feature.detail })
                .collect(),
            clock_uncertainty_ms: millis(agent.clock().uncertainty()),
            round_trip_ms: millis(agent.clock().rtt()),
            halted: said.halted_reason.clone(),
            stuck: Stuck::of(agent).map(|stuck| stuck.reason).collect(),
            residue: of_state(|state| state != State::Active)
                .flat_map(|status| status.residue.iter().cloned())
                .collect(),
            active: of_state(|state| matches!(state, State::Injecting | State::Active)).count(),
        }
    }

    /// What is not as it should be, in sentences, apart from residue.
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.agent_version != VERSION {
            let version = &self.agent_version;
            complaints.push(format!(
                "its agent is version {version}, and this is {VERSION}: `faultline install` brings agents up to date"
            ));
        }
        for MissingFeature { name, detail } in &self.missing_features {
            complaints.push(format!("{name} is missing: {detail}"));
        }
        if let Some(reason) = &self.halted {
            complaints.push(format!("halted ({reason}): `faultline resume` allows faults again"));
        }
        complaints
    }

    fn line(&self) -> String {
        let left = |ms: f64| time(Duration::from_secs_f64(ms / 1e3));
        let mut line = format!(
            "agent {}, Linux {}, cgroups {}, {} seen, clock ± {}",
            self.agent_version,
            self.kernel_release,
            self.cgroup_version,
            counted(usize::try_from(self.pods_seen).unwrap_or(usize::MAX), "pod"),
            left(self.clock_uncertainty_ms),
        );
        if self.active > 0 {
            line.extend([", ", counted(self.active, "fault").as_str(), " in effect"]);
        }
        line
    }
}

impl Diagnosis {
    /// Whether something may be left in a kernel, or in the cluster.
    pub fn has_residue(&self) -> bool {
        !self.overdue.is_empty()
            || self.nodes.iter().any(|node| !node.stuck.is_empty() || !node.residue.is_empty())
    }

    /// Whether nothing is missing.
    pub fn is_well(&self) -> bool {
        self.without_agent.is_empty()
            && self.nodes.iter().all(|node| node.complaints().is_empty())
            && self.cluster.as_ref().is_none_or(Health::is_well)
    }

    /// For a person.
    pub fn text(&self) -> String {
        let width = self.nodes.iter().map(|node| node.node.len()).max().unwrap_or(0);
        let mut lines = vec![self.place.clone()];
        for node in &self.nodes {
            lines.push(format!("  {:<width$}  {}", node.node, node.line()));
            let bad = node.complaints().into_iter();
            let stuck = node.stuck.iter().map(|reason| format!("stuck: {reason}"));
            let left = node.residue.iter().map(|residue| format!("left: {residue}"));
            lines.extend(bad.chain(stuck).chain(left).map(|text| format!("      {text}")));
        }
        for Refused { node, reason } in &self.without_agent {
            lines.push(format!("  {node:<width$}  no agent that answers: {reason}"));
        }
        lines.extend(self.overdue.iter().map(|text| format!("  left: {text}")));
        if let Some(cluster) = &self.cluster {
            lines.extend(cluster.lines().into_iter().map(|line| format!("  {line}")));
        }
        lines.push(match (self.has_residue(), self.is_well()) {
            (true, _) => "a revert could not be proven somewhere".into(),
            (false, false) => "something is missing".into(),
            (false, true) => format!("all is well on {}", counted(self.nodes.len(), "node")),
        });
        lines.into_iter().map(|line| line + "\n").collect()
    }
}
