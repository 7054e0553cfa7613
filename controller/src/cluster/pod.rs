//! From a pod as Kubernetes tells of it to a pod as a place knows it. Pure.

use std::{collections::BTreeMap, time::Duration};

use faultline_proto::target::{Container, is_container_id};
use k8s_openapi::api::core::v1;

use crate::place::{Pod, PodState, Toleration};

/// The annotation by which the kubelet's uid of a static pod is known: the API server gives its mirror another one
/// (`kubernetes.io/config.mirror` in the kubelet's `kubetypes`).
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// The label by which a `ReplicaSet` tells its pods apart, and that its name ends with.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// Whether its work is over: nothing of it runs any more, or will.
pub(super) fn is_over(pod: &v1::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod and how it is; `None` for one that the API server tells less of than of every pod.
pub(super) fn state(pod: &v1::Pod, node_labels: &BTreeMap<String, String>) -> Option<PodState> {
    let spec = pod.spec.as_ref()?;
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.clone().unwrap_or_default();
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let uid = annotations.get(MIRROR_ANNOTATION).or(pod.metadata.uid.as_ref())?.clone();
    let conditions = status.conditions.iter().flatten();
    let ready = conditions.clone().any(|c| c.type_ == "Ready" && c.status == "True");
    let conditions =
        conditions.map(|condition| (condition.type_.clone(), condition.status.clone())).collect();
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let restarts = statuses.iter().map(|c| u32::try_from(c.restart_count).unwrap_or(0)).sum();
    let addresses = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let addresses: Vec<_> = match status.pod_ips.as_deref() {
        Some([_, ..]) => addresses.filter_map(|ip| ip.parse().ok()).collect(),
        _ => status.pod_ip.iter().filter_map(|ip| ip.parse().ok()).collect(),
    };
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    Some(PodState {
        pod: Pod {
            namespace: pod.metadata.namespace.clone()?,
            name: pod.metadata.name.clone()?,
            uid,
            node: spec.node_name.clone().unwrap_or_default(),
            owner: owner(pod),
            containers: containers(spec, statuses),
            labels,
            annotations,
            node_labels: node_labels.clone(),
            addresses,
            phase: Some(phase),
            ready: Some(ready),
            services: Vec::new(),
            grace: spec
                .termination_grace_period_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            tolerations: spec.tolerations.iter().flatten().map(toleration).collect(),
        },
        ready,
        restarts,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        conditions,
    })
}

/// The containers that run, in the order of the pod's spec.
fn containers(spec: &v1::PodSpec, statuses: &[v1::ContainerStatus]) -> Vec<Container> {
    let running = |container: &v1::Container| {
        let status = statuses.iter().find(|status| status.name == container.name)?;
        status.state.as_ref()?.running.as_ref()?;
        // `containerd://5f0…`, `cri-o://5f0…`.
        let id = status.container_id.as_ref()?;
        let id = id.rsplit_once("://").map_or(id.as_str(), |(_, id)| id);
        is_container_id(id).then(|| Container { name: container.name.clone(), id: id.to_owned() })
    };
    spec.containers.iter().filter_map(running).collect()
}

/// An empty key with the operator `Exists` is every key, and an empty effect every effect.
fn toleration(toleration: &v1::Toleration) -> Toleration {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let exists = toleration.operator.as_deref() == Some("Exists");
    Toleration {
        key: given(&toleration.key),
        value: (!exists).then(|| toleration.value.clone().unwrap_or_default()),
        effect: given(&toleration.effect),
        is_limited: toleration.toleration_seconds.is_some(),
    }
}

/// What made it, as `kubectl` writes it: `deployment/api`. Of a `ReplicaSet`'s pod that is the Deployment, whose name
/// the `ReplicaSet`'s is made of, with the hash of the template behind it.
pub(super) fn owner(pod: &v1::Pod) -> Option<String> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true))?;
    let labels = pod.metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(TEMPLATE_HASH_LABEL));
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    Some(match (owner.kind.as_str(), deployment) {
        ("ReplicaSet", Some(deployment)) => format!("deployment/{deployment}"),
        (kind, _) => format!("{}/{}", kind.to_lowercase(), owner.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> v1::Pod {
        serde_json::from_str(text).expect("a pod")
    }

    #[test]
    fn a_pod_is_read_as_agents_know_it() {
        let id = "5f".repeat(32);
        let state = state(
            &pod(&format!(
                r#"{{"metadata": {{"name": "api-6d4-x", "namespace": "shop", "uid": "u", "labels": {{"pod-template-hash": "6d4"}},
                "ownerReferences": [{{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-6d4", "uid": "r", "controller": true}}]}},
                "spec": {{"nodeName": "n1", "containers": [{{"name": "sidecar"}}, {{"name": "main"}}]}},
                "status": {{"phase": "Running", "podIP": "10.1.0.1", "podIPs": [{{"ip": "10.1.0.1"}}, {{"ip": "fd00::1"}}],
                "conditions": [{{"type": "Ready", "status": "True"}}],
                "containerStatuses": [
                  {{"name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 2, "containerID": "containerd://{id}", "state": {{"running": {{}}}}}},
                  {{"name": "sidecar", "image": "", "imageID": "", "ready": true, "restartCount": 1, "containerID": "containerd://{id}", "state": {{"waiting": {{}}}}}}]}}}}"#
            )),
            &BTreeMap::new(),
        )
        .expect("it works");
        assert_eq!(state.pod.owner.as_deref(), Some("deployment/api"));
        assert_eq!(state.pod.addresses.len(), 2);
        assert_eq!(state.pod.containers, [Container { name: "main".into(), id }]);
        assert_eq!((state.ready, state.restarts, state.terminating), (true, 3, false));
        assert_eq!(state.conditions, BTreeMap::from([("Ready".into(), "True".into())]));
    }

    #[test]
    fn a_static_pod_has_the_uid_that_its_kubelet_uses() {
        let state = state(
            &pod(r#"{"metadata": {"name": "etcd-n1", "namespace": "kube-system", "uid": "u",
                "annotations": {"kubernetes.io/config.mirror": "0123456789abcdef0123456789abcdef"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n", "controller": true}]},
                "spec": {"containers": []}}"#),
            &BTreeMap::new(),
        )
        .expect("it works");
        assert_eq!(state.pod.uid, "0123456789abcdef0123456789abcdef");
        assert_eq!(state.pod.owner.as_deref(), Some("node/n1"));
    }

    #[test]
    fn a_pod_may_be_over() {
        let over = r#"{"metadata": {"name": "job", "namespace": "shop", "uid": "u"},
            "spec": {"containers": []}, "status": {"phase": "Succeeded"}}"#;
        assert!(is_over(&pod(over)));
        assert!(!is_over(&pod(&over.replace("Succeeded", "Pending"))));
    }
}
