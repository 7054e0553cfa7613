//! Waiting until every agent answers: not only until Kubernetes calls its pod ready.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use tokio::time::sleep;

use super::{
    super::{
        Cluster, ClusterChoice,
        connect::Connection,
        error::{Asked, ClusterError},
        names::AGENT,
    },
    Progress,
    error::InstallError,
    settings::Settings,
};
use crate::{agents::Fleet, place::Credentials, run::one_line};

/// How long to wait between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long the `DaemonSet` may have no node before that is believed.
const NO_NODE_MAX: Duration = Duration::from_secs(5);

/// How far a `DaemonSet` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RollOut {
    /// Nodes that should have an agent.
    wanted: usize,
    /// Those whose pod is of the newest template and ready.
    ready: usize,
}

/// Who is waited for, and until when.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    pub(super) connection: &'a Connection,
    pub(super) choice: &'a ClusterChoice,
    pub(super) settings: &'a Settings,
    pub(super) began: Instant,
    pub(super) timeout: Duration,
}

impl Wait<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() >= self.timeout
    }

    /// Waits until every node that should have an agent has one of the newest template that answers.
    pub(super) async fn for_agents(&self, progress: Progress<'_>) -> Result<Cluster, InstallError> {
        let mut told = String::new();
        let mut tell = |text: String| {
            if text != told {
                progress(&text);
                told = text;
            }
        };
        let roll_out = loop {
            match self.rolled_out().await? {
                Some(RollOut { wanted: 0, .. }) if self.began.elapsed() > NO_NODE_MAX => {
                    let selector = self.settings.node_selector.iter();
                    let selector = selector.map(|(label, value)| format!("{label}={value}"));
                    let selector = selector.collect::<Vec<_>>().join(",");
                    return Err(InstallError::NoNodes { selector });
                }
                Some(RollOut { wanted, ready }) if wanted > 0 => {
                    tell(format!("{ready} of {wanted} agents are ready"));
                    if ready == wanted {
                        break RollOut { wanted, ready };
                    }
                }
                _ => {}
            }
            if self.is_over() {
                return Err(self.not_ready().await?);
            }
            sleep(LOOK_EVERY).await;
        };
        let cluster = Cluster::connect(&self.installation()).await?;
        let credentials = cluster.credentials().await?;
        loop {
            let (answering, mut why) = answering(&cluster, &credentials).await;
            tell(format!("{} of {} agents answer", answering.len(), roll_out.wanted));
            if answering.len() >= roll_out.wanted && why.is_empty() {
                return Ok(cluster);
            }
            if self.is_over() {
                why.sort();
                return Err(InstallError::NotReady { within: self.timeout, why });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the controller runs. Where it does not in time, the diagnosis at the end says so.
    pub(super) async fn for_controller(
        &self,
        cluster: &Cluster,
        progress: Progress<'_>,
    ) -> Result<(), ClusterError> {
        let mut told = String::new();
        loop {
            let (runs, text) = cluster.controller().await?;
            if runs || self.is_over() {
                return Ok(());
            }
            if text != told {
                progress(&format!("the controller: {text}"));
                told = text;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The installation that is waited for, to be connected to.
    pub(super) fn installation(&self) -> ClusterChoice {
        let installation = Some(self.settings.namespace.clone());
        ClusterChoice { installation, ..self.choice.clone() }
    }

    /// How far it has come; `None` while the newest template has not been looked at.
    async fn rolled_out(&self) -> Result<Option<RollOut>, ClusterError> {
        let namespace = &self.settings.namespace;
        let api: Api<DaemonSet> = Api::namespaced(self.connection.client(), namespace);
        let asked = Asked::new("get", "daemonsets.apps").within(namespace).named(AGENT);
        let set = self.connection.answer(asked, api.get(AGENT)).await?;
        let Some(status) = set.status else { return Ok(None) };
        if status.observed_generation.unwrap_or(0) < set.metadata.generation.unwrap_or(0) {
            return Ok(None);
        }
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        let wanted = count(status.desired_number_scheduled);
        let updated = count(status.updated_number_scheduled.unwrap_or(0));
        Ok(Some(RollOut { wanted, ready: updated.min(count(status.number_ready)) }))
    }

    /// Which node waits for what.
    async fn not_ready(&self) -> Result<InstallError, ClusterError> {
        let why = match Cluster::connect(&self.installation()).await {
            Ok(cluster) if cluster.installation().is_err() => vec!["no pod has been made".into()],
            Ok(cluster) => cluster.agents_not_ready(),
            Err(error) => return Err(error),
        };
        Ok(InstallError::NotReady { within: self.timeout, why })
    }
}

/// The nodes whose agents answer, and why others do not.
pub(super) async fn answering(
    cluster: &Cluster,
    credentials: &Credentials,
) -> (BTreeSet<String>, Vec<String>) {
    let (fleet, errors) = Fleet::connect_some(&cluster.agents(), credentials).await;
    let answering = fleet.agents().map(|agent| agent.node().to_owned()).collect();
    (answering, errors.iter().map(|error| one_line(error)).collect())
}
