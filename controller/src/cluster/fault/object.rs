//! The objects that faults through the API server are on, and how each is spoken of and asked for.

use std::fmt;

use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

use crate::{cluster::error::Asked, place::Pod};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A pod.
    Pod,
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
    /// A `DaemonSet`.
    DaemonSet,
    /// A `ReplicaSet` that no Deployment made.
    ReplicaSet,
    /// A node.
    Node,
}

/// The kinds of objects that may bear an undo record, and so are watched by `faultline controller`.
pub const CHANGED: [ObjectKind; 5] = [
    ObjectKind::Deployment,
    ObjectKind::StatefulSet,
    ObjectKind::DaemonSet,
    ObjectKind::ReplicaSet,
    ObjectKind::Node,
];

impl ObjectKind {
    /// As an owner is written, and as `kubectl` takes it: `statefulset`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::ReplicaSet => "replicaset",
            Self::Node => "node",
        }
    }

    /// Its API group, its kind and its plural.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Pod => ("", "Pod", "pods"),
            Self::Deployment => ("apps", "Deployment", "deployments"),
            Self::StatefulSet => ("apps", "StatefulSet", "statefulsets"),
            Self::DaemonSet => ("apps", "DaemonSet", "daemonsets"),
            Self::ReplicaSet => ("apps", "ReplicaSet", "replicasets"),
            Self::Node => ("", "Node", "nodes"),
        }
    }

    /// Its API group; empty for the core group.
    pub fn group(self) -> &'static str {
        self.names().0
    }

    /// Its name in access rules: `deployments`.
    pub fn resource(self) -> &'static str {
        self.names().2
    }

    /// Its name as `kubectl create role` takes it: `deployments.apps`.
    pub fn full_resource(self) -> String {
        match self.group() {
            "" => self.resource().to_owned(),
            group => format!("{}.{group}", self.resource()),
        }
    }

    /// How it is asked for.
    pub(in crate::cluster) fn api_resource(self) -> ApiResource {
        let (group, kind, plural) = self.names();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
    }
}

/// An object that a fault is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Where; `None` of a node.
    pub namespace: Option<String>,
    /// What it is called.
    pub name: String,
    /// Which one of that name, where that matters: of a pod.
    pub uid: Option<String>,
}

impl Object {
    /// A node.
    pub fn node(name: &str) -> Self {
        Self { kind: ObjectKind::Node, namespace: None, name: name.into(), uid: None }
    }

    /// The pod itself.
    pub fn pod(pod: &Pod) -> Self {
        Self {
            kind: ObjectKind::Pod,
            namespace: Some(pod.namespace.clone()),
            name: pod.name.clone(),
            uid: Some(pod.uid.clone()),
        }
    }

    /// What made a pod, if that is one of `kinds`.
    ///
    /// # Errors
    /// What it is instead, in a sentence.
    pub fn owner(pod: &Pod, kinds: &[ObjectKind]) -> Result<Self, String> {
        let of = format!("pod {}/{}", pod.namespace, pod.name);
        let Some(owner) = &pod.owner else {
            return Err(format!("{of} has no owner that would make another one"));
        };
        let known = owner.split_once('/');
        let found = known.and_then(|(word, name)| {
            Some((*kinds.iter().find(|kind| kind.word() == word)?, name.to_owned()))
        });
        let Some((kind, name)) = found else {
            let words: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
            return Err(format!("{of} is of {owner}, and only {} will do", words.join(" or ")));
        };
        Ok(Self { kind, namespace: Some(pod.namespace.clone()), name, uid: None })
    }

    /// The API for it.
    pub(in crate::cluster) fn api(&self, client: Client) -> Api<DynamicObject> {
        let resource = self.kind.api_resource();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }

    /// That it is asked for something, for messages.
    pub(in crate::cluster) fn asked(&self, verb: &'static str) -> Asked {
        self.asked_of(verb, None)
    }

    /// The same, of a part of it: `pods/eviction`.
    pub(in crate::cluster) fn asked_of(&self, verb: &'static str, part: Option<&str>) -> Asked {
        let resource = self.kind.full_resource();
        let resource = part.map_or(resource.clone(), |part| format!("{resource}/{part}"));
        let asked = Asked::new(verb, resource).named(&self.name);
        match &self.namespace {
            Some(namespace) => asked.within(namespace),
            None => asked,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, .. } = self;
        match (kind, namespace) {
            (ObjectKind::Pod, Some(namespace)) => write!(f, "{namespace}/{name}"),
            (_, Some(namespace)) => write!(f, "{namespace}/{}/{name}", kind.word()),
            (_, None) => write!(f, "{}/{name}", kind.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_by_their_words() {
        let pod = |owner: Option<&str>| Pod {
            namespace: "shop".into(),
            name: "api-1".into(),
            owner: owner.map(str::to_owned),
            ..Pod::default()
        };
        let kinds = [ObjectKind::Deployment, ObjectKind::StatefulSet];
        let found = Object::owner(&pod(Some("statefulset/db")), &kinds).expect("one of them");
        assert_eq!(found.to_string(), "shop/statefulset/db");
        let why = Object::owner(&pod(Some("job/once")), &kinds).expect_err("a job");
        assert_eq!(
            why,
            "pod shop/api-1 is of job/once, and only deployment or statefulset will do"
        );
        assert!(Object::owner(&pod(None), &kinds).expect_err("nobody").contains("no owner"));
    }
}
