//! What `doctor` has to say of a cluster: its version, which nodes should have an agent, what this user may not do, and
//! how long the certificates are valid.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::Node,
};
use kube::{Api, api::ListParams};
use serde::Serialize;

use super::{
    Cluster,
    error::{Asked, ClusterError},
    identity,
    install::missing_access,
    names::{AGENT, AGENT_SECRET, CONTROLLER},
};
use crate::{
    pki::{Validity, renewal_due, validity},
    report::utc,
    run::one_line,
};

/// What was found out about a cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkup {
    /// The version of the API server.
    pub server_version: String,
    /// The namespace that Faultline is installed in.
    pub installation: String,
    /// The nodes that should have an agent.
    pub nodes_for_agents: Vec<String>,
    /// Nodes that have none, since the installation leaves them out.
    pub nodes_left_out: Vec<String>,
    /// How the controller in the cluster is; no fault on a node needs it.
    pub controller: String,
    /// Whether it runs: without it, nobody takes back what a run that has gone changed through the API server.
    pub controller_runs: bool,
    /// A change of the certificate authority has begun and is not over: the old one is trusted still.
    pub is_authority_changing: bool,
    /// Certificates, and until when they are valid.
    pub certificates: Vec<Certificate>,
    /// What this user may not do, of what a run takes.
    pub missing_access: Vec<String>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
}

/// A certificate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Whose.
    pub of: &'static str,
    /// Until when it is valid: seconds since the beginning of 1970.
    pub not_after_unix_s: u64,
    /// Whether it is in the last third of its time, or over.
    pub is_due: bool,
}

/// Whether something is as it should be.
pub trait Health {
    /// Whether it is.
    fn is_well(&self) -> bool;
}

impl Health for Checkup {
    fn is_well(&self) -> bool {
        self.missing_access.is_empty()
            && self.certificates.iter().all(|one| !one.is_due)
            && self.controller_runs
            && !self.is_authority_changing
            && self.unknown.is_empty()
    }
}

impl Checkup {
    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "Kubernetes {}; Faultline is in namespace {}",
            self.server_version, self.installation
        )];
        lines.push(format!("the controller: {}", self.controller));
        for node in &self.nodes_left_out {
            lines.push(format!("{node} has no agent: the installation leaves it out"));
        }
        for Certificate { of, not_after_unix_s, is_due } in &self.certificates {
            let until = utc(std::time::Duration::from_secs(*not_after_unix_s));
            let due = if *is_due { "; `faultline install` renews it" } else { "" };
            lines.push(format!("the certificate of the {of} is valid until {until}{due}"));
        }
        if self.is_authority_changing {
            lines.push(
                "a change of the authority is not over, and the old one is trusted still; `faultline install` ends it"
                    .into(),
            );
        }
        lines.extend(self.missing_access.iter().map(|asked| format!("this user may not {asked}")));
        lines.extend(self.unknown.iter().map(|why| format!("not known: {why}")));
        lines
    }
}

/// Nodes of which no agent says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WithoutAgent {
    /// There should be one.
    pub missing: Vec<String>,
    /// None is meant to be there.
    pub left_out: Vec<String>,
}

impl Cluster {
    /// Looks at the cluster. What cannot be found out is said in its place.
    pub async fn check_up(&self) -> Checkup {
        let mut unknown = Vec::new();
        let mut known = |error: ClusterError| unknown.push(one_line(&error));
        let connection = &self.connection;
        let asked = Asked::new("get", "/version");
        let version = connection.answer(asked, connection.client().apiserver_version()).await;
        let server_version = match version {
            Ok(version) => version.git_version,
            Err(error) => {
                known(error);
                "of an unknown version".into()
            }
        };
        let (nodes_for_agents, nodes_left_out) =
            self.nodes_by_selector().await.unwrap_or_else(|error| {
                known(error);
                (Vec::new(), Vec::new())
            });
        let (controller_runs, controller) = self.controller().await.unwrap_or_else(|error| {
            known(error);
            (false, "not known".into())
        });
        let missing = missing_access(connection, self.needed()).await.unwrap_or_else(|error| {
            known(error);
            Vec::new()
        });
        let (certificates, is_authority_changing) = self.certificates().await;
        Checkup {
            server_version,
            installation: self.installation().unwrap_or_else(|_none| "nowhere".into()),
            nodes_for_agents,
            nodes_left_out,
            controller,
            controller_runs,
            is_authority_changing,
            certificates,
            missing_access: missing.iter().map(ToString::to_string).collect(),
            unknown,
        }
    }

    /// What a run takes of a user.
    fn needed(&self) -> Vec<Asked> {
        let mut needed: Vec<Asked> = ["list", "watch"].map(|verb| Asked::new(verb, "pods")).into();
        needed.push(Asked::new("list", "nodes"));
        needed.push(Asked::new("create", "pods/exec"));
        if let (false, Ok(installation)) = (self.connection.is_inside(), self.installation()) {
            needed.push(Asked::new("create", "pods/portforward").within(&installation));
        }
        needed
    }

    /// Whether the controller runs, and in words.
    ///
    /// # Errors
    /// When it is not told.
    pub(super) async fn controller(&self) -> Result<(bool, String), ClusterError> {
        let namespace = &self.installation()?;
        let api: Api<Deployment> = Api::namespaced(self.connection.client(), namespace);
        let asked = Asked::new("get", "deployments.apps").within(namespace).named(CONTROLLER);
        let Some(deployment) = self.connection.answer(asked, api.get_opt(CONTROLLER)).await? else {
            return Ok((false, "is not installed".into()));
        };
        let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let available = deployment.status.and_then(|status| status.available_replicas).unwrap_or(0);
        let runs = available >= 1 && available >= wanted;
        let text = if runs {
            "runs".into()
        } else {
            format!(
                "{available} of {wanted} run; `kubectl -n {namespace} describe deployment {CONTROLLER}` says more"
            )
        };
        Ok((runs, text))
    }

    /// The nodes that should have an agent and have none that runs, and those that the installation leaves out.
    ///
    /// # Errors
    /// When this user may not see the nodes.
    pub async fn nodes_without_agent(&self) -> Result<WithoutAgent, ClusterError> {
        let (mut missing, mut left_out) = self.nodes_by_selector().await?;
        let agents = self.agents();
        let has_none = |node: &String| !agents.iter().any(|agent| agent.node == *node);
        missing.retain(has_none);
        left_out.retain(has_none);
        Ok(WithoutAgent { missing, left_out })
    }

    /// The nodes that should have an agent, and the others.
    async fn nodes_by_selector(&self) -> Result<(Vec<String>, Vec<String>), ClusterError> {
        let (connection, namespace) = (&self.connection, &self.installation()?);
        let sets: Api<DaemonSet> = Api::namespaced(connection.client(), namespace);
        let asked = Asked::new("get", "daemonsets.apps").within(namespace).named(AGENT);
        let set = connection.answer(asked, sets.get(AGENT)).await?;
        let spec = set.spec.and_then(|spec| spec.template.spec);
        let selector = spec.and_then(|spec| spec.node_selector).unwrap_or_default();
        let nodes: Api<Node> = Api::all(connection.client());
        let params = ListParams::default();
        let list = connection.answer(Asked::new("list", "nodes"), nodes.list(&params)).await?;
        let (with, without): (Vec<Node>, Vec<Node>) =
            list.items.into_iter().partition(|node| is_selected(node, &selector));
        let names = |nodes: Vec<Node>| nodes.into_iter().filter_map(|node| node.metadata.name);
        Ok((names(with).collect(), names(without).collect()))
    }

    /// The certificates, and whether more than one authority is trusted.
    async fn certificates(&self) -> (Vec<Certificate>, bool) {
        let now = SystemTime::now();
        let of = |of, pem: &str| {
            let validity = validity(pem).ok()?;
            let Validity { not_after, .. } = validity;
            let since = not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
            let is_due = renewal_due(validity, now);
            Some(Certificate { of, not_after_unix_s: since.as_secs(), is_due })
        };
        // Not everybody who runs experiments may read it.
        let (Ok(installation), Ok(credentials)) = (self.installation(), self.credentials().await)
        else {
            return (Vec::new(), false);
        };
        let agents = identity::certificate(&self.connection, &installation, AGENT_SECRET).await;
        let authority = of("authority", &credentials.ca_pem);
        let controller = of("controller", &credentials.cert_pem);
        let agents = agents.and_then(|pem| of("agents", &pem));
        let all = authority.into_iter().chain(controller).chain(agents).collect();
        (all, trusts_two(&credentials.ca_pem))
    }
}

/// Whether a bundle has more than one certificate: while an authority is changed, the one before is trusted too.
fn trusts_two(bundle_pem: &str) -> bool {
    bundle_pem.matches("-----BEGIN CERTIFICATE-----").count() > 1
}

fn is_selected(node: &Node, selector: &BTreeMap<String, String>) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    selector.iter().all(|(label, value)| labels.get(label) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_well_where_nothing_is_wrong_and_all_is_known() {
        let well = || Checkup {
            server_version: "v1.33.0".into(),
            installation: "faultline".into(),
            nodes_for_agents: Vec::new(),
            nodes_left_out: Vec::new(),
            controller: "runs".into(),
            controller_runs: true,
            is_authority_changing: false,
            certificates: Vec::new(),
            missing_access: Vec::new(),
            unknown: Vec::new(),
        };
        assert!(well().is_well());
        assert!(!Checkup { controller_runs: false, ..well() }.is_well());
        assert!(!Checkup { is_authority_changing: true, ..well() }.is_well());
        assert!(!Checkup { unknown: vec!["which nodes there are".into()], ..well() }.is_well());
        let one = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
        assert!(!trusts_two(one) && trusts_two(&one.repeat(2)));
    }
}
