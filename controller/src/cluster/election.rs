//! Who leads, as a Lease or the Endpoints of an older election tell.

use k8s_openapi::api::{coordination::v1::Lease, core::v1};
use kube::Api;
use serde::Deserialize;

use super::{Asked, Cluster, ClusterError};

/// The annotation in which elections kept their record before there were Leases (client-go's `resourcelock`).
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// What is in that annotation, as far as it is of interest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaderElectionRecord {
    holder_identity: Option<String>,
}

impl Cluster {
    /// Who holds a Lease; `None`: nobody, or nobody any more.
    ///
    /// # Errors
    /// When there is no such Lease, or it is not told.
    pub async fn lease_holder(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<String>, ClusterError> {
        let api: Api<Lease> = Api::namespaced(self.connection.client(), namespace);
        let asked = Asked::new("get", "leases.coordination.k8s.io").within(namespace).named(name);
        let lease = self.connection.answer(asked, api.get(name)).await?;
        Ok(lease.spec.and_then(|spec| spec.holder_identity))
    }

    /// Who leads, as the annotation of Endpoints says.
    ///
    /// # Errors
    /// When there are no such Endpoints, or they are not told.
    pub async fn endpoints_leader(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<String>, ClusterError> {
        let api: Api<v1::Endpoints> = Api::namespaced(self.connection.client(), namespace);
        let asked = Asked::new("get", "endpoints").within(namespace).named(name);
        let endpoints = self.connection.answer(asked, api.get(name)).await?;
        let annotations = endpoints.metadata.annotations.unwrap_or_default();
        let record = annotations.get(LEADER_ANNOTATION);
        let record = record.and_then(|text| serde_json::from_str(text).ok());
        Ok(record.and_then(|record: LeaderElectionRecord| record.holder_identity))
    }
}
