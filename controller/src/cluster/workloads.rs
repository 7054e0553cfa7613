//! One object of a cluster as it is now, by one watch of it: the addresses behind a Service, the replicas of a
//! workload, what an autoscaler wants. Nothing is asked anew for each look.

use std::collections::BTreeMap;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        autoscaling::v1::HorizontalPodAutoscaler,
        core::v1::Endpoints,
        discovery::v1::EndpointSlice,
    },
};
use kube::{Api, Resource, runtime::watcher};

use super::{
    connect::Connection,
    error::{Asked, ClusterError},
    watch::Watched,
};
use crate::experiment::{Figure, Object, ObjectKind};

/// The label by which slices say whose they are (`discovery.k8s.io`).
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The version in which slices are stable, since Kubernetes 1.21. Where it is not served, there are `Endpoints`.
const SLICES: &str = "discovery.k8s.io/v1";

/// An object under watch, until this is dropped.
#[derive(Debug)]
pub struct ObjectWatch {
    object: Object,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Slices(Watched<EndpointSlice>),
    Endpoints(Watched<Endpoints>),
    Deployment(Watched<Deployment>),
    StatefulSet(Watched<StatefulSet>),
    DaemonSet(Watched<DaemonSet>),
    Autoscaler(Watched<HorizontalPodAutoscaler>),
}

/// How an object is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectState {
    /// Its numbers.
    pub figures: BTreeMap<Figure, u32>,
    /// The status of each of its conditions.
    pub conditions: BTreeMap<String, String>,
}

impl ObjectWatch {
    /// Begins to watch it.
    ///
    /// # Errors
    /// When the cluster does not tell: it cannot be reached, or whoever asks may not.
    pub async fn start(connection: &Connection, object: &Object) -> Result<Self, ClusterError> {
        let kind = match object.kind {
            ObjectKind::Service if has_slices(connection).await? => {
                let of_service = format!("{SERVICE_NAME_LABEL}={}", object.name);
                let config = watcher::Config::default().labels(&of_service);
                let resource = "endpointslices.discovery.k8s.io";
                Kind::Slices(start(connection, object, config, resource).await?)
            }
            ObjectKind::Service => Kind::Endpoints(one(connection, object, "endpoints").await?),
            ObjectKind::Deployment => {
                Kind::Deployment(one(connection, object, "deployments.apps").await?)
            }
            ObjectKind::StatefulSet => {
                Kind::StatefulSet(one(connection, object, "statefulsets.apps").await?)
            }
            ObjectKind::DaemonSet => {
                Kind::DaemonSet(one(connection, object, "daemonsets.apps").await?)
            }
            ObjectKind::Autoscaler => {
                let resource = "horizontalpodautoscalers.autoscaling";
                Kind::Autoscaler(one(connection, object, resource).await?)
            }
        };
        Ok(Self { object: object.clone(), kind })
    }

    /// How it is now; `None` while there is no such object.
    ///
    /// # Errors
    /// Why nobody knows.
    pub fn now(&self) -> Result<Option<ObjectState>, String> {
        let trouble = match &self.kind {
            Kind::Slices(watched) => watched.trouble(),
            Kind::Endpoints(watched) => watched.trouble(),
            Kind::Deployment(watched) => watched.trouble(),
            Kind::StatefulSet(watched) => watched.trouble(),
            Kind::DaemonSet(watched) => watched.trouble(),
            Kind::Autoscaler(watched) => watched.trouble(),
        };
        if let Some(trouble) = trouble {
            return Err(format!("the cluster does not tell how {} is: {trouble}", self.object));
        }
        Ok(match &self.kind {
            Kind::Slices(watched) => slices(&watched.now()),
            Kind::Endpoints(watched) => watched.now().first().map(|one| endpoints(one)),
            Kind::Deployment(watched) => watched.now().first().map(|one| deployment(one)),
            Kind::StatefulSet(watched) => watched.now().first().map(|one| stateful_set(one)),
            Kind::DaemonSet(watched) => watched.now().first().map(|one| daemon_set(one)),
            Kind::Autoscaler(watched) => watched.now().first().map(|one| autoscaler(one)),
        })
    }
}

/// Whether the server tells of slices in the version that is understood here.
async fn has_slices(connection: &Connection) -> Result<bool, ClusterError> {
    let client = connection.client();
    let asked = Asked::new("get", format!("the API {SLICES}"));
    match connection.answer(asked, client.list_api_group_resources(SLICES)).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == "endpointslices")),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Watches the one object that is called so.
async fn one<K>(
    connection: &Connection,
    object: &Object,
    resource: &str,
) -> Result<Watched<K>, ClusterError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={}", object.name));
    start(connection, object, config, resource).await
}

async fn start<K>(
    connection: &Connection,
    object: &Object,
    config: watcher::Config,
    resource: &str,
) -> Result<Watched<K>, ClusterError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api = Api::namespaced(connection.client(), &object.namespace);
    let asked = Asked::new("list", resource).within(&object.namespace);
    Watched::start(connection, api, config, asked).await
}

/// The addresses of all slices: one that is in two of them, while a pod moves between them, counts once.
fn slices(slices: &[std::sync::Arc<EndpointSlice>]) -> Option<ObjectState> {
    let mut addresses: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    for slice in slices {
        for endpoint in &slice.endpoints {
            // Nothing said means ready (`EndpointConditions`).
            let conditions = endpoint.conditions.as_ref();
            let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            // All addresses of one endpoint are the same one.
            if let Some(first) = endpoint.addresses.first() {
                let family = slice.address_type.as_str();
                *addresses.entry((family, first)).or_default() |= ready;
            }
        }
    }
    // A pod has an address of each family: the family with more of them is counted.
    let families: std::collections::BTreeSet<&str> =
        addresses.keys().map(|(family, _)| *family).collect();
    let counts = families.into_iter().map(|family| {
        let of = addresses.iter().filter(|((f, _), _)| *f == family);
        (of.clone().filter(|(_, ready)| **ready).count(), of.count())
    });
    let (ready, all) = counts.max_by_key(|(_, all)| *all).unwrap_or((0, 0));
    let figures = [(Figure::Ready, count(ready)), (Figure::Replicas, count(all))];
    (!slices.is_empty()).then(|| ObjectState { figures: figures.into(), ..ObjectState::default() })
}

fn endpoints(endpoints: &Endpoints) -> ObjectState {
    let subsets = endpoints.subsets.iter().flatten();
    let (mut ready, mut not_ready) =
        (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for subset in subsets {
        ready.extend(subset.addresses.iter().flatten().map(|address| &address.ip));
        not_ready.extend(subset.not_ready_addresses.iter().flatten().map(|address| &address.ip));
    }
    let all = ready.union(&not_ready).count();
    let figures = [(Figure::Ready, count(ready.len())), (Figure::Replicas, count(all))];
    ObjectState { figures: figures.into(), ..ObjectState::default() }
}

fn deployment(deployment: &Deployment) -> ObjectState {
    let status = deployment.status.clone().unwrap_or_default();
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let conditions = status.conditions.iter().flatten();
    let conditions = conditions.map(|c| (c.type_.clone(), c.status.clone())).collect();
    // Zero is not written.
    let figures = [
        (Figure::Ready, number(status.ready_replicas)),
        (Figure::Replicas, number(status.replicas)),
        (Figure::Desired, number(desired.or(Some(1)))),
        (Figure::Updated, number(status.updated_replicas)),
    ];
    ObjectState { figures: figures.into(), conditions }
}

fn stateful_set(set: &StatefulSet) -> ObjectState {
    let status = set.status.clone().unwrap_or_default();
    let desired = set.spec.as_ref().and_then(|spec| spec.replicas);
    let conditions = status.conditions.iter().flatten();
    let conditions = conditions.map(|c| (c.type_.clone(), c.status.clone())).collect();
    let figures = [
        (Figure::Ready, number(status.ready_replicas)),
        (Figure::Replicas, number(Some(status.replicas))),
        (Figure::Desired, number(desired.or(Some(1)))),
        (Figure::Updated, number(status.updated_replicas)),
    ];
    ObjectState { figures: figures.into(), conditions }
}

fn daemon_set(set: &DaemonSet) -> ObjectState {
    let status = set.status.clone().unwrap_or_default();
    let conditions = status.conditions.iter().flatten();
    let conditions = conditions.map(|c| (c.type_.clone(), c.status.clone())).collect();
    let figures = [
        (Figure::Ready, number(Some(status.number_ready))),
        (Figure::Replicas, number(Some(status.current_number_scheduled))),
        (Figure::Desired, number(Some(status.desired_number_scheduled))),
        (Figure::Updated, number(status.updated_number_scheduled)),
    ];
    ObjectState { figures: figures.into(), conditions }
}

fn autoscaler(autoscaler: &HorizontalPodAutoscaler) -> ObjectState {
    let status = autoscaler.status.clone().unwrap_or_default();
    let figures = [
        (Figure::Replicas, number(Some(status.current_replicas))),
        (Figure::Desired, number(Some(status.desired_replicas))),
    ];
    ObjectState { figures: figures.into(), ..ObjectState::default() }
}

fn number(replicas: Option<i32>) -> u32 {
    replicas.and_then(|replicas| u32::try_from(replicas).ok()).unwrap_or(0)
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(json: &str) -> T {
        serde_json::from_str(json).expect("an object")
    }

    fn numbers(seen: &ObjectState) -> Vec<(&'static str, u32)> {
        seen.figures.iter().map(|(figure, number)| (figure.name(), *number)).collect()
    }

    #[test]
    fn an_address_of_a_service_counts_once_whatever_tells_of_it() {
        let slice = |name: &str, family: &str, endpoints: &str| -> Arc<EndpointSlice> {
            Arc::new(read(&format!(
                r#"{{"metadata": {{"name": "{name}"}}, "addressType": "{family}", "endpoints": [{endpoints}]}}"#
            )))
        };
        let all = [
            slice(
                "a",
                "IPv4",
                r#"{"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                   {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.3"]}"#,
            ),
            slice("b", "IPv4", r#"{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}"#),
            slice("c", "IPv6", r#"{"addresses": ["fd00::1"], "conditions": {"ready": true}}"#),
        ];
        let seen = slices(&all).expect("slices");
        assert_eq!(numbers(&seen), [("ready", 2), ("replicas", 3)]);
        assert_eq!(slices(&[]), None, "no slice: no Service");
        let null = Arc::new(read(
            r#"{"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": null}"#,
        ));
        assert_eq!(
            slices(&[null]).map(|seen| numbers(&seen)[0].1),
            Some(0),
            "as a server writes it"
        );
        let empty = slices(&[slice("a", "IPv4", "")]).expect("a Service without pods");
        assert_eq!(numbers(&empty), [("ready", 0), ("replicas", 0)]);
        let old = endpoints(&read(
            r#"{"subsets": [
                {"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 1}]},
                {"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 2}]}]}"#,
        ));
        assert_eq!(numbers(&old), [("ready", 1), ("replicas", 2)]);
    }

    #[test]
    fn what_a_workload_does_not_say_is_what_kubernetes_means_by_that() {
        let seen = deployment(&read(
            r#"{"spec": {"selector": {}, "template": {}},
                "status": {"conditions": [{"type": "Available", "status": "False"}]}}"#,
        ));
        let expected = [("ready", 0), ("replicas", 0), ("desired", 1), ("updated", 0)];
        assert_eq!(numbers(&seen), expected);
        assert_eq!(seen.conditions.get("Available").map(String::as_str), Some("False"));
        let seen = stateful_set(&read(
            r#"{"spec": {"replicas": 3, "selector": {}, "serviceName": "db", "template": {}},
                "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3}}"#,
        ));
        let expected = [("ready", 2), ("replicas", 3), ("desired", 3), ("updated", 3)];
        assert_eq!(numbers(&seen), expected);
        let seen = autoscaler(&read(
            r#"{"spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "api"}},
                "status": {"currentReplicas": 2, "desiredReplicas": 4}}"#,
        ));
        assert_eq!(numbers(&seen), [("replicas", 2), ("desired", 4)]);
    }
}
