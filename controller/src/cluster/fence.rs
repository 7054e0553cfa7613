//! Which cluster this is, and which of its namespaces have said that faults may be on their pods.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Namespace, Node},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::ListParams};

use super::{Asked, Cluster, ClusterError};
use crate::plan::{ENABLED, NodeSays};

/// The namespace whose uid a cluster is known by: it is made with the cluster, and cannot be deleted.
const OLDEST_NAMESPACE: &str = "kube-system";

/// The labels of a node that bears the control plane, today's and that of old clusters.
const CONTROL_PLANE: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

impl Cluster {
    /// What no other cluster has: the uid of its namespace `kube-system`.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn uid(&self) -> Result<String, ClusterError> {
        let api: Api<Namespace> = Api::all(self.connection.client());
        let asked = Asked::new("get", "namespaces").named(OLDEST_NAMESPACE);
        let namespace = self.connection.answer(asked, api.get_metadata(OLDEST_NAMESPACE)).await?;
        Ok(namespace.metadata.uid.unwrap_or_default())
    }

    /// The namespaces with a label or annotation that enables faults on all their pods.
    ///
    /// # Errors
    /// When they are not told.
    pub async fn enabled_namespaces(&self) -> Result<BTreeSet<String>, ClusterError> {
        let api: Api<Namespace> = Api::all(self.connection.client());
        let asked = Asked::new("list", "namespaces");
        let everyone = ListParams::default();
        let all = self.connection.answer(asked, api.list_metadata(&everyone)).await?;
        let enabled = all.items.into_iter().filter_map(|namespace| {
            let metadata = namespace.metadata;
            let maps = [metadata.labels, metadata.annotations];
            let mut values = maps.iter().flatten().filter_map(|map| map.get(ENABLED));
            let is_enabled = values.clone().all(|value| value == "true") && values.next().is_some();
            metadata.name.filter(|_| is_enabled)
        });
        Ok(enabled.collect())
    }

    /// What each node says of faults on it as such.
    ///
    /// # Errors
    /// When they are not told.
    pub async fn nodes_of_faults(&self) -> Result<BTreeMap<String, NodeSays>, ClusterError> {
        let api: Api<Node> = Api::all(self.connection.client());
        let asked = Asked::new("list", "nodes");
        let everyone = ListParams::default();
        let all = self.connection.answer(asked, api.list_metadata(&everyone)).await?;
        let nodes = all.items.into_iter();
        Ok(nodes
            .filter_map(|node| Some((node.metadata.name.clone()?, says(&node.metadata))))
            .collect())
    }
}

/// What a node's labels and annotations say. One that says both may not be hit.
fn says(metadata: &ObjectMeta) -> NodeSays {
    let maps = [&metadata.labels, &metadata.annotations];
    let mut values = maps.into_iter().flatten().filter_map(|map| map.get(ENABLED)).peekable();
    let enabled = values.peek().is_some().then(|| values.all(|value| value == "true"));
    let labels = metadata.labels.iter().flat_map(|labels| labels.keys());
    let is_control_plane = labels.into_iter().any(|label| CONTROL_PLANE.contains(&label.as_str()));
    NodeSays { enabled, is_control_plane }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_so_by_label_or_annotation() {
        let map = |name: &str, value: &str| Some([(name.to_owned(), value.to_owned())].into());
        let of = |labels, annotations| {
            says(&ObjectMeta { labels, annotations, ..ObjectMeta::default() })
        };
        assert_eq!(of(None, None), NodeSays::default());
        assert_eq!(of(map(ENABLED, "true"), None).enabled, Some(true));
        assert_eq!(of(None, map(ENABLED, "true")).enabled, Some(true));
        assert_eq!(of(map(ENABLED, "true"), map(ENABLED, "false")).enabled, Some(false));
        assert!(of(map(CONTROL_PLANE[0], ""), None).is_control_plane);
    }
}
