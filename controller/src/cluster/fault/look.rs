//! What is seen of an object and of pods while a fault is on. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::{Object, ObjectKind, Planned, PodRef};
use crate::cluster::pod;

/// All pods of a cluster, as they are at one moment.
pub(super) type Pods = [Arc<v1::Pod>];

/// What there is after something was done.
#[derive(Debug)]
pub struct Look<'a> {
    /// What the fault is on.
    pub on: &'a Object,
    /// That object; `None` if it has gone.
    pub object: Option<&'a Value>,
    /// All pods.
    pub pods: &'a Pods,
    /// What was done.
    pub planned: &'a Planned,
    /// The generation of the object that this made; 0 where it has none.
    pub generation: i64,
    /// The fault's id.
    pub fault: &'a str,
}

/// What that comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// The effect is there: what was seen of it.
    Proven(String),
    /// Not yet: what is missing.
    Missing(String),
}

impl Look<'_> {
    /// A number in the object; 0 if it is not there, as Kubernetes leaves zeros out.
    pub fn number(&self, path: &str) -> i64 {
        self.object.and_then(|object| object.pointer(path)?.as_i64()).unwrap_or(0)
    }

    /// Whether whoever looks after the object has seen the change.
    pub fn is_observed(&self) -> bool {
        self.number("/status/observedGeneration") >= self.generation
    }

    /// The pods of the object.
    pub fn own_pods(&self) -> Vec<&v1::Pod> {
        of(self.on, self.pods).collect()
    }

    /// Those of some pods that are there.
    pub fn there<'p>(&self, pods: &'p [PodRef]) -> Vec<&'p PodRef> {
        let is_there = |pod: &&PodRef| {
            self.pods.iter().any(|other| other.metadata.uid.as_deref() == Some(&pod.uid))
        };
        pods.iter().filter(is_there).collect()
    }
}

/// The pods of an object: those that a workload made, those on a node, or the pod itself.
pub(super) fn of<'p>(on: &Object, pods: &'p Pods) -> impl Iterator<Item = &'p v1::Pod> + use<'p> {
    let on = on.clone();
    let owner = format!("{}/{}", on.kind.word(), on.name);
    let is_of = move |pod: &&v1::Pod| match on.kind {
        ObjectKind::Pod => pod.metadata.uid == on.uid,
        ObjectKind::Node => {
            pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&on.name)
        }
        _ => pod.metadata.namespace == on.namespace && pod::owner(pod).as_ref() == Some(&owner),
    };
    let works = |pod: &&v1::Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    };
    pods.iter().map(|pod| &**pod).filter(works).filter(is_of)
}

/// Pods by identity.
pub(super) fn refs<'p>(pods: impl IntoIterator<Item = &'p v1::Pod>) -> Vec<PodRef> {
    let known = |pod: &v1::Pod| {
        Some(PodRef {
            namespace: pod.metadata.namespace.clone()?,
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
        })
    };
    pods.into_iter().filter_map(known).collect()
}

/// Names of pods for a sentence: the first few.
pub(super) fn names(pods: &[&PodRef]) -> String {
    let names: Vec<&str> = pods.iter().take(3).map(|pod| pod.name.as_str()).collect();
    let more = if pods.len() > names.len() { ", …" } else { "" };
    names.join(", ") + more
}
