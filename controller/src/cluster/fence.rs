//! Which cluster this is, and which of its namespaces have said that faults may be on their pods.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::ListParams};

use super::{Asked, Cluster, ClusterError};
use crate::plan::ENABLED;

/// The namespace whose uid a cluster is known by: it is made with the cluster, and cannot be deleted.
const OLDEST_NAMESPACE: &str = "kube-system";

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
}
